"""Two artifacts side by side: what is different, and how much of it.

A comparison says nothing of how long the builds took, nor of names and build ids: two builds
that are reproducible have no difference.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild import artifact, components, debian, inventory, manifest, sizes
from imagebuild.inventory import Entry
from imagebuild.manifest import ArtifactView

_Order = Callable[[str, str], int]
#: A directory is named when its change is at least this part of all.
_WORTH_NAMING = 0.01


class Kind(str, enum.Enum):
    """What happened to a named thing on the way from the first artifact to the second."""

    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    CHANGED = "changed"


@dataclass(frozen=True)
class Change:
    """A named thing before and after; None where it is not there."""

    name: str
    kind: Kind
    before: str | None
    after: str | None


@dataclass(frozen=True)
class FileChange:
    """A file of the root filesystem that differs, and in what.

    `differs` holds `added`, `removed`, or some of `kind`, `content`, `mode`, `owner`, `time`,
    `attributes`, `links` (a hard link or none). Sizes in bytes.
    """

    path: str
    differs: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True)
class SizeChange:
    """Bytes of a directory or an image, before and after; None where it is not there."""

    name: str
    before: int | None
    after: int | None
    same_content: bool = False

    @property
    def delta(self) -> int:
        """Bytes more."""
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Comparison:
    """Everything that differs.

    `same_rootfs` is None where one of the two does not know its root filesystem's digest.
    `skipped` says what could not be compared, and why. `directories` are for people: what
    differs there counts elsewhere.
    """

    before: ArtifactView
    after: ArtifactView
    same_rootfs: bool | None
    sections: Mapping[str, tuple[Change, ...]]
    images: tuple[SizeChange, ...]
    files: tuple[FileChange, ...]
    directories: tuple[SizeChange, ...]
    skipped: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many differ, by section; `files` and `images` are two of them."""
        counts = {name: len(changes) for name, changes in self.sections.items()}
        counts["images"] = sum(1 for i in self.images if not i.same_content)
        return counts | {"files": len(self.files)}

    @property
    def file_counts(self) -> dict[str, int]:
        """How many files differ, by what differs; one file may count several times."""
        return dict(sorted(Counter(d for f in self.files for d in f.differs).items()))

    @property
    def differences(self) -> int:
        """All that differs, in one number; 0 for two builds that are the same."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values: the document of `diff --json`."""
        return {
            "before": _side(self.before),
            "after": _side(self.after),
            "same_rootfs": self.same_rootfs,
            "differences": self.differences,
            "counts": self.counts,
            "file_counts": self.file_counts,
            **{
                name: [dataclasses.asdict(c) | {"kind": c.kind.value} for c in changes]
                for name, changes in self.sections.items()
            },
            "images": [dataclasses.asdict(i) for i in self.images],
            "directories": [
                {"name": d.name, "before": d.before, "after": d.after} for d in self.directories
            ],
            "files": [dataclasses.asdict(f) for f in self.files],
            "skipped": list(self.skipped),
        }


def compare(a: ArtifactView, b: ArtifactView) -> Comparison:
    """What differs between two artifacts; what one of them lacks is left out and said so.

    Raises ConfigError when a file that is there is damaged.
    """
    skipped: list[str] = []

    def both(name: str, what: str) -> bool:
        lacking = [v.name for v in (a, b) if not v.has(name)]
        if lacking:
            skipped.append(f"{what}: no {name} in {' and '.join(dict.fromkeys(lacking))}")
        return not lacking

    sections = _of_manifests(a, b)
    files: tuple[FileChange, ...] = ()
    directories: tuple[SizeChange, ...] = ()
    if both(inventory.FILE_NAME, "files, units and directories"):
        sections["units"] = _changes(_units(a), _units(b))
        files = _files(a.inventory, b.inventory)
        if files:
            directories = _directories(a.inventory, b.inventory, files)
    if both(components.FILE_NAME, "users and containers"):
        sections["users"] = _changes(_users(a), _users(b))
        sections["containers"] = _changes(_containers(a), _containers(b))
        sections["container_packages"] = _container_packages(a, b)
    # Of different builds nearly each of them differs, if only by the name in it.
    sections["descriptions"] = ()
    if a.build_id == b.build_id and both(manifest.SUMS, "descriptions"):
        sections["descriptions"] = _changes(_sums(a), _sums(b))
    same = None if a.rootfs is None or b.rootfs is None else a.rootfs == b.rootfs
    return Comparison(a, b, same, sections, _images(a, b), files, directories, tuple(skipped))


def _side(view: ArtifactView) -> dict[str, Any]:
    return {
        "name": view.name,
        "build_id": view.build_id,
        "directory": str(view.directory),
        "rootfs": view.rootfs,
    }


def _of_manifests(a: ArtifactView, b: ArtifactView) -> dict[str, tuple[Change, ...]]:
    def contents(name: str, order: _Order | None = None) -> tuple[Change, ...]:
        return _changes(a.content.get(name, {}), b.content.get(name, {}), order)

    return {
        "packages": contents("packages", debian.compare_versions),
        "python_packages": contents("python_packages", _compare_python),
        "agent": _changes(_agent(a), _agent(b)),
        "elements": contents("elements"),
        "datasources": _changes(_datasources(a), _datasources(b)),
        "profile": _changes(_flat(a.manifest["profile"]), _flat(b.manifest["profile"])),
        "archives": _changes(_archives(a), _archives(b)),
        "tools": _changes(a.manifest["tools"], b.manifest["tools"]),
    }


