"""imagebuild doctor: what is wrong with this host, what it prevents, what mends it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import (
    ProfileRequest,
    cache_option,
    image_options,
    images_option,
    json_option,
    profile_options,
)
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagebuild.doctor.check import Finding, Level, Report
    from imagebuild.doctor.host import Host

_MARKS = {"ok": "✓", "warning": "!", "missing": "✗", "skipped": "-"}
_STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red", "skipped": "dim"}
_NEEDS = ("build", "boot", "verify", "publish", "mirror")


@click.command(epilog="Example: imagebuild doctor ubuntu jammy --for build --for boot")
@click.argument(
    "target", nargs=-1, metavar="[OS RELEASE | PROFILE]", shell_complete=complete.target
)
@click.option(
    "--for", "purposes", multiple=True, type=click.Choice([*_NEEDS, "all"]),
    default=("build",), show_default=True, envvar="IMAGEBUILD_FOR", show_envvar=True,
    help="What the host is wanted for (repeatable).",
)  # fmt: skip
@click.option(
    "--cloud", metavar="NAME", envvar="IMAGEBUILD_CLOUD", show_envvar=True,
    help="Log in to this cloud of clouds.yaml, too; means --for publish.",
)  # fmt: skip
@click.option(
    "--offline", is_flag=True, envvar="IMAGEBUILD_OFFLINE", show_envvar=True,
    help="Ask nothing of the network.",
)  # fmt: skip
@images_option
@cache_option
@json_option
@image_options
@profile_options
def doctor(
    target: tuple[str, ...],
    purposes: tuple[str, ...],
    cloud: str | None,
    offline: bool,
    images_dir: Path,
    cache_dir: Path,
    as_json: bool,
    request: ProfileRequest,
) -> None:
    """Say whether this host can do its work: what is wrong, what that prevents, what mends it.

    Nothing is changed. With OS RELEASE or a profile, its mirror and its keys are looked at,
    too. The exit code is 4 when something that was asked for is prevented.
    """
    from imagebuild.doctor.check import Need, Subject
    from imagebuild.doctor.examine import examine
    from imagebuild.doctor.host import Host
    from imagebuild.doctor.places import places_of
    from imagebuild.errors import ExitCode

    wanted = set(_NEEDS if "all" in purposes else purposes) | ({"publish"} if cloud else set())
    profile = request.load(target).profile if target else None
    host = Host()
    subject = Subject(
        needs=frozenset(map(Need, wanted)),
        cache=cache_dir,
        profile=profile,
        places=places_of(profile, images_dir.expanduser().absolute()),
        cloud=None if offline else cloud,
    )
    report = examine(host, subject, ask_network=not offline)
    if as_json:
        terminal.json(_document(host, report))
    else:
        _show(host, report)
    if report.prevented:
        raise click.exceptions.Exit(int(ExitCode.PREFLIGHT))


def _show(host: Host, report: Report) -> None:
    from rich.console import Console

    # The report is data, so it goes to stdout; its colours go by stdout, too.
    console = Console(no_color=terminal.no_color or None, highlight=False)
    for style, text in _lines(host, report, console.width):
        console.print(text, style=style or None, markup=False, soft_wrap=True)


def _lines(host: Host, report: Report, width: int) -> Iterator[tuple[str, str]]:
    """The report as (style, line)."""
    from imagebuild.doctor.check import Level

    group = ""
    for result in report.results:
        if result.check.group != group:
            if group:
                yield "", ""
            group = result.check.group
            yield "bold", group
        for finding in result.findings:
            yield from _finding(host, finding, width)
    yield "", ""
    yield from _summary(report)
    bad = report.findings(Level.MISSING) or report.findings(Level.WARNING)
    if bad:
        yield from _commands(host, bad)


def _finding(host: Host, finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    from imagebuild.doctor.check import Level
    from imagebuild.doctor.examine import remedy

    level = str(finding.level)
    is_bad = finding.level in (Level.WARNING, Level.MISSING)
    what = finding.what
    if finding.where and not is_bad:
        what += f" ({finding.where})"
    yield from _wrapped(f"  {_MARKS[level]} ", what, width, _STYLES[level])
    if not is_bad:
        return
    for name, text in (
        ("where", finding.where),
        ("because", finding.detail),
        ("prevents", finding.prevents),
        ("try", remedy(host, finding)),
    ):
        if text:
            yield from _wrapped(f"      {name + ':':9} ", text, width, "cyan" * (name == "try"))


def _wrapped(head: str, text: str, width: int, style: str) -> Iterator[tuple[str, str]]:
    # Words stay whole: paths and commands are there to be copied.
    lines = textwrap.wrap(
        text, max(width - len(head), 20), break_long_words=False, break_on_hyphens=False
    )
    for number, line in enumerate(lines or [""]):
        yield style, (head if number == 0 else " " * len(head)) + line


def _summary(report: Report) -> Iterator[tuple[str, str]]:
    from imagebuild.doctor.check import Level, Need

    asked = [str(n) for n in Need if n in report.needs]
    prevented = [str(n) for n in report.prevented]
    fine = [n for n in asked if n not in prevented]
    warnings = len(report.findings(Level.WARNING))
    if prevented:
        yield "bold red", f"this host cannot do: {', '.join(prevented)}"
    if fine:
        count = f", with {warnings} warning{'s' * (warnings != 1)}" if warnings else ""
        yield "bold green", f"this host is ready for: {', '.join(fine)}{count}"
    left = [str(n) for n in Need if n not in report.needs]
    if left:
        yield "dim", f"not looked at: {', '.join(left)} (--for all)"


def _commands(host: Host, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    from imagebuild.doctor.examine import remedies

    commands = remedies(host, findings)
    if commands:
        yield "", "to mend it, run:"
    for command in commands:
        # One line each, however long: it is there to be copied.
        yield "cyan", f"    {command}"


def _document(host: Host, report: Report) -> dict[str, object]:
    from imagebuild.doctor.check import Level, Need
    from imagebuild.doctor.examine import remedies, remedy

    bad: list[Finding] = []
    levels: list[Level] = [Level.MISSING, Level.WARNING]
    for level in levels:
        bad += report.findings(level)
    return {
        "schema_version": 1,
        "family": str(host.family),
        "asked_for": [str(n) for n in Need if n in report.needs],
        "prevented": [str(n) for n in report.prevented],
        "commands": remedies(host, bad),
        "checks": [
            {
                "id": result.check.id,
                "group": result.check.group,
                "needed_for": [str(n) for n in Need if n in result.check.needed_for],
                "level": str(result.level),
                "findings": [
                    {
                        "level": str(f.level),
                        "what": f.what,
                        "where": f.where,
                        "detail": f.detail,
                        "prevents": f.prevents,
                        "packages": list(f.install),
                        "try": remedy(host, f),
                    }
                    for f in result.findings
                ],
            }
            for result in report.results
        ],
    }
