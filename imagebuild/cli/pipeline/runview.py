"""What people see of a pipeline's run: a table that follows it on a terminal, else plain lines."""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.cli.live import live
from imagebuild.cli.pipeline import github
from imagebuild.cli.terminal import Terminal
from imagebuild.errors import ImagebuildError, from_json
from imagebuild.pipeline.cells import Cell, Phase
from imagebuild.pipeline.cleaning import clean_text
from imagebuild.pipeline.outcome import PhaseReport, RunReport, Status
from imagebuild.pipeline.watch import Watch
from imagebuild.units import duration
from imagebuild.visible import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

#: Seconds after which a phase that goes on says its last line, where nobody is watching: some
#: engines end a job that is silent.
_PERIOD = 60.0
#: Last lines of a phase that failed.
_LINES = 10
MARKS = {
    Status.PASSED: ("✓", "green"), Status.UNCHANGED: ("=", "green"), Status.SKIPPED: ("-", "dim"),
    Status.HELD: ("·", "yellow"), Status.FAILED: ("✗", "bold red"),
    Status.INTERRUPTED: ("!", "bold red"),
}  # fmt: skip
_WORST = tuple(MARKS)


@dataclass
class _Going:
    """A phase that goes on."""

    target: str
    since: float
    said: float
    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=400))


