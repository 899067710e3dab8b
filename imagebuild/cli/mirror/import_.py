"""imagebuild mirror import PLACE: what was exported, into a registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.mirror.carrying import Destination
    from imagebuild.mirror.checking import Walk
    from imagebuild.mirror.importing import Import
    from imagebuild.mirror.result import Report
    from imagebuild.registry.client import Client

_SCHEMA_VERSION = 1


@click.command(
    "import",
    epilog="Example: imagebuild mirror import /media/usb/trove.tar "
    "--target registry.example.org:5000/trove",
)
@click.argument(
    "export", metavar="DIR|FILE.tar", type=click.Path(path_type=Path),
    shell_complete=complete.place("file"),
)  # fmt: skip
@click.option(
    "--target", metavar="REGISTRY[/PREFIX]", envvar="IMAGEBUILD_MIRROR_TARGET", show_envvar=True,
    help="Where the images go; http://REGISTRY is one without TLS, REGISTRY/ has no prefix. "
    "[default: where the list says that was exported]",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="PATTERN", envvar="IMAGEBUILD_MIRROR_ONLY", show_envvar=True,
    help="Only images of this name, with or without registry and tag; * stands for anything "
    "(repeatable).",
)  # fmt: skip
@click.option(
    "--as", "name_as", metavar="REPOSITORY[:TAG]", envvar="IMAGEBUILD_MIRROR_AS", show_envvar=True,
    help="What an image of somebody else's layout is called, where that does not say it.",
)  # fmt: skip
@click.option(
    "--ca", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_CA", show_envvar=True, shell_complete=complete.place("file"),
    help="PEM file with the CA of the registry. [default: those of the host and of docker, "
    "/etc/docker/certs.d]",
)  # fmt: skip
@click.option(
    "--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_LOCK", show_envvar=True, shell_complete=complete.place("file"),
    help="Note the tags in this lock file: `mirror prune` then knows that they are ours.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 64), metavar="N", envvar="IMAGEBUILD_MIRROR_JOBS",
    show_envvar=True, default=4, show_default=True, help="Images at a time.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Read the whole export and check its digests; ask no registry, change nothing.",
)  # fmt: skip
@json_option
@click.pass_context
def import_(
    context: click.Context,
    /,
    export: Path,
    target: str | None,
    only: tuple[str, ...],
    name_as: str | None,
    ca: Path | None,
    lock: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring what was exported into a registry, every digest checked.

    It reads OCI image layouts, directories and tar files: those of `mirror export`, which say
    where each image goes, and others, such as of `skopeo copy --all docker://… oci:DIR`. What
    the registry has already is not sent again. An image of which something is damaged or
    missing gets no tag; the others go on, and it ends with 6.
    """
    from imagebuild.cli.mirror.view import View
    from imagebuild.cli.options import absolute
    from imagebuild.errors import ExitCode
    from imagebuild.mirror.carrying import Destination
    from imagebuild.mirror.importing import opened
    from imagebuild.mirror.lockfile import record
    from imagebuild.mirror.result import RunInterrupted

    place = absolute(export, "DIR|FILE.tar")
    noted = absolute(lock, "--lock") if lock else None
    destination = Destination.parse(target) if target else None
    with (
        _client(place, destination, ca) as client,
        opened(client, place, destination, name_as=name_as, only=only) as found,
    ):
        if dry_run:
            walks = _verify(found)
            _show_walks(found, walks)
            if as_json:
                terminal.json(_dry_document(place, found, walks))
            failed = not all(w.ok for w in walks)
            context.exit(int(ExitCode.PUBLISH if failed else ExitCode.OK))
        view = View(terminal, len(found.items))
        try:
            with view.live():
                report = found.run(found.plan(), emit=view, jobs=jobs)
        except RunInterrupted as exc:
            if noted:
                record(noted, exc.report)
            raise
    if noted:
        record(noted, report)
    view.summary(report)
    if as_json:
        terminal.json(_document(place, report))
    context.exit(int(ExitCode.PUBLISH if report.failed else ExitCode.OK))


@contextmanager
def _client(place: Path, destination: Destination | None, ca: Path | None) -> Iterator[Client]:
    from imagebuild.cli.mirror.view import Notes
    from imagebuild.cli.options import absolute
    from imagebuild.mirror.importing import registries_of
    from imagebuild.registry.client import Client
    from imagebuild.registry.settings import RegistrySettings

    hosts = (destination.registry,) if destination else registries_of(place)
    settings = [
        RegistrySettings(
            host,
            ca=absolute(ca, "--ca") if ca else None,
            plain_http=bool(destination and destination.plain_http),
        )
        for host in hosts
    ]
    with Client(settings, environ=os.environ, emit=Notes(terminal)) as client:
        yield client


def _verify(found: Import) -> tuple[Walk, ...]:
    from imagebuild.cli.live import live
    from imagebuild.units import size

    told = [0, 0]

    def progress(_done: int, _blobs: int, read: int, total: int) -> None:
        told[:] = [read, total]

    with live(terminal, lambda: f"{size(told[0])} of {size(told[1])} read"):
        return found.verify(progress)


def _show_walks(found: Import, walks: tuple[Walk, ...]) -> None:
    from imagebuild.units import size

    for item, walk in zip(found.items, walks, strict=True):
        if walk.ok:
            terminal.info(f"✓ {item.target}  whole, {size(walk.size)}", "green")
            continue
        terminal.info(f"✗ {item.target}  not whole", "bold red")
        if walk.error:
            terminal.error(walk.error)
        for problem in walk.problems:
            terminal.info(f"    {problem}")


def _dry_document(place: Path, found: Import, walks: tuple[Walk, ...]) -> dict[str, Any]:
    return {
        "schema_version": _SCHEMA_VERSION,
        "export": str(place),
        "dry_run": True,
        "images": [
            walk.to_json() | {"target": str(item.target)}
            for item, walk in zip(found.items, walks, strict=True)
        ],
    }


def _document(place: Path, report: Report) -> dict[str, Any]:
    told = report.to_json()
    return {
        "schema_version": _SCHEMA_VERSION,
        "export": str(place),
        "dry_run": False,
        "results": told.pop("results"),
        "totals": {k: v for k, v in told.items() if k != "removed"},
    }
