"""Renders the engine's events: a live view on a terminal, plain lines elsewhere.

Both write the whole output of the programs to the log file, with secrets struck out.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.cli.live import live
from imagebuild.cli.terminal import Terminal
from imagebuild.events import (
    Event,
    Note,
    Output,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from imagebuild.units import duration

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

STAGE_TEXT = {
    "base": "distribution, kernel, cloud-init, docker",
    "agent": "guest agent",
    "containers": "preloaded databases",
    "disk": "partitions, filesystem, bootloader",
    "formats": "image files",
}
#: Steps shorter than this are not worth a line outside a terminal, in seconds.
PLAIN_STEP = 5.0


class Renderer:
    """Receives events (call it) and shows them. Use `live()` around the engine's run."""

    def __init__(self, terminal: Terminal, log: Path, secrets: Sequence[str] = ()) -> None:
        self._terminal = terminal
        self._secrets = tuple(s for s in secrets if s)
        self._log = log.open("a", encoding="utf-8", errors="replace")
        self._log_is_whole = True
        self._live: Live | None = None
        self._stage: tuple[str, float] | None = None
        self._step: tuple[str, float] | None = None

    def __call__(self, event: Event) -> None:
        self._write_log(event)
        if isinstance(event, StageStarted):
            self._stage = (event.stage, time.monotonic())
            if not self._live:
                self._terminal.info(f"{event.stage}: {STAGE_TEXT[event.stage]}")
        elif isinstance(event, StageFinished):
            self._stage = self._step = None
            took = "already built" if event.reused else duration(event.seconds)
            self._terminal.info(f"✓ {event.stage:10} {STAGE_TEXT[event.stage]:42} {took}", "green")
        elif isinstance(event, StepStarted):
            self._step = (f"{event.phase}/{event.name}", time.monotonic())
        elif isinstance(event, StepFinished):
            self._step = None
            text = f"    {event.phase}/{event.name}  {duration(event.seconds)}"
            if self._terminal.verbosity > 0 or (not self._live and event.seconds >= PLAIN_STEP):
                self._terminal.info(text, "dim")
        elif isinstance(event, Output):
            if self._terminal.verbosity > 0:
                self._terminal.detail(f"    {self.clean(event.line)}")
        elif isinstance(event, Note):
            (self._terminal.warning if event.warning else self._terminal.info)(event.text)

    def _write_log(self, event: Event) -> None:
        if isinstance(event, Output):
            line = event.line
        elif isinstance(event, StageStarted):
            line = f"=== stage {event.stage} {event.id}"
        elif isinstance(event, StageFinished):
            line = f"=== stage {event.stage} done in {event.seconds} s"
        else:
            return
        try:
            self._log.write(f"{time.strftime('%H:%M:%S')} {self.clean(line)}\n")
            self._log.flush()
        except OSError:  # a full disk: the build itself will say so
            self._log_is_whole = False

    def clean(self, line: str) -> str:
        """The text with every secret struck out."""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show a status line that is kept up to date, where somebody is watching."""
        with live(self._terminal, self._status) as self._live:
            yield
        self._live = None

    def _status(self) -> Group:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        lines: list[Any] = []
        now = time.monotonic()
        if self._stage:
            name, since = self._stage
            text = Text.assemble(
                (f"{name:10} ", "bold"),
                f"{STAGE_TEXT[name]:42} ",
                (duration(now - since), "cyan"),
            )
            spinner = Spinner("dots", text=text)
            spinner.start_time = 0.0
            lines.append(spinner)
        if self._step:
            name, since = self._step
            lines.append(Text(f"           {name}  {duration(now - since)}", "dim"))
        return Group(*lines)

    def close(self) -> None:
        """Close the log."""
        with contextlib.suppress(OSError):
            self._log.close()
        if not self._log_is_whole:
            self._terminal.warning(f"the log is not complete: {self._log.name}")
