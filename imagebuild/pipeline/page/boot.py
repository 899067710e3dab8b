"""What each machine of a verification reached, and when."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.page.html import Html, el, percent
from imagebuild.pipeline.page.view import CellView, Room
from imagebuild.pipeline.page.words import time_change
from imagebuild.units import duration

#: What a milestone belongs to; the colour goes by it.
_PARTS = {
    "console": "firmware", "kernel": "firmware", "root": "kernel",
    "cloud-init-local": "system", "probe": "system", "cloud-init-network": "system",
    "ssh": "system", "login": "system", "docker": "services", "agent-started": "services",
    "cloud-init-done": "services", "settled": "services",
}  # fmt: skip
#: Milestones of a machine that are shown.
_MARKS = 24


def section(cell: CellView, room: Room) -> Html | None:
    """A table with bars for each machine, on one scale; nothing where none was booted."""
    facts = cell.facts
    if facts is None or not any(facts.boots.values()):
        return None
    longest = max(marks[-1][1] for marks in facts.boots.values() if marks) or 1.0
    shown = [(name, marks) for name, marks in facts.boots.items() if marks][: room.machines]
    left = len(facts.boots) - len(shown)
    return el(
        "figure",
        el("figcaption", el("h4", "Boot"), el(
            "p", "Seconds since the machine's start; each bar begins where the one before ends.",
            class_="muted",
        )),
        el("div", [_machine(cell, name, marks, longest) for name, marks in shown], class_="boots"),
        el("p", f"{left} more machines are not shown.", class_="muted") if left > 0 else None,
        class_="boot",
    )  # fmt: skip


def _machine(cell: CellView, name: str, marks: Sequence[tuple[str, float]], longest: float) -> Html:
    rows, since = [], 0.0
    for milestone, seconds in marks[:_MARKS]:
        bar = el(
            "rect",
            x=percent(since / longest),
            width=percent(max(seconds - since, 0) / longest),
            y=2,
            height=9,
            class_=f"bt bt-{_PARTS.get(milestone, 'system')}",
        )
        rows.append(
            el(
                "tr",
                el("th", milestone, scope="row"),
                el("td", el("svg", bar, class_="track", height=13, aria_hidden="true")),
                el("td", f"{seconds:.1f}", class_="n"),
            )
        )
        since = max(since, seconds)
    change = time_change(_before(cell.before, name), marks[-1][1])
    return el(
        "table",
        el(
            "caption",
            el("b", name),
            f" {duration(marks[-1][1])} ",
            change and el("span", change, f" since {cell.since_date}", class_="muted"),
        ),
        el(
            "thead",
            el(
                "tr",
                el("th", "Milestone", scope="col"),
                el("th", "Time", scope="col"),
                el("th", "s", scope="col", class_="n"),
            ),
            class_="vh",
        ),
        el("tbody", rows),
        class_="machine",
    )


def _before(facts: ImageFacts | None, name: str) -> float | None:
    marks = facts.boots.get(name, ()) if facts else ()
    return marks[-1][1] if marks else None
