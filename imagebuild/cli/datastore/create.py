"""imagebuild datastore create DATASTORE VERSION."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli.datastore.options import (
    cloud_option,
    control_of,
    control_series_option,
    dry_run_option,
    region_option,
    trove_manage_of,
    trove_manage_option,
    trove_manage_timeout_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.datastore.creation import Outcome, Proposal

_NAMES = {
    "image_tags": "image tags",
    "registry_ext": "guest's class",
    "repl_strategy": "replication",
}


def _words(
    context: click.Context,  # noqa: ARG001 - click's call
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(
    epilog="Example: imagebuild datastore create mysql 8.4 --image-tags trove,mysql --active "
    "--default"
)
@click.argument("datastore")
@click.argument("version")
@click.option(
    "--version-number", metavar="NUMBER", envvar="IMAGEBUILD_DATASTORE_VERSION_NUMBER",
    show_envvar=True,
    help="What the guest pulls: the tag of the database's container. [default: VERSION]",
)  # fmt: skip
@click.option(
    "--image-tags", metavar="TAG,…", callback=_words, envvar="IMAGEBUILD_DATASTORE_IMAGE_TAGS",
    show_envvar=True,
    help="Take the newest image with all of these tags. [default: trove,DATASTORE]",
)  # fmt: skip
@click.option(
    "--image", metavar="ID|NAME", envvar="IMAGEBUILD_DATASTORE_IMAGE", show_envvar=True,
    help="Take this image, and no other.",
)  # fmt: skip
@click.option(
    "--active/--inactive", "active", default=None, envvar="IMAGEBUILD_DATASTORE_ACTIVE",
    show_envvar=True, help="Whether users see it. [default: as it is; inactive when it is new]",
)  # fmt: skip
@click.option(
    "--default/--no-default", "default", default=None, envvar="IMAGEBUILD_DATASTORE_DEFAULT",
    show_envvar=True,
    help="Whether it is its datastore's default. [default: as it is; not when it is new]",
)  # fmt: skip
@click.option(
    "--manager", metavar="NAME", envvar="IMAGEBUILD_DATASTORE_MANAGER", show_envvar=True,
    help="Trove's manager. [default: as other versions of DATASTORE, else DATASTORE itself]",
)  # fmt: skip
@click.option(
    "--registry-ext", metavar="CLASS", envvar="IMAGEBUILD_DATASTORE_REGISTRY_EXT",
    show_envvar=True, help="The manager's class in the guest agent. [default: Trove's]",
)  # fmt: skip
@click.option(
    "--repl-strategy", metavar="CLASS", envvar="IMAGEBUILD_DATASTORE_REPL_STRATEGY",
    show_envvar=True, help="The class that replicates. [default: Trove's]",
)  # fmt: skip
@click.option(
    "--packages", metavar="NAME,…", callback=_words, envvar="IMAGEBUILD_DATASTORE_PACKAGES",
    show_envvar=True, help="Packages that Trove hands to the guest; its managers use none.",
)  # fmt: skip
@control_series_option
@trove_manage_option
@trove_manage_timeout_option
@click.option(
    "--force", is_flag=True, envvar="IMAGEBUILD_DATASTORE_FORCE", show_envvar=True,
    help="Go on although the image that Trove takes belongs to another project.",
)  # fmt: skip
@click.option(
    "--allow-different-name", is_flag=True, envvar="IMAGEBUILD_DATASTORE_ALLOW_DIFFERENT_NAME",
    show_envvar=True, help="Go on although a new version's number is not its name.",
)  # fmt: skip
@cloud_option
@region_option
@dry_run_option
@json_option
def create(
    datastore: str,
    version: str,
    version_number: str | None,
    image_tags: tuple[str, ...] | None,
    image: str | None,
    active: bool | None,
    default: bool | None,
    manager: str | None,
    registry_ext: str | None,
    repl_strategy: str | None,
    packages: tuple[str, ...] | None,
    control_plane_series: str | None,
    trove_manage: str | None,
    trove_manage_timeout: float,
    force: bool,
    allow_different_name: bool,
    cloud: str | None,
    region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make VERSION of DATASTORE, or change what differs when it is there.

    Run again, it changes nothing. What will change is said first. An image of another
    project, which Trove would take, and a guest agent of another series than the control
    plane's are refused with 7.
    """
    from imagebuild.cloud.connection import connect
    from imagebuild.datastore.creation import Gates, carry_out, propose
    from imagebuild.datastore.wanted import Wanted

    wanted = Wanted(
        datastore=datastore,
        name=version,
        number=version_number,
        manager=manager,
        image=image,
        image_tags=image_tags,
        is_active=active,
        is_default=default,
        packages=packages,
        registry_ext=registry_ext,
        repl_strategy=repl_strategy,
    )
    wanted.check()
    via = trove_manage_of(trove_manage, trove_manage_timeout)
    control = control_of(control_plane_series, via)
    connected = connect(cloud, region)
    proposal = propose(connected, wanted, Gates(force, allow_different_name, control))
    _show(connected.name, proposal)
    outcome = None
    if not dry_run:
        outcome = carry_out(connected, proposal, via=via, tell=terminal.info)
        from imagebuild.cli.datastore import view

        view.notes(outcome.notes)
    if as_json:
        terminal.json(_document(connected.name, proposal, outcome))
    elif outcome:
        terminal.data(outcome.version.id)


def _show(cloud: str, proposal: Proposal) -> None:
    """What will change, and what there is to know."""
    from imagebuild.cli.datastore import view
    from imagebuild.cli.tables import Tables

    plan, label = proposal.plan, proposal.wanted.label
    if plan.is_empty:
        state = "is as wanted"
    else:
        state = "will be changed" if proposal.found else "will be created"
    terminal.info(f"cloud {cloud}: {label} {state}")
    rows = [
        ("  " + _NAMES.get(d.attribute, d.attribute), _change(d.before, d.after, proposal))
        for d in plan.differences
    ]
    if proposal.rival and any(d.attribute == "default" for d in plan.differences):
        rows.append(("", f"until now the default: {proposal.rival.label}"))
    until_now = proposal.before.taken if proposal.before else None
    if until_now and proposal.after.taken and until_now.id != proposal.after.taken.id:
        rows.append(("  image until now", view.image_line(until_now)))
    if proposal.after.taken:
        rows.append(("  image taken", view.image_line(proposal.after.taken)))
    if terminal.verbosity >= 0:
        Tables(terminal.console).pairs(rows)
    view.notes(proposal.notes)


def _change(before: object, after: object, proposal: Proposal) -> str:
    if proposal.found is None:
        return _value(after)
    return f"{_value(before)} → {_value(after)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value or "none")


def _document(cloud: str, proposal: Proposal, outcome: Outcome | None) -> dict[str, Any]:
    from imagebuild.cli.datastore import view

    plan = proposal.plan
    return {
        "schema_version": view.SCHEMA_VERSION,
        "cloud": cloud,
        "dry_run": outcome is None,
        "label": proposal.wanted.label,
        "exists": proposal.found is not None,
        "differences": [
            {"attribute": d.attribute, "before": d.before, "after": d.after}
            for d in plan.differences
        ],
        "image": view.image_json(proposal.after.taken),
        "candidates": [view.image_json(c) for c in proposal.after.candidates],
        "notes": [*proposal.notes, *(outcome.notes if outcome else ())],
        "created": bool(outcome and outcome.is_created),
        "changed": bool(outcome and not plan.is_empty),
        "version": view.version_json(outcome.version) if outcome else None,
    }
