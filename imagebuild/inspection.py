"""What an artifact is and where its bytes are, as plain values: the documents of `inspect`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from imagebuild import components, inventory, manifest, sizes
from imagebuild.inventory import Entry
from imagebuild.manifest import ArtifactView

#: Directories of less than this part of all bytes are not named: in short, and in detail.
_SHARE_SHORT = 0.05
_SHARE = 0.01


def describe(view: ArtifactView) -> dict[str, Any]:
    """What an artifact is. `missing` says what it lacks, and with it what cannot be told.

    Raises ConfigError when a file that is there is damaged.
    """
    content = view.content
    document: dict[str, Any] = {
        "name": view.name,
        "build_id": view.build_id,
        "directory": str(view.directory),
        "dev": view.is_dev,
        "os": {
            "id": content.get("os"),
            "release": content.get("release"),
            "arch": content.get("arch"),
        },
        "profile": content.get("profile"),
        "guest_username": content.get("guest_username"),
        "datasources": content.get("datasources", []),
        "agent": dict(content.get("agent", {})) | {"mode": content.get("mode")},
        "images": [
            {
                "file": i.path.name,
                "format": i.format,
                "size": i.size,
                "allocated": i.allocated,
                "virtual_size": i.virtual_size,
                "sha256": i.sha256,
            }
            for i in view.images
        ],
        "stages": _stages(view),
        "provenance": _provenance(view),
        "tools": view.manifest["tools"],
        "elements": content.get("elements", {}),
        "packages": content.get("packages", {}),
        "python_packages": content.get("python_packages", {}),
        "rootfs": view.manifest.get("rootfs", {}),
        "verified": _verified(view),
        "missing": [],
    }
    _add_files(view, document)
    return document


def why_big(view: ArtifactView, limit: int) -> dict[str, Any]:
    """Where the bytes of the root filesystem are; lists of not more than `limit` entries.

    Raises ConfigError when the artifact does not know its files.
    """
    entries, made_of = view.inventory, view.components
    below = sizes.directories(entries)
    total = below.get("/", 0)
    packages = sizes.packages(entries, made_of)
    rest = sizes.unowned(entries, made_of, limit)
    largest = sizes.largest(entries, limit)
    owners = _owners(view, largest)
    by_kind = {k: [p for p in packages if p.kind == k] for k in ("deb", "python")}
    return {
        "name": view.name,
        "bytes": total,
        "files": sum(1 for _ in sizes.content(entries)),
        "directories": [
            sizes.to_json(d) for d in sizes.tree(below, max(1, int(total * _SHARE)), depth=6)
        ],
        "packages": [sizes.to_json(p) for p in by_kind["deb"][:limit]],
        "packages_bytes": sum(p.bytes for p in by_kind["deb"]),
        "python_packages": [sizes.to_json(p) for p in by_kind["python"][:limit]],
        "python_packages_bytes": sum(p.bytes for p in by_kind["python"]),
        "unowned": {
            "bytes": rest.bytes,
            "files": rest.files,
            "largest": [_file(e) for e in rest.largest],
        },
        "largest_files": [_file(e) | {"package": owners.get(e.path)} for e in largest],
    }


def main_packages(document: Mapping[str, Any], view: ArtifactView) -> dict[str, str]:
    """The packages that people ask for first: kernel, cloud-init, docker, and the profile's own."""
    profile = view.manifest["profile"]
    asked = [
        "cloud-init",
        *profile.get("docker", {}).get("packages", []),
        *profile.get("packages", []),
    ]
    packages: dict[str, str] = document["packages"]
    kernels = [n for n in packages if re.match(r"linux-image-\d", n)]
    return {n: packages[n] for n in dict.fromkeys([*kernels, *asked]) if n in packages}


def _verified(view: ArtifactView) -> dict[str, Any] | None:
    found = view.verification
    if found is None:
        return None
    return {k: found.get(k) for k in ("verdict", "asked", "proven", "started")}


def _add_files(view: ArtifactView, document: dict[str, Any]) -> None:
    """What inventory and components say."""
    if view.has(inventory.FILE_NAME):
        entries = view.inventory
        below = sizes.directories(entries)
        smallest = max(1, int(below.get("/", 0) * _SHARE_SHORT))
        document["units"] = [dataclasses.asdict(u) for u in manifest.units(entries)]
        document["directories"] = [sizes.to_json(d) for d in sizes.tree(below, smallest, depth=2)]
    else:
        document["missing"].append(f"units and directories: there is no {inventory.FILE_NAME}")
    if view.has(components.FILE_NAME):
        document["os"]["name"] = view.components.os.get("PRETTY_NAME")
        document["users"] = [dataclasses.asdict(u) for u in view.components.users]
        document["containers"] = [c.to_json() for c in view.components.containers]
    else:
        what = "users and containers"
        document["missing"].append(f"{what}: there is no {components.FILE_NAME}")


def _stages(view: ArtifactView) -> list[dict[str, Any]]:
    timed: dict[str, Mapping[str, Any]] = {}
    if view.has("timing.json"):
        timed = {s["stage"]: s for s in view.timing.get("stages", [])}
    return [
        {
            "name": s["name"],
            "id": s["id"],
            "seconds": timed.get(s["name"], {}).get("seconds"),
            "reused": timed.get(s["name"], {}).get("reused"),
        }
        for s in view.manifest["stages"]
    ]


def _provenance(view: ArtifactView) -> dict[str, Any]:
    archives = view.stage("base").get("inputs", {}).get("archives", [])
    return {
        "snapshot": view.manifest["profile"].get("mirror", {}).get("snapshot"),
        "archives": [
            {
                "name": a["name"],
                "url": a["url"],
                "snapshot": a.get("snapshot", False),
                "suites": a["suites"],
            }
            for a in archives
        ],
    }


def _file(entry: Entry) -> dict[str, Any]:
    return {"path": entry.path, "bytes": entry.size}


def _owners(view: ArtifactView, files: Iterable[Entry]) -> dict[str, str]:
    """`{path: package}` of those of the files that belong to one."""
    wanted = {f.path for f in files}
    found = {}
    for number, entry in enumerate(view.inventory):
        if entry.path in wanted and (owner := view.components.owner(number)):
            found[entry.path] = owner.name
    return found
