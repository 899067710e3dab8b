"""What the cells of one run share."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.config.pipeline import Pipeline
from imagebuild.config.values import parse_duration
from imagebuild.pipeline.cells import Cell, Phase, Places
from imagebuild.pipeline.outcome import RunReport
from imagebuild.pipeline.phaserun import PhaseRun
from imagebuild.pipeline.process import Children
from imagebuild.pipeline.recorder import Recorder
from imagebuild.pipeline.unchanged import Look
from imagebuild.pipeline.watch import Watch


@dataclass(frozen=True)
class Asked:
    """What of the pipeline is done. `phases`: all when empty; `jobs`: so many image cells at a
    time; `skip_unchanged`: cells that are published are not looked at any further.
    `artifact`: of the one cell, where it is not built. `wait`: for another run to end.
    """

    cells: tuple[Cell, ...]
    phases: tuple[Phase, ...] = ()
    jobs: int = 1
    skip_unchanged: bool = False
    artifact: str = ""
    wait: bool = False

    def has(self, phase: Phase) -> bool:
        """Whether that phase is asked for."""
        return not self.phases or phase in self.phases


@dataclass(frozen=True)
class Night:
    """One run: what is asked, where it works, and who is told."""

    pipeline: Pipeline
    asked: Asked
    places: Places
    directory: Path
    children: Children
    recorder: Recorder
    watch: Watch
    earlier: Sequence[RunReport]
    #: `look` is for one thread at a time.
    looking: threading.Lock = field(default_factory=threading.Lock)

    @functools.cached_property
    def look(self) -> Look:
        """Says which cells have nothing to do."""
        return Look(self.places, earlier=self.earlier)

    def phase(self, cell_id: str, phase: Phase, target: str = "") -> PhaseRun:
        """Begin a phase, with its limit."""
        limit = getattr(self.pipeline.timeouts, _LIMITS.get(phase, "publish"))
        return PhaseRun(
            cell_id,
            phase,
            target,
            directory=self.directory,
            children=self.children,
            watch=self.watch,
            retry=self.pipeline.retry,
            seconds=float(parse_duration(limit)) if limit else None,
        )


_LIMITS = {Phase.MIRROR: "mirror", Phase.BUILD: "build", Phase.VERIFY: "verify"}
