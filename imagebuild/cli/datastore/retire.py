"""imagebuild datastore retire DATASTORE [VERSION]."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli.datastore.options import cloud_option, dry_run_option, region_option
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.datastore.retirement import Outcome, Retirement

_STYLES = {"keep": "green", "deactivate": "yellow", "wait": "yellow", "delete": "red"}


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta:
    if value is None or context.resilient_parsing:
        return timedelta(0)
    from imagebuild.config.values import parse_age

    try:
        return timedelta(seconds=parse_age(value))
    except ValueError as exc:
        raise click.BadParameter(str(exc), param=parameter) from exc


@click.command(epilog="Example: imagebuild datastore retire mysql --keep 2 --grace 7d")
@click.argument("datastore")
@click.argument("version", required=False)
@click.option(
    "--keep", type=click.IntRange(min=0), default=2, show_default=True, metavar="NUMBER",
    envvar="IMAGEBUILD_DATASTORE_KEEP", show_envvar=True,
    help="So many images stay beside the current one: first that which `rollback` leads to, "
    "then the newest.",
)  # fmt: skip
@click.option(
    "--grace", metavar="AGE", callback=_age, envvar="IMAGEBUILD_DATASTORE_GRACE", show_envvar=True,
    help="How long an image stays deactivated before a run deletes it, like 7d. [default: until "
    "the next run]",
)  # fmt: skip
@cloud_option
@region_option
@dry_run_option
@json_option
def retire(
    datastore: str,
    version: str | None,
    keep: int,
    grace: timedelta,
    cloud: str | None,
    region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take older images of a datastore out of use: deactivated first, deleted by a later run.

    Only images that imagebuild has uploaded for this project are meant. What stays: an image
    that a version refers to, an inactive one too; one that a server was made of; a protected
    one; candidates that are newer than the current image; one that somebody else has
    deactivated. Until it is deleted, `promote` and `rollback` bring an image back.
    """
    from imagebuild.cli.datastore import view
    from imagebuild.cloud.connection import connect
    from imagebuild.datastore.retirement import Rules, carry_out, propose

    connected = connect(cloud, region)
    found = propose(connected, datastore, version, Rules(keep, grace))
    _show(connected.name, found)
    view.notes(found.notes)
    outcome = None
    if not dry_run:
        outcome = carry_out(connected, found, terminal.info)
        view.notes(outcome.left)
    if as_json:
        terminal.json(_document(connected.name, found, outcome))


def _show(cloud: str, found: Retirement) -> None:
    from imagebuild.cli.datastore import view
    from imagebuild.cli.tables import Tables

    if not found.verdicts:
        terminal.info(f"cloud {cloud}: no image of imagebuild's")
        return
    rows = [
        (v.image.label, v.fate.value, v.image.build_id[:8], view.age(v.image.image.created), v.why)
        for v in found.verdicts
    ]
    if terminal.verbosity >= 0:
        Tables(terminal.console).table(
            f"cloud {cloud}", ("image", "fate", "build", "age", "why"), rows,
            styles=[_STYLES[r[1]] for r in rows],
        )  # fmt: skip
    if not found.pending:
        terminal.info("nothing to do")


def _document(cloud: str, found: Retirement, outcome: Outcome | None) -> dict[str, Any]:
    from imagebuild.cli.datastore import view

    return {
        "schema_version": view.SCHEMA_VERSION,
        "cloud": cloud,
        "dry_run": outcome is None,
        "images": [
            {"image": view.image_json(v.image), "fate": v.fate.value, "why": v.why}
            for v in found.verdicts
        ],
        "deactivated": outcome.deactivated if outcome else [],
        "deleted": outcome.deleted if outcome else [],
        "left": outcome.left if outcome else [],
        "notes": list(found.notes),
    }
