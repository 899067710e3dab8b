"""A part of the terminal that is kept up to date while the engine works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagebuild.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


@contextmanager
def live(terminal: Terminal, status: Callable[[], RenderableType]) -> Iterator[Live | None]:
    """Show what `status` returns below everything else, and take it away at the end.

    Gives None where nobody is watching, or who watches wants it quiet.
    """
    if not terminal.is_interactive or terminal.verbosity < 0:
        yield None
        return
    from rich.live import Live

    with Live(
        get_renderable=status, console=terminal.console, refresh_per_second=4, transient=True
    ) as shown:
        yield shown
