"""imagebuild mirror export MIRROR -o PLACE: the images of a list, to be carried elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.mirror.options import (
    client_of,
    items_of,
    jobs_option,
    list_argument,
    load,
    lock_option,
    lock_place,
    locked_option,
    only_option,
    read_locks,
    target_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.mirror.export import Exported
    from imagebuild.mirror.loading import LoadedList
    from imagebuild.mirror.planning import MirrorPlan

_SCHEMA_VERSION = 1


@click.command(
    epilog="Example: imagebuild mirror export trove -o /media/usb/trove.tar; at the other site: "
    "imagebuild mirror import /media/usb/trove.tar --target registry.example.org:5000/trove"
)
@list_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR|FILE.tar",
    envvar="IMAGEBUILD_MIRROR_OUTPUT", show_envvar=True, shell_complete=complete.place("file"),
    help="A directory, which a further export brings up to date; or a tar file, made anew.",
)  # fmt: skip
@target_option
@only_option
@locked_option
@lock_option
@jobs_option
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what would be fetched, write nothing.",
)  # fmt: skip
@json_option
@click.pass_context
def export(
    context: click.Context,
    /,
    mirror_list: str,
    output: Path,
    target: str | None,
    only: tuple[str, ...],
    locked: bool,
    lock: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the images of a list to a directory or tar file, for a site without network.

    It is an OCI image layout, which skopeo, podman and others read, with each blob once and
    everything byte for byte: indexes, attestations, signatures. It also says where the images
    go, so that `mirror import` needs no list. Who is cut off goes on where they were. Ends with
    6 when an image is missing; the others are there nevertheless.
    """
    from imagebuild.cli.mirror.view import Notes, View
    from imagebuild.cli.options import absolute
    from imagebuild.errors import ExitCode
    from imagebuild.mirror import export as engine
    from imagebuild.mirror.carrying import NOWHERE
    from imagebuild.mirror.result import RunInterrupted

    place = absolute(output, "--output")
    # A list that says no target is complete without: it is for the importing site.
    loaded = load(mirror_list, target, NOWHERE)
    engine.is_tar(place)
    _, held = read_locks(lock_place(loaded, lock), locked=locked)
    goes_to = loaded.value.target
    with client_of(loaded.value, Notes(terminal)) as client:
        items = items_of(client, loaded, only, go_on=True)
        if dry_run:
            plan = engine.plan_export(client, items, goes_to, place, lock=held)
            _show_plan(plan, loaded, place, as_json=as_json)
            context.exit(int(ExitCode.PUBLISH if plan.failed else ExitCode.OK))
        view = View(terminal, len(items))
        try:
            with view.live():
                done = engine.export(client, items, goes_to, place, lock=held, emit=view, jobs=jobs)
        except RunInterrupted as exc:
            view.summary(exc.report)
            terminal.info("what has come is kept: the same command goes on from there")
            raise
    view.summary(done.report)
    _show(done)
    if as_json:
        terminal.json(_document(done, loaded, place))
    context.exit(int(ExitCode.PUBLISH if done.report.failed else ExitCode.OK))


def _show(done: Exported) -> None:
    from imagebuild.units import size

    if done.path is None:
        terminal.info("nothing was written: there is no image to write")
        return
    terminal.info(f"{done.path}: {done.images} images, {done.blobs} blobs, {size(done.size)}")


def _show_plan(plan: MirrorPlan, loaded: LoadedList, place: Path, *, as_json: bool) -> None:
    from imagebuild.cli.mirror import planview
    from imagebuild.cli.tables import Tables
    from imagebuild.units import size

    if as_json:
        terminal.json({
            "schema_version": _SCHEMA_VERSION,
            "list": str(loaded.path),
            "output": str(place),
            "dry_run": True,
            "images": len(plan.planned),
            "results": [
                {
                    "source": str(p.item.source),
                    "action": planview.action_of(p)[0],
                    "bytes_to_fetch": p.bytes_to_move or 0,
                    "error": p.error.to_json() if p.error else None,
                }
                for p in plan.planned
            ],
        })  # fmt: skip
        return
    rows = [
        (str(p.item.source), planview.action_of(p)[0],
         "-" if p.error else size(p.bytes_to_move or 0))
        for p in plan.planned
    ]  # fmt: skip
    Tables(terminal.out).table(
        f"to {place}", ("image", "action", "to fetch"), rows, ("to fetch",),
        [planview.action_of(p)[1] for p in plan.planned],
    )  # fmt: skip
    terminal.info(f"{size(sum(p.bytes_to_move or 0 for p in plan.planned))} to fetch in all")
    planview.tell_errors(terminal, plan)


def _document(done: Exported, loaded: LoadedList, place: Path) -> dict[str, Any]:
    told = done.report.to_json()
    return {
        "schema_version": _SCHEMA_VERSION,
        "list": str(loaded.path),
        "output": str(done.path) if done.path else None,
        "form": "directory" if place.is_dir() else "tar",
        "dry_run": False,
        "images": done.images,
        "blobs": done.blobs,
        "size": done.size,
        "results": told.pop("results"),
        "totals": {k: v for k, v in told.items() if k != "removed"},
    }
