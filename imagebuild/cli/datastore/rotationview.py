"""What `datastore promote` and `rollback` show, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagebuild.cli.datastore import view
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cloud.connection import Cloud
    from imagebuild.datastore.resolution import Candidate
    from imagebuild.datastore.rotation import Proposal


def run(cloud: Cloud, proposal: Proposal, *, dry_run: bool, as_json: bool) -> None:
    """Say what will be done, do it unless it is a dry run, print the document."""
    from imagebuild.datastore.rotation import carry_out

    _show(cloud.name, proposal)
    if not dry_run:
        carry_out(cloud, proposal, terminal.info)
    if as_json:
        terminal.json(_document(cloud.name, proposal, dry_run=dry_run))
    elif not dry_run:
        terminal.data(proposal.after.id)


def _show(cloud: str, proposal: Proposal) -> None:
    version, after = proposal.version.label, proposal.after
    if not proposal.steps and not proposal.left_alone:
        terminal.info(f"cloud {cloud}: {version} has it already: {view.image_line(after)}")
    for effect in proposal.effects:
        terminal.info(f"cloud {cloud}: {effect.version.label} will get another image")
        terminal.info(f"  until now  {_line(effect.before)}")
        terminal.info(f"  then       {_line(effect.after)}")
    shared = [e.version.label for e in proposal.effects if e.version.id != proposal.version.id]
    if shared:
        terminal.warning(f"not {version} alone is changed: {', '.join(shared)} too, by their tags")
    view.notes(proposal.notes)
    if proposal.steps:
        terminal.info("in this order:")
        for number, text in enumerate(proposal.texts(), 1):
            terminal.info(f"  {number}. {text}")


def _line(image: Candidate | None) -> str:
    return view.image_line(image) if image else "none: no instance can be made"


def _document(cloud: str, proposal: Proposal, *, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": view.SCHEMA_VERSION,
        "cloud": cloud,
        "dry_run": dry_run,
        "version": view.version_json(proposal.version),
        "before": view.image_json(proposal.before),
        "after": view.image_json(proposal.after),
        "effects": [
            {
                "version": view.version_json(e.version),
                "before": view.image_json(e.before),
                "after": view.image_json(e.after),
            }
            for e in proposal.effects
        ],
        "steps": proposal.texts(),
        "notes": list(proposal.notes),
        "changed": bool(proposal.steps) and not dry_run,
        "left_alone": proposal.left_alone or None,
    }
