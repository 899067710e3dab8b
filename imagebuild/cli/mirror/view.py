"""What people see of a mirror run: bars, a line for each image that is done, a summary."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagebuild.cli.live import live
from imagebuild.cli.terminal import Terminal, one_line
from imagebuild.errors import from_json
from imagebuild.events import Event, Note
from imagebuild.mirror.copier import ImageFinished, ImageProgress
from imagebuild.mirror.result import Outcome, Report, Result
from imagebuild.units import duration, size

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import Progress, TaskID

#: Seconds between two lines on a run where nobody is watching.
_PERIOD = 10.0
#: So many images are shown at a time.
_MOST_BARS = 8
#: So many errors are told in full; those that are alike are told once.
_MOST_ERRORS = 10
MARKS = {
    Outcome.UNCHANGED: ("=", "dim"),
    Outcome.COPIED: ("✓", "green"),
    Outcome.REPLACED: ("✓", "green"),
    Outcome.MISSING: ("✗", "bold red"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.SKIPPED: ("-", "yellow"),
}


class Notes:
    """Shows what the registry client has to say, from whatever thread it does."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            (self._terminal.warning if event.warning else self._terminal.info)(event.text)


class View:
    """Receives the engine's events (call it) in one thread, and shows them.

    `images` are there in all; `below` is REGISTRY/PREFIX, which names are shown without.
    """

    def __init__(self, terminal: Terminal, images: int, below: str = "") -> None:
        self._terminal = terminal
        self._notes = Notes(terminal)
        self._images = images
        self._below = below
        self._live: Live | None = None
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._finished = 0
        self._began = self._said = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ImageProgress):
            self._bytes[event.target] = (event.done, event.total)
            self._advance(event) if self._live else self._tell()
        elif isinstance(event, ImageFinished):
            self._finish(event.result)
        else:
            self._notes(event)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show bars, where somebody is watching."""
        self._began = self._said = time.monotonic()
        if self._terminal.is_interactive:
            self._bars = _bars(self._terminal)
        with live(self._terminal, self._status) as self._live:
            yield
        self._live = None

    def _status(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        return Group(
            *([self._bars.get_renderable()] if self._bars and self._tasks else []),
            Text(self._whole(), "cyan", no_wrap=True, overflow="ellipsis"),
        )

    def _whole(self) -> str:
        """The run on one line."""
        done = sum(d for d, _ in self._bytes.values())
        total = sum(t for _, t in self._bytes.values())
        seconds = time.monotonic() - self._began
        rate = f", {size(int(done / seconds))}/s" if done and seconds > 1 else ""
        moved = f", {size(done)} of {size(total)}{rate}" if total else ""
        return f"{self._finished} of {self._images} images{moved}, {duration(seconds)}"

    def _advance(self, event: ImageProgress) -> None:
        assert self._bars is not None  # noqa: S101 - `live` has made them
        task = self._tasks.get(event.target)
        if task is None:
            if len(self._tasks) >= _MOST_BARS:
                return
            task = self._tasks[event.target] = self._bars.add_task(
                "", total=event.total, image=one_line(short(event.target, self._below))
            )
        self._bars.update(task, completed=event.done, total=event.total)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._said >= _PERIOD:
            self._said = now
            self._terminal.info(self._whole(), "dim")

    def _finish(self, result: Result) -> None:
        self._finished += 1
        target = str(result.item.target)
        if self._bars and (task := self._tasks.pop(target, None)) is not None:
            self._bars.remove_task(task)
        mark, style = MARKS[result.outcome]
        self._terminal.info(f"{mark} {short(target, self._below)}  {_end_of(result)}", style)

    def summary(self, report: Report) -> None:
        """All in one line, what registries still grant, and what went wrong, last."""
        counts = ", ".join(f"{n} {o.value}" for o, n in report.outcomes.items() if n)
        copied = sum(r.bytes_copied for r in report.results)
        mounted = sum(r.bytes_mounted for r in report.results)
        parts = [counts or "no images", f"{size(copied)} copied"]
        if mounted:
            parts.append(f"{size(mounted)} shared with other repositories")
        parts.append(duration(report.seconds))
        self._terminal.info("; ".join(parts), "bold")
        for host, remaining, limit in report.quotas:
            self._terminal.info(f"{host}: {remaining} of {limit} pulls are left")
        for note in report.notes:
            self._terminal.detail(note)
        self._errors(report.results)

    def _errors(self, results: Sequence[Result]) -> None:
        told: dict[tuple[str, str, str], list[Result]] = {}
        for result in results:
            # What was not tried says the same as what was.
            if result.error and result.outcome in (Outcome.MISSING, Outcome.FAILED):
                error = result.error
                key = (str(error["what"]), str(error["detail"]), str(error["hint"]))
                told.setdefault(key, []).append(result)
        for alike in list(told.values())[:_MOST_ERRORS]:
            assert alike[0].error  # noqa: S101 - looked at above
            self._terminal.error(from_json(alike[0].error))
            for other in alike[1:]:
                self._terminal.info(f"  as well: {short(str(other.item.target), self._below)}")
        if len(told) > _MOST_ERRORS:
            self._terminal.info(f"and {len(told) - _MOST_ERRORS} other errors: see --json")


@contextmanager
def asking(terminal: Terminal) -> Iterator[None]:
    """Say that registries are asked, where somebody is watching."""
    from rich.spinner import Spinner

    spinner = Spinner("dots", text="asking the registries")
    with live(terminal, lambda: spinner):
        yield


def short(name: str, below: str = "") -> str:
    """A name without what all targets share: REGISTRY/PREFIX, or else the registry."""
    if below and name.startswith(f"{below}/"):
        return name[len(below) + 1 :]
    return name.partition("/")[2] or name


def _end_of(result: Result) -> str:
    words = [result.outcome.value]
    if result.bytes_copied:
        rate = int(result.bytes_copied / result.seconds) if result.seconds else 0
        words.append(f"{size(result.bytes_copied)} in {duration(result.seconds)} ({size(rate)}/s)")
    elif result.bytes_mounted:
        words.append(f"{size(result.bytes_mounted)} shared")
    if result.outcome in (Outcome.COPIED, Outcome.REPLACED) and len(result.tags) > 1:
        words.append("tags " + ", ".join(result.tags))
    if result.repaired:
        words.append(f"{result.repaired} lost blobs sent again")
    if result.referrers:
        words.append(f"{result.referrers} signatures and the like")
    if result.error:
        words.append(one_line(str(result.error["what"])))
    return ", ".join(words)


def _bars(terminal: Terminal) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """Bytes a second; rich's own column has units of 1000 beside DownloadColumn's of 1024."""

        def render(self, task: Task) -> Text:
            return Text(f"{size(int(task.speed))}/s" if task.speed else "", "red")

    return Progress(
        TextColumn("{task.fields[image]}", style="bold", markup=False),
        BarColumn(24),
        DownloadColumn(binary_units=True),
        Speed(),
        TimeRemainingColumn(),
        console=terminal.console,
        auto_refresh=False,
    )
