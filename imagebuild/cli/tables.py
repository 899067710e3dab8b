"""Tables and lines of reports, on the console of data."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imagebuild.cli.terminal import one_line

#: Width of lines of words where there is no terminal to say it.
_WIDTH = 80
#: Blanks at a line's end, which rich fills columns with, and the codes of colours after them.
_BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)
#: Width of a whole bar, in characters.
_BAR = 16


class Tables:
    """Writes to one console. Whatever a name in an image holds, it is shown as plain text."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str | Text = "") -> None:
        """One line, wrapped between words where it is too long."""
        shown = Text(one_line(text)) if isinstance(text, str) else text
        self._print(shown, None if self._console.is_terminal else _WIDTH)

    def heading(self, text: str) -> None:
        """A section's title, an empty line before it."""
        self.line()
        self._print(Text(one_line(text), "bold"))

    def pairs(self, rows: Sequence[tuple[str, str | Text]]) -> None:
        """Names and values, the values under each other."""
        table = _grid()
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(one_line(value)) if isinstance(value, str) else value)
        self._print(table)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        numeric: Collection[str] = (),
        styles: Sequence[str] = (),
    ) -> None:
        """A titled table. Columns in `numeric` are set to the right and never wrapped;
        `styles` has one for the second cell of each row.
        """
        self.heading(title)
        if not rows:
            return
        table = _grid(show_header=True)
        for column in columns:
            right = column in numeric
            table.add_column(
                column,
                justify="right" if right else "left",
                no_wrap=right,
                overflow="fold",
                header_style="dim",
            )
        for number, row in enumerate(rows):
            cells = [Text(one_line(cell)) for cell in row]
            if styles and len(cells) > 1:
                cells[1].stylize(styles[number])
            table.add_row(*cells)
        self._print(table)

    def words(self, words: Sequence[str]) -> None:
        """Words in a paragraph."""
        self.line(", ".join(words) or "none")

    def _print(self, shown: Table | Text, width: int | None = None) -> None:
        with self._console.capture() as captured:
            self._console.print(shown, width=width)
        self._console.file.write(_BLANKS.sub(r"\1", captured.get()))


def bar(part: float) -> str:
    """A bar for a part of one, at least a thin one where there is anything."""
    eighths = round(part * _BAR * 8)
    full, rest = divmod(max(eighths, 1 if part > 0 else 0), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _grid(*, show_header: bool = False) -> Table:
    return Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=show_header, show_edge=False
    )
