"""Report directories of several machines → one: found, merged, their logs copied, written.

Running it again, also with its own result among the directories, makes the same result.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.errors import ConfigError, PreflightError
from imagebuild.pipeline import reporting
from imagebuild.pipeline.cells import Cell
from imagebuild.pipeline.cleaning import clean_text, cleaned
from imagebuild.pipeline.merging import add_missing, is_complete, merge
from imagebuild.pipeline.outcome import CellReport, PhaseReport, RunReport

#: So many levels below a directory that is named are looked at.
_DEPTH = 6
#: So many earlier nights are compared with.
_NIGHTS = 30


@dataclass(frozen=True)
class Found:
    """A report and its directory. `is_named`: it was named itself, not a parent of it."""

    directory: Path
    report: RunReport
    is_named: bool = False


@dataclass(frozen=True)
class Search:
    """What is below the directories: reports, and sentences on those that cannot be read."""

    reports: tuple[Found, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collected:
    """The merged report. `sources` went into it; `missing`: a sentence for each cell that no
    report has all of; `earlier`: nights before, oldest first.
    """

    report: RunReport
    sources: tuple[Found, ...]
    missing: tuple[str, ...] = ()
    earlier: tuple[RunReport, ...] = field(default=(), repr=False)


def search(directories: Iterable[Path]) -> Search:
    """The reports in and below these directories. Raises ConfigError for one that is not there."""
    found: dict[Path, Found] = {}
    unreadable = []
    for named in directories:
        top = named.parent if named.name == reporting.JSON and named.is_file() else named
        if not top.is_dir():
            raise ConfigError(
                "there is no such directory" if not top.exists() else "this is not a directory",
                where=str(top),
                hint="name directories that `pipeline run` wrote its reports to, or above them",
            )
        for directory in _with_reports(top):
            place = directory.resolve()
            try:
                is_named = directory == top or (place in found and found[place].is_named)
                found[place] = Found(place, reporting.read(directory), is_named)
            except ConfigError as exc:
                lines = exc.detail.splitlines() or [exc.what]
                unreadable.append(f"{exc.where or directory} cannot be read: {lines[0]}")
    return Search(tuple(found.values()), tuple(dict.fromkeys(unreadable)))


def _with_reports(top: Path) -> Iterator[Path]:
    """Directories with a report.json; nothing below one of them, and no link, is looked at."""
    if (top / reporting.JSON).exists():
        yield top
        return
    for path, names, files in os.walk(top):
        here = Path(path)
        if reporting.JSON in files:
            names.clear()
            yield here
        elif len(here.relative_to(top).parts) >= _DEPTH:
            names.clear()
        names[:] = sorted(n for n in names if not n.startswith("."))


def collect(
    found: Search,
    *,
    within: float,
    name: str = "",
    cells: Sequence[Cell] = (),
    earlier: Iterable[RunReport] = (),
) -> Collected:
    """Merge those of the last night.

    A report that was not named itself belongs to it when it began not more than `within`
    seconds before the last one; older ones are earlier nights. `name`: only those of this
    pipeline; `cells`: those that there must be. Raises ConfigError without any report, unless
    `name` says whose are missing. Pure but for the clock.
    """
    mine = [f for f in found.reports if not name or f.report.pipeline == name]
    # A whole night before the next one begins: jobs may wait for hours for their machine.
    last = max((f.report.started for f in mine), default=0.0)
    tonight = [f for f in mine if f.is_named or f.report.started >= last - within]
    if not tonight and not name:
        raise ConfigError(
            "there is no report to collect",
            detail="\n".join(found.unreadable) or f"no {reporting.JSON} in or below these places",
            hint="name directories that `pipeline run` wrote its reports to, or above them",
        )
    tonight = _without_results(tonight)
    merged = merge([_located(f) for f in tonight]) if tonight else _empty(name)
    if found.unreadable:
        # Nobody knows what it would have said.
        notes = tuple(dict.fromkeys((*merged.notes, *found.unreadable)))
        merged = dataclasses.replace(merged, complete=False, notes=notes)
    missing: tuple[str, ...] = ()
    if cells:
        merged, missing = add_missing(merged, cells)
        if not missing and not found.unreadable:
            whole = is_complete([f.report for f in tonight], is_all_there=True)
            merged = dataclasses.replace(merged, complete=whole)
    older = [f.report for f in mine if f not in tonight]
    return Collected(merged, tuple(tonight), missing, _nights([*earlier, *older], merged))


def _without_results(found: list[Found]) -> list[Found]:
    """Without what an earlier `collect` has made of the others: it may know less than they."""
    labels = {f.report.label for f in found if not f.report.parts}
    return [f for f in found if not f.report.parts or not labels.issuperset(f.report.parts)]


def _empty(name: str) -> RunReport:
    now = float(int(time.time()))
    return RunReport(name, reporting.run_name(now), now, 0.0, ())


def _nights(reports: Iterable[RunReport], before: RunReport) -> tuple[RunReport, ...]:
    """Earlier nights of the same pipeline, each once, oldest first."""
    known = {
        r.run: r for r in reports if r.pipeline == before.pipeline and r.started < before.started
    }
    ordered = sorted(known.values(), key=lambda r: (r.started, r.run))
    return tuple(reporting.without_parts(ordered)[-_NIGHTS:])


def place(collected: Collected, reports: Path) -> Path:
    """Write the merged report below `reports`, with the logs. Returns its directory; an earlier
    result of the same night is replaced. Raises PreflightError, ConfigError.
    """
    directory = _directory(collected, reports)
    report = dataclasses.replace(collected.report, run=directory.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        report = _map_phases(report, lambda c, p: _with_log(c, p, directory))
    except OSError as exc:
        raise PreflightError(
            "the reports cannot be written there",
            where=str(exc.filename or directory),
            detail=exc.strerror or str(exc),
            hint="--reports DIR chooses another directory",
        ) from exc
    reporting.write(report, directory, collected.earlier)
    return directory


def _directory(collected: Collected, reports: Path) -> Path:
    """A directory of its own, or that of an earlier result: no run's own report is replaced."""
    report = collected.report
    own = reporting.directory_of(reports, report.pipeline, report.run)
    time = report.run.partition("-")[0]
    numbered = (own.with_name(f"{time}-{n}" if n > 1 else time) for n in itertools.count(1))
    return next(d for d in itertools.chain([own], numbered) if _is_free(d, report))


