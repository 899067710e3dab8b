"""imagebuild datastore list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli.datastore.options import cloud_option, region_option
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.datastore.overview import Overview, Row

_STYLES = {"current": "green", "outdated": "yellow"}


@click.command("list", epilog="Example: imagebuild datastore list mysql")
@click.argument("datastore", required=False)
@click.option(
    "--instances", is_flag=True, envvar="IMAGEBUILD_DATASTORE_INSTANCES", show_envvar=True,
    help="Count each version's instances, too: asks Trove for all of them.",
)  # fmt: skip
@cloud_option
@region_option
@json_option
def list_(
    datastore: str | None, instances: bool, cloud: str | None, region: str | None, as_json: bool
) -> None:
    """List datastore versions with the image that a new instance gets.

    An image is `current`, `outdated` (a newer one has its tags), `foreign` (another project's,
    taken because it is the newest with the version's tags), `deactivated` or another state of
    Glance's that keeps instances from starting, or `gone`.
    """
    from imagebuild.cloud.connection import connect
    from imagebuild.datastore.overview import overview

    connected = connect(cloud, region)
    found = overview(connected, datastore, count=instances)
    if as_json:
        terminal.json(_document(connected.name, found))
        return
    _show(connected.name, found, instances)


def _show(cloud: str, found: Overview, instances: bool) -> None:
    from imagebuild.cli.datastore import view
    from imagebuild.cli.tables import Tables

    rows, styles = [], []
    for row in found.rows:
        state = _state(row)
        rows.append([*_cells(row, state), *([_number(row)] if instances else [])])
        styles.append(_STYLES.get(state, "red"))
    columns = ["version", "state", "image", "chosen by", "build", "agent", "age", "active"]
    columns += ["instances"] if instances else []
    if rows:
        title = f"cloud {cloud}"
        Tables(terminal.out).table(title, columns, rows, ("instances",), styles)
    else:
        terminal.info(f"cloud {cloud}: no datastore version")
    for name in found.empty:
        terminal.info(f"note: the datastore {name} has no version")
    view.notes(found.notes)


def _cells(row: Row, state: str) -> list[str]:
    from imagebuild.cli.datastore import view

    version, taken = row.version, row.resolution.taken
    name = f"{taken.image.name} ({taken.id[:8]})" if taken else version.image[:8] or "-"
    if taken and taken.is_foreign:
        name += f" of project {taken.image.owner[:8]}"
    if state == "outdated" and row.newest:
        name += f"; newest: {row.newest.image.name} ({row.newest.id[:8]})"
    chosen = "id" if version.image else "tags " + ", ".join(version.image_tags)
    active = "default" if version.is_default else "yes" if version.is_active else "no"
    if version.is_default and not version.is_active:
        active = "default, but inactive"
    return [
        version.label,
        state,
        name,
        chosen,
        (taken.build_id[:8] if taken else "") or "-",
        (view.agent_text(taken) if taken else "") or "-",
        view.age(taken.image.created) if taken else "-",
        active,
    ]


def _state(row: Row) -> str:
    from imagebuild.datastore.overview import State

    taken = row.resolution.taken
    return taken.image.status if row.state is State.UNUSABLE and taken else str(row.state.value)


def _number(row: Row) -> str:
    return "?" if row.instances is None else str(row.instances)


def _document(cloud: str, found: Overview) -> dict[str, Any]:
    from imagebuild.cli.datastore import view

    versions = [
        view.version_json(r.version)
        | {
            "state": str(r.state.value),
            "taken": view.image_json(r.resolution.taken),
            "newest": view.image_json(r.newest),
            "matches": len(r.resolution.candidates),
            "instances": r.instances,
        }
        for r in found.rows
    ]
    return {
        "schema_version": view.SCHEMA_VERSION,
        "cloud": cloud,
        "versions": versions,
        "empty_datastores": list(found.empty),
        "notes": list(found.notes),
    }
