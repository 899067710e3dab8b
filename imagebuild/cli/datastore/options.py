"""Options that the commands of `datastore` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete

if TYPE_CHECKING:
    from imagebuild.datastore.skew import ControlSeries
    from imagebuild.datastore.trovemanage import TroveManage

#: --cloud and --region; the parameters `cloud` and `region`.
cloud_option = click.option(
    "--cloud", metavar="NAME", envvar="IMAGEBUILD_CLOUD", show_envvar=True,
    help="Cloud of that name in clouds.yaml. [default: what OS_CLOUD or the other OS_* say]",
)  # fmt: skip
region_option = click.option(
    "--region", metavar="NAME", envvar="IMAGEBUILD_REGION", show_envvar=True,
    help="Region, where the cloud has several.",
)  # fmt: skip

#: --dry-run; the parameter `dry_run`.
dry_run_option = click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what would be done, change nothing.",
)  # fmt: skip

#: --control-plane-series; the parameter `control_plane_series`.
control_series_option = click.option(
    "--control-plane-series", metavar="SERIES", envvar="IMAGEBUILD_CONTROL_PLANE_SERIES",
    show_envvar=True, shell_complete=complete.word("Series"),
    help="Series of the Trove that will drive the instances, like 2025.2: an image whose guest "
    "agent is of another is refused. [default: what --trove-manage tells]",
)  # fmt: skip


def _limit(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    if context.resilient_parsing:
        return None
    from imagebuild.config.values import parse_duration

    try:
        return float(parse_duration(value))
    except ValueError as exc:
        raise click.BadParameter(str(exc), param=parameter) from exc


#: --trove-manage and its time limit; the parameters `trove_manage`, `trove_manage_timeout`.
trove_manage_option = click.option(
    "--trove-manage", metavar="COMMAND", envvar="IMAGEBUILD_TROVE_MANAGE", show_envvar=True,
    help="How to run the control plane's trove-manage from here, like 'ssh ctl docker exec -i "
    "trove_api trove-manage'; no shell takes part.",
)  # fmt: skip
trove_manage_timeout_option = click.option(
    "--trove-manage-timeout", metavar="TIME", default="5m", show_default=True, callback=_limit,
    envvar="IMAGEBUILD_TROVE_MANAGE_TIMEOUT", show_envvar=True,
    help="Limit of one run of trove-manage.",
)  # fmt: skip


def trove_manage_of(command: str | None, limit: float) -> TroveManage | None:
    """What --trove-manage means. Raises UsageError when it cannot be split into words."""
    from imagebuild.datastore.trovemanage import TroveManage

    return TroveManage(command, limit=limit) if command else None


def control_of(series: str | None, via: TroveManage | None) -> ControlSeries | None:
    """The control plane's series, as far as somebody tells; asks trove-manage when it must.

    Raises ConfigError for a series that is not known, and as `TroveManage.version`.
    """
    from imagebuild.datastore.skew import ControlSeries

    if series:
        return ControlSeries.of_option(series)
    return ControlSeries.of_version(via.version(), "trove-manage --version") if via else None
