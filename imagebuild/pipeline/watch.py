"""Who is told of a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import PhaseReport


@dataclass(frozen=True)
class Watch:
    """Who is told, by several threads: at the start of a phase (cell's id, phase, target), with
    each line that it says (cell's id, phase, line), and at its end.
    """

    started: Callable[[str, Phase, str], None]
    line: Callable[[str, Phase, str], None]
    ended: Callable[[str, PhaseReport], None]
