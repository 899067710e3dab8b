"""imagebuild mirror prune MIRROR: tags of ours that the list does not have any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli.mirror.options import (
    client_of,
    items_of,
    list_argument,
    load,
    lock_option,
    lock_place,
    target_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal
from imagebuild.cli.troveversions import chosen_versions, series_option, version_options

if TYPE_CHECKING:
    from imagebuild.mirror.loading import LoadedList
    from imagebuild.mirror.prune import Proposal, Pruned
    from imagebuild.mirror.wants import Need

_SCHEMA_VERSION = 1
_STYLES = {"keep": "green", "remove": "red", "shared": "yellow", "foreign": "yellow"}
_GARBAGE = (
    "the registry's disk has more room only after its garbage collection, in which nobody may "
    "push: docker-registry garbage-collect CONFIG.yml"
)


@click.command(
    epilog="Example: imagebuild mirror prune mirror.yaml --cloud admin; then the same with --apply"
)
@list_argument
@target_option
@lock_option
@version_options(
    "A datastore version whose images stay, like mysql:8.4.",
    "Keep what this cloud's Trove has datastore versions for",
)
@series_option(
    "Series of Trove and its guests, like 2026.1: it decides where guests look for backup images."
)
@click.option(
    "--ignore-datastores", is_flag=True, envvar="IMAGEBUILD_MIRROR_IGNORE_DATASTORES",
    show_envvar=True, help="Nothing uses this registry but the list: ask no Trove.",
)  # fmt: skip
@click.option(
    "--apply/--dry-run", "apply", default=False, envvar="IMAGEBUILD_MIRROR_APPLY",
    show_envvar=True, help="Remove them; without it, it is only said which.",
)  # fmt: skip
@json_option
@click.pass_context
def prune(
    context: click.Context,
    /,
    mirror_list: str,
    target: str | None,
    lock: Path | None,
    datastores: tuple[str, ...],
    cloud: str | None,
    region: str | None,
    series: str | None,
    ignore_datastores: bool,
    apply: bool,
    as_json: bool,
) -> None:
    """Remove tags of ours that the list does not have any more.

    Ours is what the lock file says, as long as the tag is still what we put there. What stays:
    tags of the list, their aliases and backups; what a datastore version's guests ask for; an
    image that another tag or index of its repository has, since registries delete an image with
    all of its tags. Without --apply nothing is removed. Ends with 6 when something could not be.
    """
    from imagebuild.cli.mirror.view import Notes
    from imagebuild.errors import ExitCode, UsageError
    from imagebuild.mirror.lockfile import read_lock, record
    from imagebuild.mirror.prune import Pruned, carry_out, propose
    from imagebuild.mirror.result import Report

    knows_versions = bool(datastores or cloud or ignore_datastores)
    if apply and not knows_versions:
        raise UsageError(
            "it is not known which images Trove's guests need",
            hint="say --cloud NAME or --datastore NAME:VERSION; or --ignore-datastores, when "
            "nothing but the list counts",
        )
    loaded = load(mirror_list, target)
    place = lock_place(loaded, lock)
    if place is None:
        raise UsageError("a list from a pipe has no lock file: --lock FILE names it")
    known = read_lock(place)
    needs = _needs(loaded, datastores, cloud, region, series)
    done: Pruned | None = None
    with client_of(loaded.value, Notes(terminal)) as client:
        items = items_of(client, loaded)
        found = propose(client, loaded.value.target.registry, items, known, needs)
        _show(found, place)
        if apply:
            done = Pruned()
            try:
                carry_out(client, found, done, terminal.info)
            finally:
                forgotten = (*done.removed, *found.gone)
                if forgotten:
                    record(place, Report((), 0.0, removed=forgotten))
    if done:
        _tell(done)
    elif not knows_versions:
        terminal.warning(
            "Trove was not asked what its guests need: --apply wants --cloud, --datastore or "
            "--ignore-datastores"
        )
    if as_json:
        terminal.json(_document(loaded, place, found, done))
    context.exit(int(ExitCode.PUBLISH if done and done.errors else ExitCode.OK))


def _needs(
    loaded: LoadedList,
    datastores: Sequence[str],
    cloud: str | None,
    region: str | None,
    series: str | None,
) -> tuple[Need, ...]:
    from imagebuild.agent.series import get_series
    from imagebuild.mirror.naming import NEWEST
    from imagebuild.mirror.wants import names_of_list, needs_of

    versions = chosen_versions(datastores, cloud, region)
    return needs_of(versions, names_of_list(loaded.value), get_series(series or NEWEST).name)


def _show(found: Proposal, place: Path) -> None:
    from imagebuild.cli.tables import Tables
    from imagebuild.mirror.prune import Fate

    if not found.verdicts:
        terminal.info(f"no tag is ours: {place} has none")
        return
    shown = [v for v in found.verdicts if v.fate is not Fate.KEEP or terminal.verbosity > 0]
    if shown and terminal.verbosity >= 0:
        Tables(terminal.console).table(
            "tags of ours", ("tag", "fate", "why"),
            [(str(v.tag), v.fate.value, v.why) for v in shown],
            styles=[_STYLES.get(v.fate.value, "dim") for v in shown],
        )  # fmt: skip
    kept = sum(v.fate is Fate.KEEP for v in found.verdicts)
    removed = sum(len(d.tags) for d in found.deletions)
    terminal.info(f"{removed} to remove, {kept} in use")


def _tell(done: Pruned) -> None:
    for verdict in done.left:
        terminal.warning(f"{verdict.tag} stays: {verdict.why}")
    for error in done.errors:
        terminal.error(error)
    if done.removed:
        terminal.info(f"{len(done.removed)} tags removed, {done.manifests} manifests deleted")
        terminal.info(_GARBAGE)


def _document(
    loaded: LoadedList, place: Path, found: Proposal, done: Pruned | None
) -> dict[str, Any]:
    return {
        "schema_version": _SCHEMA_VERSION,
        "list": str(loaded.path),
        "lock": str(place),
        "dry_run": done is None,
        "tags": [v.to_json() for v in found.verdicts],
        "deletions": [
            {
                "digest": d.image.digest,
                "tags": [str(t) for t in d.tags],
                "children": list(d.children),
            }
            for d in found.deletions
        ],
        "removed": [str(t) for t in done.removed] if done else [],
        "manifests_deleted": done.manifests if done else 0,
        "left": [v.to_json() for v in done.left] if done else [],
        "errors": [e.to_json() for e in done.errors] if done else [],
    }
