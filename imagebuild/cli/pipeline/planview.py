"""What `pipeline plan` shows, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagebuild.cli.terminal import Terminal
from imagebuild.errors import ExitCode, ImagebuildError, Interrupted
from imagebuild.pipeline.cells import Cell, Job, MirrorCell
from imagebuild.pipeline.needs import Needs, needs
from imagebuild.units import size

if TYPE_CHECKING:
    from imagebuild.cli.tables import Tables
    from imagebuild.pipeline.loading import LoadedPipeline
    from imagebuild.pipeline.unchanged import Look, Standing

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """A cell, and where it stands; None for a mirror list, and for a cell with an error."""

    cell: Cell
    needs: dict[Job, Needs]
    standing: Standing | None = None
    error: ImagebuildError | None = None


def row(look: Look, cell: Cell) -> Row:
    """Look at one cell. Raises Interrupted, and nothing else."""
    wanted = {job: needs(cell, job) for job in cell.jobs}
    if isinstance(cell, MirrorCell):
        return Row(cell, wanted)
    try:
        return Row(cell, wanted, look.standing(cell))
    except Interrupted:
        raise
    except ImagebuildError as exc:
        return Row(cell, wanted, error=exc)


def exit_code(rows: Sequence[Row]) -> ExitCode:
    """0 when all cells could be looked at; the code of the error that all the others share."""
    codes = {ExitCode(r.error.exit_code) for r in rows if r.error}
    if not codes:
        return ExitCode.OK
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def document(loaded: LoadedPipeline, rows: Sequence[Row]) -> dict[str, Any]:
    """The document of --json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": loaded.value.name,
        "file": str(loaded.path),
        "notes": list(loaded.notes),
        "cells": [_cell(r) for r in rows],
    }


def _cell(row: Row) -> dict[str, Any]:
    cell = row.cell
    found: dict[str, Any] = {
        "id": cell.id,
        "kind": "mirror" if isinstance(cell, MirrorCell) else "image",
        "after": list(cell.after),
        "phases": [phase.value for phase in cell.phases],
        "jobs": [
            {"job": job.value, "after": _after(cell, job), "needs": wanted.to_json()}
            for job, wanted in row.needs.items()
        ],
    }
    if isinstance(cell, MirrorCell):
        return found | {"list": cell.step.list, "target": cell.step.target}
    return found | {
        "profile": cell.profile,
        "series": str(cell.series) if cell.series else None,
        "arch": str(cell.arch),
        "level": str(cell.verify.level),
        "clouds": [p.label for p in cell.publish],
        "standing": row.standing.to_json() if row.standing else None,
        "error": row.error.to_json() if row.error else None,
    }


def _after(cell: Cell, job: Job) -> list[str]:
    """The jobs that come before: `build` of the same cell, `mirror-NAME`."""
    jobs = cell.jobs
    number = jobs.index(job)
    return [f"{jobs[number - 1].value} {cell.id}"] if number else list(cell.after)


def _short(cell: Cell, job: Job) -> str:
    """The same for a table that has the cell already."""
    number = cell.jobs.index(job)
    return cell.jobs[number - 1].value if number else ", ".join(cell.after)


def show(to: Terminal, loaded: LoadedPipeline, rows: Sequence[Row]) -> None:
    """Tables on stdout; what is wrong on stderr."""
    from imagebuild.cli.tables import Tables

    tables = Tables(to.out)
    noun = "cell" if len(rows) == 1 else "cells"
    tables.table(
        f"{loaded.value.name}: {len(rows)} {noun}",
        ("cell", "to do", "build", "in the store", "verified", "clouds"),
        [_line(r) for r in rows],
        styles=[_style(r) for r in rows],
    )
    if not rows:
        tables.line("there is no cell: a run has nothing to do")
    left = [(r, text) for r in rows if r.standing for text in _texts(r.standing)]
    if left:
        tables.heading("what is left, and why")
        for found, text in left:
            tables.line(f"{found.cell.id}: {text}")
    if rows:
        _jobs(tables, rows)
    for note in loaded.notes:
        to.warning(note)
    for broken in rows:
        if broken.error:
            to.warning(f"{broken.cell.id} cannot be looked at")
            to.error(broken.error)


def _jobs(tables: Tables, rows: Sequence[Row]) -> None:
    tables.table(
        "jobs",
        ("cell", "job", "after", "cpus", "memory", "disk", "machine"),
        [
            (r.cell.id, job.value, _short(r.cell, job), str(n.cpus), size(n.memory),
             size(n.disk), _machine(n))
            for r in rows
            for job, n in r.needs.items()
        ],
        numeric=("cpus", "memory", "disk"),
    )  # fmt: skip


def _line(row: Row) -> tuple[str, ...]:
    cell, standing = row.cell, row.standing
    if isinstance(cell, MirrorCell):
        target = cell.step.target or "as the list or the environment say"
        return (cell.id, "sync", "", "", "", target)
    clouds = ", ".join(p.label for p in cell.publish) or "none"
    level = str(cell.verify.level)
    if standing is None:
        return (cell.id, "not known", "", "", level, clouds)
    stages = [stage for stage, cached in standing.stages if cached]
    known = "all" if len(stages) == len(standing.stages) else ", ".join(stages) or "nothing"
    proven = f"{level}: yes" if standing.is_verified else level
    # What was not resolved is in the id, too.
    build = standing.build_id[:8] if not standing.unresolved else "not known"
    return (cell.id, _verdict(standing), build, known, proven, clouds)


def _verdict(standing: Standing) -> str:
    if standing.is_done:
        return "nothing" if standing.clouds_asked else "nothing here"
    count = len(standing.missing)
    return "1 thing" if count == 1 else f"{count} things"


def _style(row: Row) -> str:
    if row.error:
        return "bold red"
    return "dim" if row.standing and row.standing.is_done else "green"


def _texts(standing: Standing) -> list[str]:
    return [*standing.missing, *standing.rolled_back]


def _machine(needs: Needs) -> str:
    words = [str(needs.arch), *(["root"] if needs.root else []), *(["KVM"] if needs.kvm else [])]
    return ", ".join(words)
