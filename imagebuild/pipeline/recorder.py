"""What has become of a run so far, kept by several threads; report.json follows it."""

from __future__ import annotations

import dataclasses
import platform
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagebuild import __version__
from imagebuild.errors import ImagebuildError
from imagebuild.pipeline import reporting
from imagebuild.pipeline.cells import Cell, MirrorCell, Phase
from imagebuild.pipeline.outcome import CellReport, PhaseReport, RunReport, Status
from imagebuild.pipeline.watch import Watch

_ORDER = tuple(Phase)


class Recorder:
    """The report while it grows. Cells stand in the order of the file."""

    def __init__(self, pipeline: str, cells: Sequence[Cell], directory: Path, watch: Watch) -> None:
        self.started = time.time()
        self._clock = time.monotonic()
        self._pipeline = pipeline
        self._directory = directory
        self._watch = watch
        self._cells = {c.id: _empty(c) for c in cells}
        self._notes: list[str] = []
        self._lock = threading.Lock()

    def add(self, cell_id: str, report: PhaseReport) -> None:
        """A phase has ended: whoever watches is told, and report.json written."""
        with self._lock:
            cell = self._cells[cell_id]
            phases = (*cell.phases, report)
            self._cells[cell_id] = dataclasses.replace(cell, phases=phases)
            self._save()
        self._watch.ended(cell_id, report)

    def describe(self, cell_id: str, **fields: Any) -> None:  # noqa: ANN401 - of CellReport
        """What is known of a cell now: `build_id`, `artifact`, `image`."""
        with self._lock:
            self._cells[cell_id] = dataclasses.replace(self._cells[cell_id], **fields)

    def note(self, text: str) -> None:
        """What people should know of the run as a whole."""
        with self._lock:
            if text not in self._notes:
                self._notes.append(text)

    def begin(self) -> None:
        """Write the report of a run that has done nothing yet. Raises PreflightError."""
        reporting.save(self.report(complete=False), self._directory)

    def report(self, *, complete: bool) -> RunReport:
        """The report as it is now."""
        return RunReport(
            pipeline=self._pipeline,
            run=self._directory.name,
            started=self.started,
            seconds=time.monotonic() - self._clock,
            cells=tuple(_sorted(c) for c in self._cells.values()),
            tool=__version__,
            host=platform.node(),
            complete=complete,
            notes=tuple(self._notes),
        )

    def interrupt(self, error: dict[str, Any]) -> None:
        """See that a phase says so when a signal came between two."""
        with self._lock:
            held: list[tuple[str, int]] = []
            for cell in self._cells.values():
                if any(p.status is Status.INTERRUPTED for p in cell.phases):
                    return
                held += [(cell.id, n) for n, p in enumerate(cell.phases) if p.status is Status.HELD]
            for cell_id, number in held[:1]:
                cell = self._cells[cell_id]
                phases = list(cell.phases)
                phases[number] = dataclasses.replace(
                    phases[number], status=Status.INTERRUPTED, error=error, why=""
                )
                self._cells[cell_id] = dataclasses.replace(cell, phases=tuple(phases))

    def _save(self) -> None:
        # A full disk is told at the end, when the whole report cannot be written.
        try:
            reporting.save(self.report(complete=False), self._directory)
        except ImagebuildError as exc:
            text = f"{exc.what}: {exc.where}"
            if text not in self._notes:
                self._notes.append(text)


def _empty(cell: Cell) -> CellReport:
    if isinstance(cell, MirrorCell):
        return CellReport(cell.id, "mirror", ())
    series = str(cell.series) if cell.series else ""
    return CellReport(
        cell.id, "image", (), profile=cell.profile, series=series, arch=str(cell.arch)
    )


def _sorted(cell: CellReport) -> CellReport:
    phases = tuple(sorted(cell.phases, key=lambda p: _ORDER.index(p.phase)))
    return dataclasses.replace(cell, phases=phases)