def _is_free(directory: Path, report: RunReport) -> bool:
    if not (directory / reporting.JSON).exists():
        return True
    try:
        there = reporting.read(directory)
    except ConfigError:
        return True  # damaged
    mine = set(report.parts or (report.label,))
    return mine.issuperset(there.parts) if there.parts else mine == {there.label}


def shown(collected: Collected) -> RunReport:
    """The merged report without the places of logs, for who only wants to see it."""
    return cleaned(_map_phases(collected.report, lambda _c, p: dataclasses.replace(p, log="")))


def _located(found: Found) -> RunReport:
    """A report whose logs are absolute paths; what leads out of its directory has none."""

    def absolute(_cell: CellReport, phase: PhaseReport) -> PhaseReport:
        log = found.directory / phase.log if phase.log else None
        is_ours = (
            log is not None and log.is_file() and log.resolve().is_relative_to(found.directory)
        )
        return dataclasses.replace(phase, log=str(log) if is_ours else "")

    return _map_phases(found.report, absolute)


def _with_log(cell: CellReport, phase: PhaseReport, directory: Path) -> PhaseReport:
    if not phase.log:
        return phase
    target = reporting.log_path(directory, cell.id, phase.phase.value, phase.target)
    source = Path(phase.log)
    if source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_text(source, target)
    return dataclasses.replace(phase, log=str(target.relative_to(directory)))


def _copy_text(source: Path, target: Path) -> None:
    """Copy a log, whole or not at all, without what must not stand in reports."""
    with (
        source.open(encoding="utf-8", errors="backslashreplace", newline="") as lines,
        tempfile.NamedTemporaryFile(
            "w", dir=target.parent, prefix=f".{target.name}-", delete=False, encoding="utf-8",
            newline="",
        ) as file,
    ):  # fmt: skip
        try:
            for line in lines:
                file.write(clean_text(line))
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _map_phases(
    report: RunReport, change: Callable[[CellReport, PhaseReport], PhaseReport]
) -> RunReport:
    cells = tuple(
        dataclasses.replace(c, phases=tuple(change(c, p) for p in c.phases)) for c in report.cells
    )
    return dataclasses.replace(report, cells=cells)
