"""A night in one sentence, and among the nights before."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import GOOD, CellReport, RunReport, Status


def headline(report: RunReport) -> str:
    """The verdict: `good: 3 cells passed`, `FAILED: 2 of 5 cells failed, 1 held`."""
    cells = report.cells
    counts = {s: sum(c.status is s for c in cells) for s in Status}
    noun = "cell" if len(cells) == 1 else "cells"
    bad = [s for s in (Status.FAILED, Status.INTERRUPTED, Status.HELD) if counts[s]]
    if bad:
        words = [f"{counts[bad[0]]} of {len(cells)} {noun} {bad[0].value}"]
        words += [f"{counts[s]} {s.value}" for s in bad[1:]]
        first = "INTERRUPTED" if bad[0] is Status.INTERRUPTED else "FAILED"
        return f"{first}: {', '.join(words)}"
    if not report.complete:
        return f"NOT COMPLETE: the run was killed, or goes on; {len(cells)} {noun} so far"
    if not cells:
        return "good: there was nothing to do"
    named = [s for s in (Status.PASSED, Status.UNCHANGED, Status.SKIPPED) if counts[s]]
    noun = "cell" if counts[named[0]] == 1 else "cells"
    words = [f"{counts[named[0]]} {noun} {named[0].value}"]
    words += [f"{counts[s]} {s.value}" for s in named[1:]]
    return f"good: {', '.join(words)}"


def last_good(cell_id: str, earlier: Sequence[RunReport]) -> RunReport | None:
    """The newest earlier report in which the cell was good."""
    return next((r for r in reversed(earlier) if _is_good(r.cell(cell_id))), None)


def failing_since(cell_id: str, earlier: Sequence[RunReport]) -> int:
    """In how many of the newest earlier reports in a row it was there, and not good."""
    number = 0
    for report in reversed(earlier):
        cell = report.cell(cell_id)
        if _is_good(cell):
            break
        number += cell is not None
    return number


def _is_good(cell: CellReport | None) -> bool:
    return cell is not None and cell.status in GOOD
