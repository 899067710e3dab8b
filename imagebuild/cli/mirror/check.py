"""imagebuild mirror check MIRROR: whether the target has all that the list and Trove want."""

from __future__ import annotations

from pathlib import Path

import click

from imagebuild.cli.mirror.options import (
    list_argument,
    load,
    lock_option,
    lock_place,
    only_option,
    read_locks,
    target_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal
from imagebuild.cli.troveversions import series_option, version_options


@click.command(
    epilog="Example: imagebuild mirror check trove --target registry.example.org:5000/trove "
    "--datastore mysql:8.4 --datastore mariadb:11.4"
)
@list_argument
@target_option
@only_option
@lock_option
@click.option(
    "--deep", is_flag=True, envvar="IMAGEBUILD_MIRROR_DEEP", show_envvar=True,
    help="Read all blobs and check their digests; else the registry is asked whether it has them.",
)  # fmt: skip
@version_options(
    "A datastore version, like mysql:8.4: would its guests find their images?",
    "The same for all versions that this cloud's Trove has",
)
@series_option(
    "Series of Trove and its guests, like 2026.1: it decides where guests look for backup images."
)
@click.option(
    "--network-isolation/--no-network-isolation", "isolated", default=True, show_default=True,
    envvar="IMAGEBUILD_NETWORK_ISOLATION", show_envvar=True,
    help="Trove's [network] network_isolation: with it, guests cannot log in to a registry.",
)  # fmt: skip
@click.option(
    "--container-registry", metavar="REGISTRY", envvar="IMAGEBUILD_CONTAINER_REGISTRY",
    show_envvar=True,
    help="Trove's [guest_agent] container_registry, where guests log in; '' where it is not set.",
)  # fmt: skip
@json_option
@click.pass_context
def check(
    context: click.Context,
    /,
    mirror_list: str,
    target: str | None,
    only: tuple[str, ...],
    lock: Path | None,
    deep: bool,
    datastores: tuple[str, ...],
    cloud: str | None,
    region: str | None,
    series: str | None,
    isolated: bool,
    container_registry: str | None,
    as_json: bool,
) -> None:
    """Say whether the registry has all that the list and Trove want of it.

    MIRROR is a file, `-` for one from a pipe, or the name of a list: `trove`. Of each image all
    manifests are read and all blobs asked for; the sources are not asked. With --datastore or
    --cloud, each datastore version's guests are gone through: what they pull on create and
    after a rebuild, and for backups. Ends with 6 when anything is missing or damaged.
    """
    from imagebuild.cli.mirror import checkview
    from imagebuild.cli.mirror.checkrun import Question, run
    from imagebuild.errors import ExitCode

    loaded = load(mirror_list, target)
    place = lock_place(loaded, lock)
    known, _ = read_locks(place, locked=False)
    question = Question(
        only=only,
        deep=deep,
        datastores=datastores,
        cloud=cloud,
        region=region,
        series=series,
        isolated=isolated,
        login_at=container_registry,
    )
    found = run(loaded, known, question)
    if as_json:
        terminal.json(checkview.document(loaded, found, deep=deep))
    else:
        checkview.show(terminal, loaded, found)
    context.exit(int(ExitCode.OK if found.ok else ExitCode.PUBLISH))