def _changes(
    before: Mapping[str, str],
    after: Mapping[str, str],
    order: _Order | None = None,
) -> tuple[Change, ...]:
    """What differs between two mappings, sorted by name; `order` compares two versions."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None or new is None:
            kind = Kind.ADDED if old is None else Kind.REMOVED
        elif order is None:
            kind = Kind.CHANGED
        else:
            way = order(old, new)
            kind = Kind.UPGRADED if way < 0 else Kind.DOWNGRADED if way > 0 else Kind.CHANGED
        found.append(Change(name, kind, old, new))
    return tuple(found)


def _compare_python(a: str, b: str) -> int:
    from packaging.version import InvalidVersion, Version

    try:
        one, other = Version(a), Version(b)
    except InvalidVersion:
        return 0
    return (one > other) - (one < other)


def _agent(view: ArtifactView) -> dict[str, str]:
    agent = {**view.content.get("agent", {}), "mode": view.content.get("mode")}
    names = (
        "kind", "requested", "url", "version", "commit", "dirty", "series", "python", "sha256",
        "wheel_sha256", "lock_sha256", "mode",
    )  # fmt: skip
    return {n: _text(agent[n]) for n in names if agent.get(n) is not None}


def _datasources(view: ArtifactView) -> dict[str, str]:
    return {"list": ", ".join(view.content.get("datasources", []))}


def _archives(view: ArtifactView) -> dict[str, str]:
    """`{archive/suite: digest of its Release file}`."""
    return {
        f"{a['name']}/{suite}": digest
        for a in view.stage("base").get("inputs", {}).get("archives", [])
        for suite, digest in a["suites"].items()
    }


def _units(view: ArtifactView) -> dict[str, str]:
    return {
        u.name: "masked" if u.is_masked else ", ".join(u.targets)
        for u in manifest.units(view.inventory)
    }


def _sums(view: ArtifactView) -> dict[str, str]:
    return {n: view.sums[n] for n in artifact.DESCRIPTIONS if n in view.sums}


def _users(view: ArtifactView) -> dict[str, str]:
    return {u.name: f"uid {u.uid}, gid {u.gid}, {u.home}, {u.shell}" for u in view.components.users}


def _containers(view: ArtifactView) -> dict[str, str]:
    """`{name in the guest: digest of the configuration}`, which is what docker knows it by."""
    return {c.target: c.config for c in view.components.containers}


def _container_packages(a: ArtifactView, b: ArtifactView) -> tuple[Change, ...]:
    """Packages of the containers that both have; of one that came or went, the name is enough."""
    common = _containers(a).keys() & _containers(b).keys()

    def versions(view: ArtifactView, kind: str) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for container in view.components.containers:
            if container.target in common:
                for package in container.packages:
                    if package.kind == kind:
                        name = f"{container.target} {package.name}"
                        found.setdefault(name, []).append(package.version)
        return {name: ", ".join(sorted(set(all_))) for name, all_ in found.items()}

    orders = {"deb": debian.compare_versions, "pypi": _compare_python, "apk": None, "rpm": None}
    return tuple(
        change
        for kind, order in orders.items()
        for change in _changes(versions(a, kind), versions(b, kind), order)
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{dotted key: value}` of a profile."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _text(value)
    return flat


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _images(a: ArtifactView, b: ArtifactView) -> tuple[SizeChange, ...]:
    before, after = ({i.format: i for i in v.images} for v in (a, b))
    return tuple(
        SizeChange(
            name,
            before[name].size if name in before else None,
            after[name].size if name in after else None,
            name in before and name in after and before[name].sha256 == after[name].sha256,
        )
        for name in sorted({*before, *after})
    )


def _files(before: list[Entry], after: list[Entry]) -> tuple[FileChange, ...]:
    old, new = {e.path: e for e in before}, {e.path: e for e in after}
    found = [FileChange(p, ("removed",), old[p].size, 0) for p in old.keys() - new.keys()]
    found += [FileChange(p, ("added",), 0, new[p].size) for p in new.keys() - old.keys()]
    for path, entry in old.items():
        other = new.get(path)
        if other is not None and other != entry:
            found.append(FileChange(path, _differs(entry, other), entry.size, other.size))
    return tuple(sorted(found, key=lambda f: f.path))


def _differs(a: Entry, b: Entry) -> tuple[str, ...]:
    pairs = {
        "kind": (a.kind, b.kind),
        "content": (a.data, b.data),
        "mode": (a.mode, b.mode),
        "owner": ((a.uid, a.gid), (b.uid, b.gid)),
        "time": (a.mtime, b.mtime),
        "attributes": (a.xattrs, b.xattrs),
        "links": (a.same_as, b.same_as),
    }
    return tuple(name for name, (old, new) in pairs.items() if old != new)


def _directories(
    before: list[Entry], after: list[Entry], files: Sequence[FileChange]
) -> tuple[SizeChange, ...]:
    """The directories that changed in size where most has moved, the largest change first.

    What grew must not hide what shrank beside it: which ones are named is decided by what
    moved in either direction.
    """
    paths = {f.path for f in files}
    taken = [{e.path: e.size for e in sizes.content(x) if e.path in paths} for x in (before, after)]
    moved = sizes.directories(
        Entry(p, "file", 0, 0, 0, abs(taken[1].get(p, 0) - taken[0].get(p, 0)), 0) for p in paths
    )
    smallest = max(1, int(moved.get("/", 0) * _WORTH_NAMING))
    old, new = sizes.directories(before), sizes.directories(after)
    named = ["/", *(row.path for row in sizes.tree(moved, smallest, depth=3))]
    found = [SizeChange(path, old.get(path), new.get(path)) for path in named]
    return tuple(sorted((s for s in found if s.delta), key=lambda s: (-abs(s.delta), s.name)))
