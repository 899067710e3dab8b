"""The one object that writes to the terminal.

Data goes to stdout, everything for people to stderr. Colour and live output only
where stderr is a terminal. rich is imported on first use, to keep `--help` instant.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.visible import UNSEEN, one_line, visible

if TYPE_CHECKING:
    import click
    from rich.console import Console

    from imagebuild.errors import ImagebuildError

__all__ = ["Terminal", "one_line", "terminal", "visible"]


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

            class People(Console):
                """Ends the program when nobody reads any more, as rich does, but leaves stdout
                alone: its document may well be read.
                """

                def on_broken_pipe(self) -> None:
                    self.quiet = True
                    with Path(os.devnull).open("w") as nowhere:
                        os.dup2(nowhere.fileno(), sys.stderr.fileno())
                    raise SystemExit(1)

            self._console = People(
                stderr=True,
                no_color=self.no_color or None,
                highlight=False,
                emoji=False,
                soft_wrap=True,
            )
        return self._console

    @property
    def out(self) -> Console:
        """rich's console on stdout, for tables that were asked for.

        What is no terminal is as wide as no table: a path stays on one line for whoever
        searches it.
        """
        from rich.console import Console

        return Console(
            width=None if sys.stdout.isatty() else 10_000,
            no_color=self.no_color or None,
            highlight=False,
            emoji=False,
        )

    @property
    def is_interactive(self) -> bool:
        """Whether somebody is watching stderr on a terminal."""
        return sys.stderr.isatty()

    def data(self, text: str) -> None:
        """Print data that a program or a pipe may read, lines of text that are safe to see."""
        text = visible(text)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def json(self, document: Any) -> None:  # noqa: ANN401 - any JSON document
        """Print one JSON document, keys in the order given."""
        text = json.dumps(document, indent=2, ensure_ascii=False)
        # Inside JSON's strings, the only place where they can be, these have JSON's escapes.
        self.data(UNSEEN.sub(lambda m: f"\\u{ord(m[0]):04x}", text))

    def info(self, text: str, style: str = "") -> None:
        """Say something to the person, unless quiet."""
        if self.verbosity >= 0:
            self.console.print(visible(text), style=style or None, markup=False)

    def detail(self, text: str) -> None:
        """Say something only when verbose."""
        if self.verbosity > 0:
            self.console.print(visible(text), style="dim", markup=False)

    def warning(self, text: str) -> None:
        """Say what the person should know, even when quiet."""
        self.console.print(f"warning: {visible(text)}", style="yellow", markup=False)

    def error(self, error: ImagebuildError) -> None:
        """Render an error: what, where, why, what it means, what to try."""
        out = self.console
        out.print(f"error: {one_line(error.what)}", style="bold red", markup=False)
        if error.where:
            out.print(f"  where: {one_line(error.where)}", markup=False)
        detail = error.detail.replace("\r\n", "\n").rstrip("\n")
        for line in detail.split("\n") if detail else ():
            out.print(f"  | {visible(line)}", markup=False)
        if cause := error.cause:
            if cause.line not in error.detail:
                out.print(f"  | {visible(cause.line)}", markup=False)
            out.print(f"  cause: {one_line(cause.title)}", style="bold", markup=False)
            out.print(f"         {one_line(cause.text)}", markup=False)
            for advice in cause.advice:
                out.print(f"  try: {one_line(advice)}", style="cyan", markup=False)
        if error.hint:
            out.print(f"  try: {one_line(error.hint)}", style="cyan", markup=False)

    def traceback(self) -> None:
        """Show where the error that is being handled was raised."""
        import traceback

        sys.stderr.write(visible(traceback.format_exc()))

    def usage(self, error: click.ClickException) -> None:
        """Show what click has to say of a command line that it cannot take apart."""
        text = io.StringIO()
        error.show(text)
        sys.stderr.write(visible(text.getvalue()))
        sys.stderr.flush()


terminal = Terminal()
