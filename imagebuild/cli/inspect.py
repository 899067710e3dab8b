"""imagebuild inspect: what is in an artifact, and where its bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.options import absolute, images_option, json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cli.tables import Tables

SCHEMA_VERSION = 1


@click.command(epilog="Example: imagebuild inspect trove-guest-ubuntu-jammy-amd64 --why-big")
@click.argument("artifact", type=click.Path(path_type=Path), shell_complete=complete.artifact)
@click.option(
    "--why-big", is_flag=True, envvar="IMAGEBUILD_WHY_BIG", show_envvar=True,
    help="Show where the bytes of the root filesystem are.",
)  # fmt: skip
@click.option(
    "--packages", is_flag=True, envvar="IMAGEBUILD_SHOW_PACKAGES", show_envvar=True,
    help="List every package with its version.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), default=15, show_default=True, metavar="N",
    envvar="IMAGEBUILD_LIMIT", show_envvar=True, help="Rows of each list of --why-big.",
)  # fmt: skip
@images_option
@json_option
def inspect(
    artifact: Path, why_big: bool, packages: bool, limit: int, images_dir: Path, as_json: bool
) -> None:
    """Say what is in an artifact: images, agent, packages, units, and where all of it came
    from.

    ARTIFACT is its directory, its manifest.json, one of its images or a copy of one, or a
    name below IMAGES_DIR.
    """
    from imagebuild import inspection
    from imagebuild.cli.tables import Tables
    from imagebuild.manifest import open_artifact

    view = open_artifact(artifact, absolute(images_dir, "--images-dir"))
    document = inspection.why_big(view, limit) if why_big else inspection.describe(view)
    if as_json:
        terminal.json({"schema_version": SCHEMA_VERSION, **document})
        return
    tables = Tables(terminal.out)
    if why_big:
        _show_why_big(tables, document)
        return
    _show(tables, document, inspection.main_packages(document, view))
    if packages:
        for key, title in (("packages", "Packages"), ("python_packages", "Python packages")):
            rows = list(document[key].items())
            tables.table(f"{title} ({len(rows)})", ("name", "version"), rows)
        for container in document.get("containers", []):
            rows = [(p["name"], p["version"], p["kind"]) for p in container["packages"]]
            title = f"Packages in {container['target']} ({len(rows)})"
            tables.table(title, ("name", "version", "kind"), rows)


def _show(tables: Tables, document: Mapping[str, Any], main: Mapping[str, str]) -> None:
    from rich.text import Text

    from imagebuild.units import duration, size

    system, agent = document["os"], document["agent"]
    tables.line(Text(document["name"], "bold"))
    if document["dev"]:
        tables.line(Text("A dev image: not for production, never to be made public.", "yellow"))
    name = system.get("name") or f"{system['id']} {system['release']}"
    tables.pairs(
        [
            ("system", f"{name}, {system['arch']}"),
            ("profile", str(document["profile"])),
            ("build id", document["build_id"]),
            ("root digest", str(document["rootfs"].get("sha256", "not known"))),
            ("directory", document["directory"]),
            ("agent", _agent(agent)),
            ("guest user", str(document["guest_username"])),
            ("datasources", ", ".join(document["datasources"])),
            ("verified", _verified(document["verified"])),
        ]
    )
    for text in document["missing"]:
        tables.line(Text(f"not known: {text}", "yellow"))
    rows = [
        (i["format"], *("-" if i[k] is None else size(i[k]) for k in _IMAGE_SIZES), i["file"])
        for i in document["images"]
    ]
    sizes = ("file", "on disk", "virtual")
    tables.table("Images", ("format", *sizes, "name"), rows, sizes)
    rows = [(s["name"], s["id"][:12], _time(s, duration)) for s in document["stages"]]
    tables.table("Stages", ("stage", "id", "time"), rows, ("time",))
    _show_provenance(tables, document["provenance"])
    title = (
        f"Packages: {len(document['packages'])} of the distribution, "
        f"{len(document['python_packages'])} of Python"
    )
    tables.table(title, ("name", "version"), list(main.items()))
    _show_containers(tables, document.get("containers", []))
    if "directories" in document:
        total = document["rootfs"].get("bytes", 0)
        _show_directories(tables, document["directories"], total)
    if "units" in document:
        on = [u["name"] for u in document["units"] if not u["is_masked"]]
        masked = [u["name"] for u in document["units"] if u["is_masked"]]
        tables.heading(f"Enabled units ({len(on)})")
        tables.words(on)
        if masked:
            tables.heading(f"Masked units ({len(masked)})")
            tables.words(masked)
    if "users" in document:
        people = [f"{u['name']} ({u['uid']})" for u in document["users"] if _is_person(u)]
        tables.heading(f"Users with a shell ({len(people)} of {len(document['users'])})")
        tables.words(people)
    tables.heading(f"Elements ({len(document['elements'])})")
    tables.words(sorted(document["elements"]))
    tables.heading("Tools of the build")
    tables.words([f"{n} {v}" for n, v in document["tools"].items()])


_IMAGE_SIZES = ("size", "allocated", "virtual_size")


def _verified(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no"
    return f"{found['verdict']}, proven: {found['proven'] or 'nothing'}, {found['started']}"


def _agent(agent: Mapping[str, Any]) -> str:
    parts = [f"trove {agent.get('version')} ({agent.get('series')})"]
    parts.append(f"Python {agent.get('python')}")
    parts.append(f"from {agent.get('requested')}")
    if agent.get("commit"):
        dirty = ", with changes that are in no commit" if agent.get("dirty") else ""
        parts.append(f"commit {agent['commit'][:12]}{dirty}")
    parts.append(f"mode {agent.get('mode')}")
    return ", ".join(parts)


def _time(stage: Mapping[str, Any], duration: Any) -> str:  # noqa: ANN401 - a function
    if stage["reused"]:
        return "already built"
    return "-" if stage["seconds"] is None else str(duration(stage["seconds"]))


def _is_person(user: Mapping[str, Any]) -> bool:
    shell = str(user["shell"]).rpartition("/")[2]
    return shell not in ("nologin", "false", "sync", "")


def _show_containers(tables: Tables, containers: Sequence[Mapping[str, Any]]) -> None:
    if not containers:
        return
    rows = [
        (
            c["target"],
            c["config"].removeprefix("sha256:")[:12],
            c["os"].get("PRETTY_NAME", "-"),
            str(len(c["packages"])),
            c["source"],
        )
        for c in containers
    ]
    tables.table(
        f"Containers ({len(rows)})", ("name", "image id", "system", "packages", "from"), rows,
        ("packages",),
    )  # fmt: skip
    for container in containers:
        for text in container["unread"]:
            tables.line(f"{container['target']}: not readable: {text}")


def _show_provenance(tables: Tables, provenance: Mapping[str, Any]) -> None:
    rows = [
        (f"{a['name']}/{suite}", digest[:12], a["url"])
        for a in provenance["archives"]
        for suite, digest in a["suites"].items()
    ]
    title = "Package archives, by the digest of their Release files"
    if provenance["snapshot"]:
        title += f" (snapshot {provenance['snapshot']})"
    tables.table(title, ("suite", "digest", "from"), rows)


def _show_directories(tables: Tables, rows: Sequence[Mapping[str, Any]], total: int) -> None:
    from imagebuild.cli.tables import bar
    from imagebuild.units import size

    cells, above = [], [""]
    for row in rows:
        depth, path = row["depth"], row["path"]
        above[depth + 1 :] = [f"{path}/"]
        name = path.removeprefix(above[depth])
        part = row["bytes"] / total if total else 0
        cells.append((size(row["bytes"]), bar(part), "  " * depth + name))
    title = f"Root filesystem: {size(total)} in files"
    tables.table(title, ("size", "", "directory"), cells, ("size",))


def _show_why_big(tables: Tables, document: Mapping[str, Any]) -> None:
    from rich.text import Text

    from imagebuild.units import size

    tables.line(Text(document["name"], "bold"))
    _show_directories(tables, document["directories"], document["bytes"])
    names = [p["name"] for p in document["packages"]]
    rows: list[tuple[str, ...]] = [
        (
            size(p["bytes"]),
            size(p["installed_size"]),
            str(p["files"]),
            p["name"] + (f":{p['arch']}" if names.count(p["name"]) > 1 else ""),
            p["version"],
        )
        for p in document["packages"]
    ]
    numbers = ("size", "declared", "files")
    title = f"Packages: {size(document['packages_bytes'])}, the largest ones"
    tables.table(title, (*numbers, "package", "version"), rows, numbers)
    if document["python_packages"]:
        rows = [
            (size(p["bytes"]), str(p["files"]), p["name"], p["version"])
            for p in document["python_packages"]
        ]
        title = f"Python packages of the agent: {size(document['python_packages_bytes'])}"
        tables.table(title, ("size", "files", "package", "version"), rows, numbers)
    rest = document["unowned"]
    rows = [(size(f["bytes"]), f["path"]) for f in rest["largest"]]
    title = f"In no package: {size(rest['bytes'])} in {rest['files']} files"
    tables.table(title, ("size", "file"), rows, ("size",))
    rows = [(size(f["bytes"]), f["package"] or "-", f["path"]) for f in document["largest_files"]]
    tables.table("The largest files", ("size", "package", "file"), rows, ("size",))
