"""The reports of several machines as one: what `pipeline collect` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from imagebuild.errors import ConfigError, ExitCode
from imagebuild.pipeline.cells import Cell, Job, MirrorCell, Phase
from imagebuild.pipeline.outcome import GOOD, CellReport, PhaseReport, RunReport, Status

_PHASES = tuple(Phase)
_JOBS = {phase: number for number, job in enumerate(Job) for phase in job.phases}
#: Ends of a phase that was not tried.
_UNTRIED = (Status.SKIPPED, Status.HELD)
#: In the result of a phase that stands for one that no report has (`add_missing`).
_MISSING = "missing"


def merge(reports: Sequence[RunReport]) -> RunReport:
    """The reports of several machines as one: of a phase that several have, the last one that
    did something counts. The same reports in any order, and the result among them, make the
    same result. Raises ConfigError when there are none, or they are of different pipelines.
    """
    if not reports:
        raise ConfigError("there are no reports to merge")
    if len(names := sorted({r.pipeline for r in reports})) > 1:
        raise ConfigError(
            "the reports are of different pipelines",
            detail=", ".join(names),
            hint="collect one pipeline's at a time",
        )
    ordered = sorted(reports, key=_place)
    if len(labels := sorted({p for r in reports for p in r.parts or (r.label,)})) == 1:
        labels = []
    started = ordered[0].started
    # As they came up first: mirror lists before images, as the pipeline's file has them.
    ids = list(dict.fromkeys(c.id for r in ordered for c in r.cells))
    cells = [_merge_cell([c for r in ordered for c in r.cells if c.id == i]) for i in ids]
    return RunReport(
        pipeline=ordered[0].pipeline,
        run=max(r.run for r in reports),
        started=started,
        seconds=round(max(r.started + r.seconds for r in reports) - started, 3),
        cells=tuple(sorted(cells, key=lambda c: c.kind != "mirror")),
        tool=_words(r.tool for r in ordered),
        host=_words(r.host for r in ordered),
        complete=is_complete(ordered),
        notes=tuple(dict.fromkeys(n for r in ordered for n in r.notes)),
        parts=tuple(labels),
    )


def _place(report: RunReport) -> tuple[object, ...]:
    """By time; what began in one second on several machines has an order, too."""
    first = [(c.id, p.phase.value, p.target) for c in report.cells[:1] for p in c.phases[:1]]
    return (report.started, report.run, report.host, first)


def _words(texts: Iterable[str]) -> str:
    return ", ".join(sorted({w for t in texts for w in t.split(", ") if w}))


def is_complete(reports: Sequence[RunReport], *, is_all_there: bool = False) -> bool:
    """Whether every report came to its end, or its job was run again and did: a later one has
    all that it has.

    One that was killed before it had done anything says not even what it was asked for: it
    counts unless it is known by other means that everything is there (`add_missing`).
    """
    return all(
        r.complete or (is_all_there and not _done(r)) or _is_superseded(r, reports) for r in reports
    )


def _is_superseded(killed: RunReport, reports: Sequence[RunReport]) -> bool:
    ids = {c.id for c in killed.cells}
    return bool(_done(killed)) and any(
        r.complete
        and r.started > killed.started
        and ids <= {c.id for c in r.cells}
        and _done(killed) <= _done(r)
        for r in reports
    )


def _done(report: RunReport) -> set[tuple[str, Phase, str]]:
    return {(c.id, p.phase, p.target) for c in report.cells for p in c.phases}


def _merge_cell(cells: Sequence[CellReport]) -> CellReport:
    """One cell, of reports in the order of time."""
    found: dict[tuple[Phase, str], list[PhaseReport]] = {}
    for cell in cells:
        for phase in cell.phases:
            if not phase.result.get(_MISSING):
                found.setdefault((phase.phase, phase.target), []).append(phase)
    phases = [_last(reports) for reports in found.values()]
    # "Not tried" without a target stands for the whole phase.
    tried = {p.phase for p in phases if p.status not in _UNTRIED}
    phases = [p for p in phases if p.target or p.status not in _UNTRIED or p.phase not in tried]
    built = next((c for c in reversed(cells) if c.build_id and _has_done(c, Phase.BUILD)), None)
    known = built or next((c for c in reversed(cells) if c.build_id), cells[-1])
    return dataclasses.replace(
        known,
        phases=_in_order(phases),
        profile=known.profile or next((c.profile for c in cells if c.profile), ""),
        series=known.series or next((c.series for c in cells if c.series), ""),
        arch=known.arch or next((c.arch for c in cells if c.arch), ""),
        image=_image(cells, known),
    )


def _in_order(phases: Iterable[PhaseReport]) -> tuple[PhaseReport, ...]:
    """Job by job; within one as its report has them: cloud by cloud."""
    return tuple(sorted(phases, key=lambda p: _JOBS[p.phase]))


def _has_done(cell: CellReport, which: Phase) -> bool:
    return any(p.phase is which and p.status not in _UNTRIED for p in cell.phases)


def _image(cells: Sequence[CellReport], known: CellReport) -> dict[str, object] | None:
    """The image's facts from who knows most of it: what verify found is not known to who built."""
    images = [dict(c.image) for c in cells if c.image and c.build_id == known.build_id]
    verified = [i for i in images if i.get("verdict")]
    found = verified or images
    return found[-1] if found else None


