"""A pipeline's run: cells and phases in order, retried, held, reported.

Mirror cells come first, one after the other; then image cells, `jobs` at a time. Each phase
is a child process (`process`, `trying`), its answer is read by `answers`, and what of it is
left to do, each verb sees by itself.

Which artifact a cell has:

- where the build phase is among what is asked for: the one that `build` says;
- else the one that is named (`Asked.artifact`, --artifact DIR);
- else the newest report below REPORTS/NAME in which the cell has an artifact, by whichever
  run, complete or not, says it: at the path that it names, or, where that is not there since
  another machine has built it, the directory of that name in IMAGES.

So a job that builds hands on two directories: REPORTS, and of IMAGES the artifact's directory
(its name is in the report; $GITHUB_OUTPUT gets `artifact=PATH` and `build_id=ID`). Jobs that
verify and publish are given the same --reports and --images-dir; verify.json lies in the
artifact, so what a verifying job hands on is the same two directories again.
"""

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
    `artifact`: of the one cell, where it is not built.
    """

    cells: tuple[Cell, ...]
    phases: tuple[Phase, ...] = ()
    jobs: int = 1
    skip_unchanged: bool = False
    artifact: str = ""
    wait: bool = False


@dataclass(frozen=True)
class Watch:
    """Who is told, by several threads: at the start of a phase, with each line that it says,
    and at its end (cell's id, phase, target or line).
    """

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
