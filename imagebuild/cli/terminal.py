"""The one object that writes to the terminal.

Data goes to stdout, everything for people to stderr. Colour and live output only
where stderr is a terminal. rich is imported on first use, to keep `--help` instant.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from imagebuild.errors import ImagebuildError


class Terminal:
    """Set up once by the main command (`configure`), used by every verb."""

    def __init__(self) -> None:
        self.verbosity = 0
        self.no_color = False
        self.debug = False
        self._console: Console | None = None

    def configure(self, *, verbosity: int, no_color: bool, debug: bool = False) -> None:
        """Set how much is said (-1 quiet, 0, 1 verbose) and whether colour is allowed.

        `debug` wants a traceback with an error.
        """
        self.verbosity = verbosity
        self.no_color = no_color
        self.debug = debug
        self._console = None

    @property
    def console(self) -> Console:
        """rich's console on stderr."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                stderr=True,
                no_color=self.no_color or None,
                highlight=False,
                soft_wrap=True,
            )
        return self._console

    @property
    def is_interactive(self) -> bool:
        """Whether somebody is watching stderr on a terminal."""
        return sys.stderr.isatty()

    def data(self, text: str) -> None:
        """Print data that a program or a pipe may read."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def json(self, document: Any) -> None:  # noqa: ANN401 - any JSON document
        """Print one JSON document, keys in the order given."""
        self.data(json.dumps(document, indent=2, ensure_ascii=False))

    def info(self, text: str, style: str = "") -> None:
        """Say something to the person, unless quiet."""
        if self.verbosity >= 0:
            self.console.print(text, style=style or None, markup=False)

    def detail(self, text: str) -> None:
        """Say something only when verbose."""
        if self.verbosity > 0:
            self.console.print(text, style="dim", markup=False)

    def warning(self, text: str) -> None:
        """Say what the person should know, even when quiet."""
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    def error(self, error: ImagebuildError) -> None:
        """Render an error: what, where, why, what to try."""
        out = self.console
        out.print(f"error: {error.what}", style="bold red", markup=False)
        if error.where:
            out.print(f"  where: {error.where}", markup=False)
        for line in error.detail.splitlines():
            out.print(f"  | {line}", markup=False)
        if error.hint:
            out.print(f"  try: {error.hint}", style="cyan", markup=False)


terminal = Terminal()