class View:
    """Is told of a run, by several threads. `several`: cells run at the same time."""

    def __init__(
        self, terminal: Terminal, cells: Sequence[Cell], *, several: bool,
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._terminal = terminal
        self._cells = cells
        self._several = several
        self._environ = os.environ if environ is None else environ
        self._github = github.is_here(self._environ)
        self._going: dict[tuple[str, Phase], _Going] = {}
        self._ends: dict[str, dict[Phase, Status]] = {c.id: {} for c in cells}
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._directory = Path()

    @property
    def watch(self) -> Watch:
        """What the engine calls."""
        return Watch(self._started, self._line, self._ended, self._again)

    def begun(self, directory: Path) -> None:
        """Where the report will be."""
        self._directory = directory
        self.say(f"report: {directory}", "dim")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table, where somebody is watching."""
        with live(self._terminal, self._status) as self._live:
            yield
        self._live = None

    def _started(self, cell_id: str, phase: Phase, target: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._going[cell_id, phase] = _Going(target, now, now)
            if self._streams:
                self.say(github.group(_label(cell_id, phase, target)))
            elif not self._live:
                self.say(f"  {_label(cell_id, phase, target)} …", "dim")

    def _line(self, cell_id: str, phase: Phase, text: str) -> None:
        text = self._plain(clean_text(text))
        with self._lock:
            going = self._going.get((cell_id, phase))
            if going is None:
                return
            going.lines.append(text)
            if self._streams:
                self.say(text)
            elif self._terminal.verbosity > 0:
                self.say(f"    {cell_id}: {text}", "dim")
            elif not self._live and time.monotonic() - going.said >= _PERIOD:
                going.said = time.monotonic()
                took = duration(going.said - going.since)
                self.say(f"    {_label(cell_id, phase, going.target)} {took}: {text}", "dim")

    def _again(self, cell_id: str, phase: Phase, text: str) -> None:
        with self._lock:
            if going := self._going.get((cell_id, phase)):
                going.lines.append(text)
            self.say(f"↻ {_label(cell_id, phase, going.target if going else '')}: {text}", "yellow")

    def _ended(self, cell_id: str, report: PhaseReport) -> None:
        with self._lock:
            going = self._going.pop((cell_id, report.phase), None)
            ends = self._ends[cell_id]
            known = ends.get(report.phase, Status.SKIPPED)
            ends[report.phase] = max(known, report.status, key=_rank)
            if self._streams and going:
                self.say(github.END_GROUP)
            elif self._github and going:
                self.say(github.group(_label(cell_id, report.phase, report.target)))
                for line in going.lines:
                    self.say(line)
                self.say(github.END_GROUP)
            self._end(cell_id, report, going)

    def _end(self, cell_id: str, report: PhaseReport, going: _Going | None) -> None:
        mark, style = MARKS[report.status]
        label = _label(cell_id, report.phase, report.target)
        if going is None and not (report.status is Status.HELD and self._terminal.verbosity > 0):
            # Not tried: the table at the end says why.
            return
        took = duration(report.seconds)
        tries = f", {len(report.attempts)} tries" if _tries(report) > 1 else ""
        why = f": {report.why}" if report.why else ""
        self.say(f"{mark} {label:44} {report.status.value} ({took}{tries}){why}", style)
        for warning in report.warnings:
            self._terminal.warning(f"{cell_id}: {clean_text(warning)}")
        if report.status is not Status.FAILED or not report.error:
            return
        error = _error(report.error, self._plain)
        if going and not self._streams and not (self._github and going):
            lines = list(going.lines)
            # What the verb says of its error is said below.
            own = f"error: {one_line(error.what)}"
            before = lines[: lines.index(own)] if own in lines else lines
            shown = [x for x in before[-_LINES:] if x.strip()]
            for line in shown:
                self.say(f"    │ {line}", "dim")
        self._terminal.error(error)
        if report.log:
            self.say(f"  log: {self._directory / report.log}")
        if self._github:
            text = github.error_text(error.to_json())
            self.say(github.annotation("error", label, text))

    def _plain(self, text: str) -> str:
        return github.plain(text) if self._github else text

    @property
    def _streams(self) -> bool:
        return self._github and not self._several

    def say(self, text: str, style: str = "") -> None:
        """A line for people; a night goes on when nobody reads it any more."""
        with suppress(SystemExit):
            self._terminal.info(text, style)

    def _status(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        phases = [p for p in Phase if any(p in c.phases for c in self._cells)]
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for name in ("cell", *(p.value for p in phases), ""):
            table.add_column(name, no_wrap=True)
        now = time.monotonic()
        # Without the lock: rich calls this with its own held, and who has ours may print.
        for cell in self._cells:
            row: list[Text] = [Text(cell.id)]
            last = ""
            for phase in phases:
                going = self._going.get((cell.id, phase))
                end = self._ends[cell.id].get(phase)
                if going:
                    row.append(Text(duration(now - going.since), "cyan"))
                    last = going.lines[-1] if going.lines else going.target
                else:
                    row.append(Text(*MARKS[end]) if end else Text(""))
            table.add_row(*row, Text(one_line(last)[:120], "dim", overflow="ellipsis"))
        return table

    def summary(self, report: RunReport, directory: Path) -> None:
        """A table of all cells, what is to be known, and where the report is, last."""
        from imagebuild.cli.tables import Tables
        from imagebuild.pipeline.verdict import headline

        if self._terminal.verbosity >= 0 and report.cells:
            rows = [
                (c.id, c.status.value, c.build_id[:8] or "-", _seconds(c.phases), _what(c.phases))
                for c in report.cells
            ]
            Tables(self._terminal.console).table(
                f"pipeline {report.pipeline}, run {report.run}",
                ("cell", "result", "build", "time", "what"), rows, ("time",),
                [MARKS[c.status][1] for c in report.cells],
            )  # fmt: skip
        for note in report.notes:
            self._terminal.info(f"note: {note}")
        self.say(headline(report), "bold red" if report.exit_code else "bold green")
        self.say(f"report: {directory / 'report.html'}")
        if self._github:
            github.write_outputs(self._environ, report, directory / "report.md")


def _label(cell_id: str, phase: Phase, target: str) -> str:
    return f"{cell_id}: {phase.value}" + (f" {target}" if target else "")


def _rank(status: Status) -> int:
    order = (Status.SKIPPED, Status.UNCHANGED, Status.PASSED, Status.HELD, Status.INTERRUPTED)
    return order.index(status) if status in order else len(order)


def _tries(report: PhaseReport) -> int:
    return 1 + sum(a.exit_code == 75 for a in report.attempts[:-1])


def _seconds(phases: Sequence[PhaseReport]) -> str:
    seconds = sum(p.seconds for p in phases)
    return duration(seconds) if seconds else "-"


def _what(phases: Sequence[PhaseReport]) -> str:
    """Why a cell is as it is, in some words."""
    for phase in phases:
        if phase.error:
            where = f"{phase.phase.value} {phase.target}".rstrip()
            return f"{where}: {clean_text(str(phase.error['what']))}"
    for phase in phases:
        if phase.status in (Status.HELD, Status.SKIPPED) and phase.why != "not asked for":
            return phase.why
    return ""


def _error(document: Mapping[str, Any], plain: Callable[[str], str]) -> ImagebuildError:
    cleaned = {k: plain(clean_text(v)) if isinstance(v, str) else v for k, v in document.items()}
    return from_json(cleaned)
