"""imagebuild config check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import one_line, terminal
from imagebuild.cli.troveversions import chosen_versions, series_option, version_options

if TYPE_CHECKING:
    from imagebuild.guestconf.findings import Finding
    from imagebuild.guestconf.reading import Source

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
    "--online", is_flag=True, envvar="IMAGEBUILD_CONFIG_ONLINE", show_envvar=True,
    help="Ask the images' registries, too: whether they speak TLS, and want a login.",
)  # fmt: skip
@version_options(
    "A datastore version, like mysql:8.4: would its guests find their images? Asks the registries.",
    "The same for all versions that this cloud's Trove has",
)
@series_option("Series of Trove that reads them, like 2026.1.")
@json_option
def check(
    files: tuple[Path, ...],
    role: str | None,
    online: bool,
    datastores: tuple[str, ...],
    cloud: str | None,
    region: str | None,
    series: str | None,
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

    versions = chosen_versions(datastores, cloud, region)
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