def _last(reports: Sequence[PhaseReport]) -> PhaseReport:
    """What counts of the reports of one phase."""
    tried = sorted((p for p in reports if p.status not in _UNTRIED), key=lambda p: p.started)
    if not tried:
        # That it was held tells more than that somebody else was not asked to do it.
        return next((p for p in reports if p.status is Status.HELD), reports[-1])
    last = tried[-1]
    if last.status is Status.UNCHANGED and len(tried) > 1 and tried[-2].status is Status.PASSED:
        return _last(tried[:-1])  # run again: it is the first that did it
    return last


def add_missing(report: RunReport, cells: Sequence[Cell]) -> tuple[RunReport, tuple[str, ...]]:
    """The report with what the pipeline's file asks for and no report has, as failed; and a
    sentence for each cell of that kind. A job that never ran must not look like a good one.
    """
    known = {c.id: c for c in report.cells}
    merged, sentences = [], []
    for cell in cells:
        there = known.pop(cell.id, None) or _nothing_of(cell)
        full = _completed(there, cell)
        if full is not there:
            absent = [p.phase.value for p in full.phases if p not in there.phases]
            what = "no report has it" if not there.phases else "never ran: " + ", ".join(absent)
            sentences.append(f"{cell.id}: {what}")
        merged.append(full)
    notes = [f"{i} is in a report, but not in the pipeline's file" for i in known]
    return dataclasses.replace(
        report,
        cells=tuple(sorted((*merged, *known.values()), key=lambda c: c.kind != "mirror")),
        notes=tuple(dict.fromkeys((*report.notes, *notes))),
    ), tuple(sentences)


def _nothing_of(cell: Cell) -> CellReport:
    if isinstance(cell, MirrorCell):
        return CellReport(cell.id, "mirror", ())
    series = cell.series.value if cell.series else ""
    return CellReport(
        cell.id, "image", (), profile=cell.profile, series=series, arch=cell.arch.value
    )


def _completed(there: CellReport, cell: Cell) -> CellReport:
    have = {p.phase for p in there.phases}
    # Gates that ask for nothing have no job.
    wanted = [w for w in cell.phases if any(w in job.phases for job in cell.jobs)]
    if have >= set(wanted):
        return there
    phases = list(there.phases)
    for which in wanted:
        if which in have:
            continue
        before = [p for p in phases if _PHASES.index(p.phase) < _PHASES.index(which)]
        bad = next((p for p in before if p.status not in GOOD), None)
        if bad:
            why = f"{bad.phase.value} {bad.status.value}" if bad.status != Status.HELD else bad.why
            stand_in = PhaseReport(which, Status.HELD, why=why)
        else:
            stand_in = PhaseReport(which, Status.FAILED, error=_never_ran(cell.id, which))
        phases.append(dataclasses.replace(stand_in, result={_MISSING: True}))
    return dataclasses.replace(there, phases=_in_order(phases))


def _never_ran(cell_id: str, phase: Phase) -> dict[str, object]:
    return {
        "error": "ImagebuildError",
        "exit_code": int(ExitCode.FAILED),
        "what": f"no report says what became of {phase.value}",
        "where": cell_id,
        "detail": "",
        "hint": "look at the job of this cell: did it run, and did it hand over its reports?",
    }
