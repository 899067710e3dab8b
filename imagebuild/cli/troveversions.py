"""Options that say whose guests' images count: datastore versions, a cloud's Trove, its series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imagebuild.cli import complete
from imagebuild.cli.datastore.options import region_option

if TYPE_CHECKING:
    from imagebuild.mirror.wants import Version

_F = TypeVar("_F", bound=Callable[..., Any])


def series_option(told: str) -> Callable[[_F], _F]:
    """--control-plane-series; the parameter `series` is a name or None, `told` its help."""
    return click.option(
        "--control-plane-series", "series", metavar="SERIES",
        shell_complete=complete.word("Series"), envvar="IMAGEBUILD_CONTROL_PLANE_SERIES",
        show_envvar=True, help=f"{told} [default: the newest]",
    )  # fmt: skip


def version_options(named: str, asked: str) -> Callable[[_F], _F]:
    """--datastore, --cloud and --region; parameters `datastores`, `cloud` and `region`.

    `named` and `asked` are what the verb does with versions that are named, or that a cloud has.
    The variable of --cloud is not that of `upload`: there it chooses, here it asks for more.
    """

    def decorate(function: _F) -> _F:
        for option in (
            region_option,
            click.option(
                "--cloud", metavar="NAME", envvar="IMAGEBUILD_MIRROR_CLOUD", show_envvar=True,
                help=f"{asked} (of clouds.yaml; envvars: of OS_*).",
            ),
            click.option(
                "--datastore", "datastores", multiple=True, metavar="NAME:VERSION[=NAME]",
                envvar="IMAGEBUILD_MIRROR_DATASTORE", show_envvar=True,
                help=f"{named} Its name behind '=' where that is not its number (repeatable).",
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return decorate


def chosen_versions(
    datastores: Sequence[str], cloud: str | None, region: str | None
) -> tuple[Version, ...]:
    """Those that are named, and Trove's. Raises UsageError, and as `Service` does."""
    from imagebuild.mirror.wants import read_version, versions_of

    named = tuple(read_version(text) for text in datastores)
    if not cloud:
        return named
    from imagebuild.cloud.connection import connect
    from imagebuild.cloud.datastores import Datastores

    return named + versions_of(Datastores(connect(cloud, region).database).versions())
