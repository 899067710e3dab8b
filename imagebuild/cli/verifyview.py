"""What people see of a verification: progress, the findings, a timeline of each machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.cli.live import live
from imagebuild.cli.terminal import Terminal, one_line
from imagebuild.events import Checked, Event, MachineStarted, MilestoneReached, Note
from imagebuild.units import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from imagebuild.verify.report import Report

_MARKS = {"passed": "✓", "warning": "!", "failed": "✗", "unknown": "?", "skipped": "-"}
_STYLES = {
    "passed": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta",
    "skipped": "dim",
}  # fmt: skip
_VERDICTS = {
    "passed": ("the image is proven", "bold green"),
    "warning": ("the image is proven, with warnings", "bold yellow"),
    "failed": ("the image is bad", "bold red"),
    "unknown": ("this host cannot tell whether the image is good", "bold magenta"),
}


class View:
    """Receives the engine's events (call it) and shows them."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live: Live | None = None
        self._machine = ("", 0.0)
        self._last = ""
        self._passed = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, MachineStarted):
            self._flush()
            self._machine, self._last = (event.machine, time.monotonic()), "starting"
            self._terminal.info(f"machine {event.machine}: {event.text}", "bold")
        elif isinstance(event, MilestoneReached):
            self._last = event.milestone
            if not self._live or self._terminal.verbosity > 0:
                self._terminal.info(f"  {event.seconds:7.1f} s  {event.milestone}", "dim")
        elif isinstance(event, Checked):
            self._check(event)
        elif isinstance(event, Note):
            (self._terminal.warning if event.warning else self._terminal.info)(event.text)

    def _check(self, event: Checked) -> None:
        # The static level puts some seventy questions in a few seconds: one line for them.
        if event.level == "static" and self._terminal.verbosity < 1:
            self._passed += event.outcome == "passed"
            if event.outcome in ("passed", "skipped"):
                return
        self._flush()
        seconds = event.seconds or 0.0
        took = f"  {duration(seconds)}" if seconds >= 1 else ""
        self._terminal.info(
            f"{_MARKS[event.outcome]} {event.check:34} {one_line(event.what)}{took}",
            _STYLES[event.outcome],
        )

    def _flush(self) -> None:
        if self._passed:
            plural = "" if self._passed == 1 else "s"
            self._terminal.info(f"✓ static: {self._passed} check{plural} passed", "green")
            self._passed = 0

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show a status line where somebody is watching."""
        with live(self._terminal, self._status) as self._live:
            yield
        self._live = None
        self._flush()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the time of the block."""
        live = self._live
        if live:
            live.stop()
        try:
            yield
        finally:
            if live:
                live.start()

    def _status(self) -> RenderableType:
        from rich.spinner import Spinner
        from rich.text import Text

        name, since = self._machine
        if not name:
            return Spinner("dots", Text("looking into the image"))
        text = f"{name}  {duration(time.monotonic() - since)}  after: {self._last}"
        spinner = Spinner("dots", Text(one_line(text), "cyan"))
        spinner.start_time = 0.0
        return spinner

    def kept(self, root: Path, options: str = "") -> None:
        """How to get into the machine that was left running; `options` name its cache."""
        from imagebuild.verify import keep

        for machine in keep.kept(root):
            self._terminal.info(f"\n{machine.name} goes on running (pid {machine.pid}):", "bold")
            self._terminal.info(f"  imagebuild verify --attach{options}   # a shell; ^] leaves it")
            if machine.ssh:
                self._terminal.info(f"  {machine.ssh}")
            self._terminal.info(f"  imagebuild verify --stop{options}     # ends it")

    def summary(self, report: Report, directory: Path | None) -> None:
        """What was found, last: failures with their reasons, timelines, the verdict."""
        from imagebuild.verify.report import explanation, timeline

        say = self._terminal.info
        for run in report.runs:
            say(f"\n{run.name} ({run.accelerator}, {run.firmware})", "bold")
            for name, seconds, bar in timeline(run):
                say(f"  {name:20} {seconds:>9}  {bar}")
        for check in report.checks:
            if check.outcome.value not in ("failed", "unknown", "warning"):
                continue
            mark = _MARKS[check.outcome.value]
            say(f"\n{mark} {check.name}: {one_line(check.what)}", _STYLES[check.outcome.value])
            for line in explanation(check):
                style = "cyan" if line.startswith("try: ") else ""
                say(f"    {one_line(line)}", style)
        if report.verdict.value != "passed":
            logs = sorted({r.logs for r in report.runs if r.logs})
            for path in logs:
                say(f"logs: {path}")
        text, style = _VERDICTS[report.verdict.value]
        level = report.proven.label if report.proven else "none"
        say(f"\n{text} (level: {level}; {duration(report.seconds)})", style)
        if directory:
            say(f"report: {directory / 'verify.json'}")
