"""The phases of a cell: in a line, and as a table with their commands and logs."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import PhaseReport, RunReport, Status
from imagebuild.pipeline.page.html import Html, clipped, el, join
from imagebuild.pipeline.page.view import CellView
from imagebuild.pipeline.page.words import (
    PHASE_ORDER,
    WORST_FIRST,
    badge,
    clock,
    command_line,
    hidden,
    link,
    mark,
    plural,
)
from imagebuild.units import duration


def strip(cell: CellView) -> Html:
    """Each phase as a picture and a word; those of several clouds count as one."""
    found = []
    for phase in PHASE_ORDER:
        here = [p for p in cell.report.phases if p.phase is phase]
        if not here:
            continue
        worst = min((p.status for p in here), key=WORST_FIRST.index)
        several = f" \N{MULTIPLICATION SIGN}{len(here)}" if len(here) > 1 else ""
        title = "; ".join(_sentence(p) for p in here[:8])
        found.append(
            el(
                "li",
                mark(worst),
                el("span", phase.value + several),
                hidden(f": {worst.value}"),
                title=clipped(title, 300),
                class_=f"s-{worst.value}",
            )
        )
    return el("ol", found, class_="strip", aria_label="Phases")


def table(cell: CellView, report: RunReport, most: int) -> Html:
    """Every phase with what to type to do the same, and its log."""
    phases = cell.report.phases[:most]
    left = len(cell.report.phases) - len(phases)
    columns = (("Phase", ""), ("Result", ""), ("At", "n"), ("Took", "n"), ("Tries", "n"), ("", ""))
    head = el("thead", el("tr", [
        el("th", text or hidden("Log"), scope="col", class_=kind or None) for text, kind in columns
    ]))  # fmt: skip
    body = el("table", head, el("tbody", [_rows(p) for p in phases]), class_="phases")
    name = f"Phases, commands and logs of {cell.id}"
    return el(
        "details",
        el("summary", "Phases, commands and logs"),
        el("div", body, class_="scroll", tabindex=0, role="region", aria_label=name),
        el("p", f"{plural(left, 'more phase')} in report.json of {report.run}.") if left else None,
    )


def _rows(phase: PhaseReport) -> Html:
    ran = phase.started > 0 and phase.status not in (Status.HELD, Status.SKIPPED)
    target = el("span", phase.target, class_="target") if phase.target else None
    row = el(
        "tr",
        el("th", phase.phase.value, " ", target, scope="row"),
        el("td", badge(phase.status), el("div", phase.why, class_="muted") if phase.why else None),
        el("td", clock(phase.started) if ran else "", class_="n"),
        el("td", duration(phase.seconds) if ran else "", class_="n"),
        el("td", str(len(phase.attempts)) if len(phase.attempts) > 1 else "", class_="n"),
        el("td", link(phase.log, "log", aria_label=f"log of {phase.phase.value} {phase.target}")
           if phase.log else None),
    )  # fmt: skip
    if not phase.command:
        return row
    return join(row, el("tr", el("td", command_line(phase.command), colspan=6), class_="more"))


def _sentence(phase: PhaseReport) -> str:
    words = [phase.phase.value, phase.target, phase.why or phase.status.value]
    text = " ".join(filter(None, words))
    return f"{text}, {duration(phase.seconds)}" if phase.seconds else text


def warnings(phases: Sequence[PhaseReport]) -> list[str]:
    """What the phases had to say, each once."""
    return list(dict.fromkeys(w for p in phases for w in p.warnings))
