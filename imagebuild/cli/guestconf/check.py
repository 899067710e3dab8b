"""imagebuild config check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import one_line, terminal

if TYPE_CHECKING:
    from imagebuild.guestconf.findings import Finding
    from imagebuild.guestconf.reading import Source
    from imagebuild.mirror.wants import Version

SCHEMA_VERSION = 1


@click.command(
    "check",
    epilog="Example: imagebuild config check /etc/trove/trove.conf "
    "/etc/trove/trove-guestagent.conf --online",
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...",
    shell_complete=complete.place("file"),
)  # fmt: skip
@click.option(
    "--as", "role", type=click.Choice(["control", "guest"]), envvar="IMAGEBUILD_CONFIG_AS",
    show_envvar=True,
    help="Who reads the files. [default: guests what has guest or agent in its name, else the "
    "control plane; of a file with another name, its groups tell]",
)  # fmt: skip
@click.option(
    "--control-plane-series", "series", metavar="SERIES", shell_complete=complete.word("Series"),
    envvar="IMAGEBUILD_CONTROL_PLANE_SERIES", show_envvar=True,
    help="Series of Trove that reads them. [default: the newest]",
)  # fmt: skip
@click.option(
    "--online", is_flag=True, envvar="IMAGEBUILD_CONFIG_ONLINE", show_envvar=True,
    help="Ask the images' registries, too: whether they speak TLS, and want a login.",
)  # fmt: skip
@click.option(
    "--datastore", "datastores", multiple=True, metavar="NAME:VERSION[=NAME]",
    envvar="IMAGEBUILD_CONFIG_DATASTORE", show_envvar=True,
    help="A datastore version, like mysql:8.4: would its guests find their images? Asks the "
    "registries. Its name behind '=' where that is not its number (repeatable).",
)  # fmt: skip
@click.option(
    "--cloud", metavar="NAME", envvar="IMAGEBUILD_CONFIG_CLOUD", show_envvar=True,
    help="The same for all versions that Trove of this cloud has (of clouds.yaml; envvars: of "
    "OS_*).",
)  # fmt: skip
@click.option(
    "--region", metavar="NAME", envvar="IMAGEBUILD_REGION", show_envvar=True,
    help="Region, where the cloud has several.",
)  # fmt: skip
@json_option
def check(
    files: tuple[Path, ...],
    role: str | None,
    series: str | None,
    online: bool,
    datastores: tuple[str, ...],
    cloud: str | None,
    region: str | None,
    as_json: bool,
) -> int:
    """Find the known mistakes in trove.conf, trove-guestagent.conf or OpenStack-Ansible's
    variables. Files named together are read together.

    Exits with 3 when there is a mistake; warnings alone are no failure.
    """
    from imagebuild.errors import ExitCode
    from imagebuild.guestconf.checks import check as check_sources
    from imagebuild.guestconf.findings import mistakes
    from imagebuild.guestconf.reading import Role, configured, read
    from imagebuild.mirror.naming import NEWEST

    versions = _versions(datastores, cloud, region)
    chosen = {"control": Role.CONTROL, "guest": Role.GUEST, None: None}[role]
    sources = [source for file in files for source in read(file, chosen)]
    findings = list(check_sources(sources, series or NEWEST))
    guest, control = configured(sources, series or NEWEST)
    if online:
        from imagebuild.guestconf.online import check_online

        findings += check_online(guest, control)
    if versions:
        from imagebuild.guestconf.versions import check_versions

        findings += check_versions(guest, control, versions, series or NEWEST)
    count = mistakes(findings)
    if as_json:
        terminal.json(
            {
                "schema_version": SCHEMA_VERSION,
                "series": series or NEWEST,
                "files": [{"path": str(s.path), "read_by": s.role.value} for s in sources],
                "versions": [v.label for v in versions],
                "valid": not count,
                "findings": [f.to_json() for f in findings],
            }
        )
    else:
        _show(sources, findings, count)
    return int(ExitCode.CONFIG) if count else int(ExitCode.OK)


def _versions(
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


def _show(sources: Sequence[Source], findings: Sequence[Finding], count: int) -> None:
    for finding in findings:
        option = f"{finding.option}: " if finding.option else ""
        what = one_line(f"{finding.where}: {finding.severity.value}: {option}{finding.what}")
        terminal.data(what)
        if finding.why:
            terminal.data(one_line(f"    why: {finding.why}"))
        if finding.hint:
            terminal.data(one_line(f"    try: {finding.hint}"))
    warnings = len(findings) - count
    said = ", ".join(f"{s.path} ({s.role.value})" for s in sources)
    terminal.info(f"{said}: {_number(count, 'mistake')}, {_number(warnings, 'warning')}")


def _number(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
