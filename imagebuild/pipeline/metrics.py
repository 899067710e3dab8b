"""metrics.prom: a run for Prometheus's node_exporter (its textfile collector).

Format: "Text-based format" of Prometheus's exposition formats; names and units go by
prometheus.io/docs/practices/naming. All are gauges of the last run, and have the label
`pipeline`; a cell's are there for the cells of that run.

    imagebuild_pipeline_last_run_timestamp_seconds           when it ended
    imagebuild_pipeline_last_success_timestamp_seconds       when one last ended with exit code 0
    imagebuild_pipeline_duration_seconds                     how long it took
    imagebuild_pipeline_exit_code                            what it ended with
    imagebuild_pipeline_complete                             1; 0 when it was killed
    imagebuild_pipeline_cells{status}                        cells by status; all six are there
    imagebuild_pipeline_cell_last_success_timestamp_seconds{cell}  when it was last good
    imagebuild_pipeline_result{cell,phase}                   1: good or nothing to do; 0: not
    imagebuild_pipeline_phase_duration_seconds{cell,phase}   all its commands, retries included
    imagebuild_pipeline_phase_attempts{cell,phase}           tries of its commands
    imagebuild_pipeline_stage_duration_seconds{cell,stage}   of the image's build
    imagebuild_pipeline_stage_reused{cell,stage}             1: it came from the store
    imagebuild_pipeline_image_created_timestamp_seconds{cell}  when its build ended
    imagebuild_pipeline_image_size_bytes{cell,kind}          qcow2, raw, …: the file;
                                                             virtual: the disk; rootfs: all files
    imagebuild_pipeline_image_packages{cell,kind}            how many it has; kind: deb, python
    imagebuild_pipeline_image_changed_packages{cell,kind}    … other than the last good image's
    imagebuild_pipeline_image_checks{cell,outcome}           of verify; all five are there
    imagebuild_pipeline_image_boot_duration_seconds{cell,machine}  start to the last milestone
    imagebuild_pipeline_image_info{cell,build_id,agent,series,proven}  always 1

The times of the last success are kept over failed runs, and are not there before one succeeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from imagebuild.errors import ConfigError, ExitCode
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.changes import changes, last_facts
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import GOOD, CellReport, RunReport, Status
from imagebuild.prometheus import Sample, gauges

_P = "imagebuild_pipeline"
_SUCCESS = f"{_P}_last_success_timestamp_seconds"
_CELL_SUCCESS = f"{_P}_cell_last_success_timestamp_seconds"
_OUTCOMES = ("passed", "warning", "failed", "unknown", "skipped")

#: In the order of the file.
HELP = {
    f"{_P}_last_run_timestamp_seconds": "End of the last run.",
    _SUCCESS: "End of the last run with exit code 0.",
    f"{_P}_duration_seconds": "Duration of the last run.",
    f"{_P}_exit_code": "Exit code of the last run.",
    f"{_P}_complete": "Whether the last run came to its end.",
    f"{_P}_cells": "Cells of the last run by status.",
    _CELL_SUCCESS: "End of the last run in which the cell was good.",
    f"{_P}_result": "Whether the phase was good, or had nothing to do.",
    f"{_P}_phase_duration_seconds": "Duration of the phase, retries included.",
    f"{_P}_phase_attempts": "Tries of the phase's commands.",
    f"{_P}_stage_duration_seconds": "Duration of a stage of the image's build.",
    f"{_P}_stage_reused": "Whether the stage came from the store.",
    f"{_P}_image_created_timestamp_seconds": "End of the image's build.",
    f"{_P}_image_size_bytes": "Size of the image's file, of its disk, of all files in it.",
    f"{_P}_image_packages": "Packages of the image.",
    f"{_P}_image_changed_packages": "Packages that differ from those of the last good image.",
    f"{_P}_image_checks": "Checks of the image's verification by outcome.",
    f"{_P}_image_boot_duration_seconds": "Time from a machine's start to its last milestone.",
    f"{_P}_image_info": "What the image is.",
}

_LINE = re.compile(rf"({_SUCCESS}|{_CELL_SUCCESS}){{([^}}]*)}} ([0-9.]+)")
_CELL = re.compile(r'(?:^|,)cell="([^"\\]*)"')


def render(
    report: RunReport, earlier: Sequence[RunReport], known: Mapping[str, float] | None = None
) -> str:
    """The file's text; the time of a last success may come from an earlier run, or from
    `known` (`successes` of an older file). Pure.
    """
    # What an older writing of this very report knew is not an earlier success.
    before = {c: t for c, t in (known or {}).items() if t < report.started}
    return gauges(HELP, _samples(report, earlier, before), {"pipeline": report.pipeline})


def successes(text: str) -> dict[str, float]:
    """The times of the last successes that an older file has: cell → seconds since 1970, the
    run's by the name "".
    """
    found = {}
    for line in _LINE.finditer(text):
        cell = _CELL.search(line[2])
        found[cell[1] if cell else ""] = float(line[3])
    return found


def _samples(
    report: RunReport, earlier: Sequence[RunReport], known: Mapping[str, float]
) -> Iterator[Sample]:
    end = report.started + report.seconds
    yield f"{_P}_last_run_timestamp_seconds", {}, end
    is_good = report.exit_code == ExitCode.OK
    good = [r.started + r.seconds for r in earlier if r.exit_code == ExitCode.OK]
    if success := _latest([end] if is_good else good, known.get("")):
        yield _SUCCESS, {}, success
    yield f"{_P}_duration_seconds", {}, report.seconds
    yield f"{_P}_exit_code", {}, int(report.exit_code)
    yield f"{_P}_complete", {}, int(report.complete)
    for status in Status:
        number = sum(c.status is status for c in report.cells)
        yield f"{_P}_cells", {"status": status.value}, number
    for cell in report.cells:
        yield from _of_cell(cell, report, earlier, known)


def _of_cell(
    cell: CellReport, report: RunReport, earlier: Sequence[RunReport], known: Mapping[str, float]
) -> Iterator[Sample]:
    ends = [
        r.started + r.seconds
        for r in (*earlier, report)
        if (c := r.cell(cell.id)) and c.phases and c.status in GOOD
    ]
    if success := _latest(ends, known.get(cell.id)):
        yield _CELL_SUCCESS, {"cell": cell.id}, success
    for which in Phase:
        phases = [p for p in cell.phases if p.phase is which]
        if not phases:
            continue
        labels = {"cell": cell.id, "phase": which.value}
        yield f"{_P}_result", labels, int(all(p.status in GOOD for p in phases))
        yield f"{_P}_phase_duration_seconds", labels, sum(p.seconds for p in phases)
        yield f"{_P}_phase_attempts", labels, sum(len(p.attempts) for p in phases)
    if cell.image:
        try:
            image = ImageFacts.from_json(cell.image)
        except ConfigError:
            return
        yield from _of_image(cell, image, earlier)


def _of_image(
    cell: CellReport, image: ImageFacts, earlier: Sequence[RunReport]
) -> Iterator[Sample]:
    own = {"cell": cell.id}
    for stage, seconds, is_reused in image.stages:
        yield f"{_P}_stage_duration_seconds", own | {"stage": stage}, seconds
        yield f"{_P}_stage_reused", own | {"stage": stage}, int(is_reused)
    if image.created:
        yield f"{_P}_image_created_timestamp_seconds", own, image.created
    sizes = {**image.files, "virtual": image.virtual_size, "rootfs": image.rootfs}
    for kind, size in sizes.items():
        if size is not None:
            yield f"{_P}_image_size_bytes", own | {"kind": kind}, size
    yield f"{_P}_image_packages", own | {"kind": "deb"}, len(image.packages)
    yield f"{_P}_image_packages", own | {"kind": "python"}, len(image.python_packages)
    if before := last_facts(cell.id, earlier):
        changed = changes(before[1], image, before[0])
        for kind, pairs in (("deb", changed.packages), ("python", changed.python_packages)):
            yield f"{_P}_image_changed_packages", own | {"kind": kind}, len(pairs)
    if image.checks:
        for outcome in _OUTCOMES:
            number = sum(c["outcome"] == outcome for c in image.checks)
            yield f"{_P}_image_checks", own | {"outcome": outcome}, number
    for machine, marks in image.boots.items():
        if marks:
            last = max(seconds for _, seconds in marks)
            yield f"{_P}_image_boot_duration_seconds", own | {"machine": machine}, last
    agent = {"agent": "version", "series": "series"}
    labels = own | {"build_id": image.build_id}
    labels |= {k: str(image.agent.get(v) or "") for k, v in agent.items()}
    yield f"{_P}_image_info", labels | {"proven": image.proven or "none"}, 1


def _latest(times: Sequence[float], known: float | None) -> float | None:
    return max((*times, *(() if known is None else (known,))), default=None)
