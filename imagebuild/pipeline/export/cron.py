"""cron: one line, as /etc/cron.d has it (crontab(5)). A night that went well sends no mail."""

from __future__ import annotations

from collections.abc import Mapping

from imagebuild.errors import ExitCode
from imagebuild.pipeline.export import host
from imagebuild.pipeline.export.schedules import cron_text
from imagebuild.pipeline.export.source import Source


def files(source: Source) -> Mapping[str, str]:
    """`etc/cron.d/NAME`."""
    header = source.header(
        *host.NOTES,
        "CRON_TZ is cronie's; Debian's cron goes by the host's own time zone.",
        "A run that finds another one still going says so, and leaves it alone.",
    )
    variables = {"SHELL": "/bin/sh", **host.ENVIRONMENT, "MAILTO": "root", "CRON_TZ": "UTC"}
    lines = "".join(f"{k}={v}\n" for k, v in variables.items())
    line = f"{source.pipeline.engines.schedule} root {cron_text(script(source))}\n"
    return {f"etc/cron.d/{source.name}": header + "\n" + lines + "\n" + line}


def script(source: Source) -> str:
    """The command: what it says is mailed, with the report of a night that failed."""
    return (
        f"mkdir -p {host.STATE} && {host.command(source)}; code=$?; "
        f"[ $code -eq 0 ] || [ $code -eq {int(ExitCode.TEMPORARY)} ] || "
        f"cat {host.report(source)}; exit $code"
    )
