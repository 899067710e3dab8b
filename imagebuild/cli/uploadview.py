"""What people see of an upload: a bar for each cloud, what is done, a table of results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagebuild.cli.live import live
from imagebuild.cli.terminal import Terminal, one_line
from imagebuild.events import Event, Note, Transferred
from imagebuild.units import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, TaskID

    from imagebuild.publish.job import Job
    from imagebuild.publish.upload import Result

#: Seconds between two lines on one upload where nobody is watching.
_PERIOD = 10.0
_STYLES = {
    "uploaded": "green", "present": "green", "updated": "green", "failed": "bold red",
    "would upload": "cyan", "would update": "cyan",
}  # fmt: skip


class View:
    """Receives the engine's events (call it), from several threads too, and shows them.

    `is_several`: more than one cloud is asked.
    """

    def __init__(self, terminal: Terminal, *, is_several: bool) -> None:
        self._terminal = terminal
        self._is_several = is_several
        self._live: Live | None = None
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Transferred):
                (self._advance if self._live else self._tell)(event)
            elif isinstance(event, Note):
                (self._terminal.warning if event.warning else self._terminal.info)(event.text)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show bars, where somebody is watching."""
        bars = self._bars = _bars(self._terminal) if self._terminal.is_interactive else None
        with live(self._terminal, lambda: bars.get_renderable() if bars else "") as self._live:
            yield
        self._live = None

    def _advance(self, event: Transferred) -> None:
        assert self._bars is not None  # noqa: S101 - `live` has made them
        task = self._tasks.get(event.cloud)
        if task is None:
            task = self._tasks[event.cloud] = self._bars.add_task(
                "", total=event.total, cloud=one_line(event.cloud)
            )
        if event.done < self._bars.tasks[self._bars.task_ids.index(task)].completed:
            self._bars.reset(task)  # another try
        is_over = event.done >= event.total
        text = "the cloud stores it" if is_over and event.what != "comparing" else event.what
        self._bars.update(task, completed=event.done, total=event.total, description=text)

    def _tell(self, event: Transferred) -> None:
        from imagebuild.units import size

        now = time.monotonic()
        since = self._said.setdefault(event.cloud, now)
        if now - since >= _PERIOD or event.done >= event.total:
            self._said[event.cloud] = now
            part = f"{100 * event.done // max(event.total, 1)} %"
            self._terminal.info(
                f"{event.cloud}: {event.what}: {size(event.done)} of {size(event.total)} ({part})",
                "dim",
            )

    def done(self, result: Result) -> None:
        """One cloud has its result."""
        with self._lock:
            if self._bars and (task := self._tasks.pop(result.cloud, None)) is not None:
                self._bars.remove_task(task)
            if result.error and self._is_several:
                self._terminal.info(f"✗ {result.cloud}: {one_line(result.error.what)}", "bold red")
            elif result.status == "uploaded":
                self._terminal.info(f"✓ {result.cloud}: {result.image}", "green")

    def plan(self, job: Job) -> None:
        """What goes up, before anything does."""
        from imagebuild.units import size

        wanted, source = job.description, job.source
        how = f", converted to {source.format}" if source.is_converted else ""
        file = f"{source.image.path.name} ({size(source.image.size)}{how})"
        self._terminal.info(f"image: {file}")
        tags = ", ".join(wanted.tags) or "none yet"
        # Unsaid, it is private for a new image, and what it was for one that is there.
        visibility = f", {wanted.visibility}" if wanted.visibility else ""
        self._terminal.info(f"name: {wanted.name}{visibility}, tags: {tags}")
        show = self._terminal.info if job.way.dry_run else self._terminal.detail
        show(f"min_disk {wanted.min_disk} GiB, min_ram {wanted.min_ram} MiB")
        for name, value in wanted.properties.items():
            show(f"  {name}={value}")

    def summary(self, results: Sequence[Result]) -> None:
        """A table of all clouds, and what went wrong, last."""
        from imagebuild.cli.tables import Tables
        from imagebuild.units import size

        # One cloud that failed has said it all with its error.
        if self._terminal.verbosity >= 0 and (self._is_several or not results[0].error):
            rows = []
            for result in results:
                sent = result.bytes if result.seconds else 0
                speed = f"{size(int(sent / result.seconds))}/s" if sent else "-"
                took = duration(result.seconds) if result.seconds else "-"
                rows.append((result.cloud, result.status, took, speed, result.image or "-"))
            Tables(self._terminal.console).table(
                "Clouds", ("cloud", "result", "time", "speed", "image"), rows, ("time", "speed"),
                [_STYLES[r.status] for r in results],
            )  # fmt: skip
        for result in results:
            if result.error:
                self._terminal.error(result.error)


def _bars(terminal: Terminal) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.fields[cloud]}", style="bold", markup=False),
        BarColumn(24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style="dim", markup=False),
        console=terminal.console,
        auto_refresh=False,
    )
