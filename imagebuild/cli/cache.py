"""imagebuild cache: what stages made, kept for the next build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli.options import (
    cache_option,
    json_option,
    store_option,
    store_size,
    store_size_option,
)
from imagebuild.cli.terminal import one_line, terminal

if TYPE_CHECKING:
    from imagebuild.events import Event
    from imagebuild.store.store import Call, Object, Store

SCHEMA_VERSION = 1


@click.group()
def cache() -> None:
    """List, prune and check the store: what stages made, kept for the next build.

    It is only a cache: whatever is removed is made again when it is wanted.
    """


@cache.command("list")
@store_option
@store_size_option
@cache_option
@json_option
def list_(store: Path | None, store_size: int | None, cache_dir: Path, as_json: bool) -> None:
    """List the objects of the store, the one used last first."""
    from imagebuild.store.store import open_stores

    stores = open_stores(cache_dir, store, store_size).all
    if as_json:
        rows = [
            {
                "path": str(s.root),
                "shared": s.is_shared,
                "limit": s.limit,
                "size": sum(o.size for o in s.objects()),
                "objects": [_to_json(s, o) for o in reversed(s.objects())],
            }
            for s in stores
        ]
        terminal.json({"schema_version": SCHEMA_VERSION, "stores": rows})
        return
    for one in stores:
        _show(one)


def _to_json(store: Store, one: Object) -> dict[str, Any]:
    return {
        "kind": str(one.key.kind),
        "id": one.key.id,
        "image": one.image,
        "path": str(one.path),
        "size": one.size,
        "created": round(one.created),
        "used": round(one.used),
        "in_use": store.is_held(one.key),
    }


def _show(store: Store) -> None:
    from imagebuild.cli.tables import Tables
    from imagebuild.units import size

    found = store.objects()
    limit = "no limit" if store.limit is None else f"limit {size(store.limit)}"
    title = f"{store.root}{' (shared)' if store.is_shared else ''}: "
    title += f"{size(sum(o.size for o in found))} in {_count(found, 'object')}, {limit}"
    rows = [
        (
            str(o.key.kind),
            o.key.id[:12],
            o.image,
            size(o.size),
            _time(o.created),
            _time(o.used),
            "yes" if store.is_held(o.key) else "",
        )
        for o in reversed(found)
    ]
    columns = ("kind", "id", "image", "size", "made", "last used", "in use")
    Tables(terminal.out).table(title, columns, rows, ("size",))


def _time(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _count(items: object, word: str) -> str:
    number = len(items)  # type: ignore[arg-type]
    return f"{number} {word}" + ("" if number == 1 else "s")


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:  # noqa: ARG001
    from imagebuild.config.values import parse_age

    try:
        return None if value is None else parse_age(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param=parameter) from exc


@cache.command()
@click.option(
    "--size", metavar="SIZE", default="40G", show_default=True, callback=store_size,
    envvar="IMAGEBUILD_STORE_SIZE", show_envvar=True,
    help="Leave so much, of what was used last; none is no limit.",
)  # fmt: skip
@click.option(
    "--older-than", metavar="AGE", callback=_age,
    envvar="IMAGEBUILD_OLDER_THAN", show_envvar=True,
    help="Also remove what was not used for so long: 14d, 12h.",
)  # fmt: skip
@click.option(
    "--all", "everything", is_flag=True, envvar="IMAGEBUILD_ALL", show_envvar=True,
    help="Remove everything that no build is using.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what would be removed, change nothing.",
)  # fmt: skip
@store_option
@cache_option
@json_option
def prune(
    size: int | None,
    older_than: int | None,
    everything: bool,
    dry_run: bool,
    store: Path | None,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Remove what was unused longest, until the rest is small enough, and what killed builds
    left. A build does that at its end, too.
    """
    from imagebuild import units
    from imagebuild.store.pruning import prune as prune_store
    from imagebuild.store.store import open_stores

    objects: list[Object] = []
    leftovers: list[Path] = []
    limit = 0 if everything else size
    with _Root() as root:
        for one in open_stores(cache_dir, store, limit).all:
            call = None if dry_run else root.call
            pruned = prune_store(one, call, limit=limit, older_than=older_than)
            objects += pruned.objects
            leftovers += pruned.leftovers
    if as_json:
        rows = [
            {"kind": str(o.key.kind), "id": o.key.id, "path": str(o.path), "size": o.size}
            for o in objects
        ]
        document = {"schema_version": SCHEMA_VERSION, "dry_run": dry_run, "removed": rows}
        terminal.json(document | {"leftovers": [str(p) for p in leftovers]})
        return
    verb = "would remove" if dry_run else "removed"
    for gone in objects:
        terminal.info(f"{verb} {gone.path} ({units.size(gone.size)}, {one_line(gone.image)})")
    for path in leftovers:
        terminal.info(f"{verb} {path}")
    if not objects and not leftovers:
        terminal.info("nothing to remove")


@cache.command()
@click.option(
    "--remove", is_flag=True, envvar="IMAGEBUILD_REMOVE", show_envvar=True,
    help="Remove what is damaged.",
)  # fmt: skip
@store_option
@cache_option
@json_option
def verify(remove: bool, store: Path | None, cache_dir: Path, as_json: bool) -> int:
    """Read every object of the store and compare it with its digests.

    Ends with 5 when one is damaged. A build checks what it uses, too, and makes anew what is
    damaged.
    """
    from imagebuild.errors import ExitCode
    from imagebuild.store.checking import verify as verify_store
    from imagebuild.store.store import open_stores

    rows: list[dict[str, Any]] = []
    with _Root() as root:
        for one in open_stores(cache_dir, store).all:
            for result in verify_store(one, root.call, remove=remove):
                rows.append(result.to_json())
                if not as_json:
                    _show_result(rows[-1])
    damaged = [r for r in rows if r["damage"]]
    if as_json:
        terminal.json({"schema_version": SCHEMA_VERSION, "objects": rows})
    else:
        terminal.info(f"{_count(rows, 'object')}, {len(damaged)} damaged")
    return int(ExitCode.VERIFY if damaged else ExitCode.OK)


def _show_result(row: dict[str, Any]) -> None:
    state = "DAMAGED" if row["damage"] else "in use, not checked" if row["skipped"] else "whole"
    terminal.data(f"{one_line(row['path'])}: {state}{', removed' if row['removed'] else ''}")
    for line in row["damage"][:20]:
        terminal.data(f"  {one_line(line)}")
    if len(row["damage"]) > 20:
        terminal.data(f"  and {len(row['damage']) - 20} more")


class _Root:
    """The privileged worker, started when the first task comes."""

    def __init__(self) -> None:
        from contextlib import ExitStack

        self._stack = ExitStack()
        self._call: Call | None = None

    def __enter__(self) -> _Root:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        from imagebuild.host.worker import Worker

        if self._call is None:
            self._call = self._stack.enter_context(Worker(_ignore)).call
        return self._call(task, **arguments)


def _ignore(event: Event) -> None:
    """These tasks have no progress to show."""
