"""What people see of a backup image's build: what it does just now, and what has come of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagebuild.cli.live import live
from imagebuild.cli.terminal import Terminal, one_line, terminal
from imagebuild.events import Event, Note, Output, StageFinished, StageStarted, Transferred
from imagebuild.units import duration

if TYPE_CHECKING:
    from rich.text import Text

    from imagebuild.backupimage.job import Prepared, Result

_DONE = {
    "base": "base image fetched", "build": "built", "check": "its tools run", "pack": "packed",
    "push": "pushed",
}  # fmt: skip
#: Seconds between two lines of a build that nobody watches.
_PERIOD = 15.0


class View:
    """Receives the engine's events (call it) and shows them."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._watched = False
        self._stage = ""
        self._line = ""
        self._start = time.monotonic()
        self._said = self._start

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            (self._terminal.warning if event.warning else self._terminal.info)(event.text)
        elif isinstance(event, StageStarted):
            self._stage, self._line, self._start = event.stage, "", time.monotonic()
        elif isinstance(event, StageFinished):
            self._stage = ""
            self._terminal.info(f"✓ {_DONE[event.stage]} ({duration(event.seconds)})", "green")
        elif isinstance(event, Output):
            self._line = event.line
            self._terminal.detail(event.line)
            self._tell(event.line)
        elif isinstance(event, Transferred):
            from imagebuild.units import size

            self._line = f"{size(event.done)} of {size(event.total)}"
            self._tell(f"{event.what}: {self._line}")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show what goes on, where somebody is watching."""
        with live(self._terminal, self._status) as shown:
            self._watched = shown is not None
            yield
        self._watched = False

    def plan(self, prepared: Prepared) -> None:
        """What is going to be built, before it is."""
        for line in _plan(prepared):
            self._terminal.info(line)

    def summary(self, prepared: Prepared, result: Result) -> None:
        """What has come of it."""
        from imagebuild.units import size

        tools = ", ".join(" ".join(filter(None, (t.tool, t.version))) for t in result.tools)
        self._terminal.info(f"digest:  {result.image.manifest.digest}")
        self._terminal.info(f"size:    {size(result.image.size)}; {tools}")
        for target in prepared.request.targets:
            self._terminal.info(f"tag:     {target}")
        if prepared.request.output:
            self._terminal.info(f"file:    {prepared.request.output}")
        if prepared.request.targets:
            name = prepared.request.targets[0].name
            self._terminal.info(
                f"guests:  trove-guestagent.conf, [{prepared.datastore.name}] "
                f"backup_docker_image = {name}"
            )

    def _tell(self, line: str) -> None:
        """A line now and then where nobody is watching, so that a log shows that it goes on."""
        now = time.monotonic()
        if not self._watched and self._terminal.verbosity == 0 and now - self._said > _PERIOD:
            self._said = now
            self._terminal.info(f"{self._stage}: {one_line(line)[:160]}", "dim")

    def _status(self) -> Text | str:
        from rich.text import Text

        if not self._stage:
            return ""
        passed = duration(time.monotonic() - self._start)
        width = max(self._terminal.console.width - 1, 20)
        shown = Text(f"{self._stage} {passed}  {one_line(self._line)}", style="dim")
        shown.truncate(width, overflow="ellipsis")
        return shown


def dockerfile(prepared: Prepared) -> str:
    """The Dockerfile as it is built, its base image under its own name."""
    from imagebuild.backupimage.dockerfile import HELPER

    pinned = prepared.base.reference.at(prepared.base.manifest.digest)
    return prepared.text(str(pinned), [f'SHELL ["{HELPER}/shell"]'])


def show_plan(prepared: Prepared) -> None:
    """Print what `--dry-run` found out."""
    lines = _plan(prepared)
    arguments = [f"  {k}={v}" for k, v in prepared.arguments.items()]
    labels = [f"  {k}={v}" for k, v in prepared.labels.items()]
    text = dockerfile(prepared).splitlines()
    terminal.data("\n".join([
        *map(one_line, lines), "arguments", *arguments, "labels", *map(one_line, labels),
        "Dockerfile", *(f"  {line}".rstrip() for line in text),
    ]))  # fmt: skip


def _plan(prepared: Prepared) -> list[str]:
    context, request = prepared.context, prepared.request
    commit = f", commit {context.commit[:12]}" if context.commit else ""
    dirty = " (changed since)" if context.dirty else ""
    lines = [
        f"image:   db-backup for {prepared.datastore.name} {request.version}, {prepared.arch}",
        f"trove:   {context.version or 'of no known version'}{commit}{dirty} ({context.requested})",
        f"base:    {prepared.base.reference} ({prepared.base.manifest.digest[:19]})",
        f"tools:   {', '.join(' or '.join(t.names) for t in prepared.tools)}, "
        f"from {request.packages.value}",
        f"builder: {prepared.builder}",
    ]
    return lines + [f"target:  {target}" for target in request.targets]
