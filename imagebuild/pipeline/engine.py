"""A pipeline's run: cells and phases in order, retried, held, reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagebuild.config.pipeline import Pipeline
from imagebuild.pipeline.cells import Cell, Phase, Places
from imagebuild.pipeline.outcome import PhaseReport, RunReport


@dataclass(frozen=True)
class Asked:
    """What of the pipeline is done. `phases`: all when empty; `jobs`: so many image cells at a
    time; `skip_unchanged`: cells that are published are not looked at any further.
    """

    cells: tuple[Cell, ...]
    phases: tuple[Phase, ...] = ()
    jobs: int = 1
    skip_unchanged: bool = False


@dataclass(frozen=True)
class Watch:
    """Who is told: at the start of a phase, with each line that it says, and at its end."""

    started: Callable[[str, Phase, str], None]
    line: Callable[[str, Phase, str], None]
    ended: Callable[[str, PhaseReport], None]


def run(
    pipeline: Pipeline,
    asked: Asked,
    places: Places,
    watch: Watch,
    earlier: Sequence[RunReport] = (),
) -> RunReport:
    """Do it, and write report.json after each phase.

    What fails is in the report and stops its own cell alone. Raises TemporaryError when the
    same pipeline is running, PreflightError when reports cannot be written, and
    RunInterrupted with the report of what was done.
    """
    raise NotImplementedError
