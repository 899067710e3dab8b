"""Mirror lists: how their items ended, and what was moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import RunReport
from imagebuild.pipeline.page import phases
from imagebuild.pipeline.page.html import Html, el, join, percent
from imagebuild.pipeline.page.view import CellView, PageView, phase_of
from imagebuild.pipeline.page.words import badge, plural, size_or_none
from imagebuild.units import duration

#: imagebuild.mirror.result.Outcome's words, what is bad last.
OUTCOMES = ("unchanged", "copied", "replaced", "missing", "failed", "skipped")
_BAD = ("missing", "failed", "skipped")
_BYTES = (("bytes_copied", "copied"), ("bytes_mounted", "mounted"), ("bytes_present", "there"))
#: Items that are told by name.
_ITEMS = 20


def section(view: PageView) -> Html | None:
    """All lists; nothing when there is none."""
    found = [_list(c, view.report) for c in view.mirrors]
    return el("div", found, class_="mirrors") if found else None


def _list(cell: CellView, report: RunReport) -> Html:
    phase = phase_of(cell.report, Phase.MIRROR)
    result: Mapping[str, Any] = phase.result if phase else {}
    totals = result.get("totals")
    totals = totals if isinstance(totals, Mapping) else result
    outcomes = totals.get("outcomes")
    counted = _counted(outcomes if isinstance(outcomes, Mapping) else {})
    moved = [
        f"{told} {word}"
        for key, word in _BYTES
        if totals.get(key) and (told := size_or_none(totals[key]))
    ]
    all_of_them = sum(counted.values())
    words = [plural(all_of_them, "image")] if all_of_them else []
    if phase and phase.seconds:
        words.append(f"{'in' if words else 'ended after'} {duration(phase.seconds)}")
    return el(
        "article",
        el("h3", cell.id, " ", badge(cell.status), id=cell.anchor),
        el("p", " ".join(words)) if words else None,
        _bar(cell.id, counted) if all_of_them else None,
        el("p", "Bytes: ", ", ".join(moved), class_="muted") if moved else None,
        _failures(result.get("bad")),
        phases.table(cell, report, 20),
        class_="card mirror",
    )


def _counted(outcomes: Mapping[str, Any]) -> dict[str, int]:
    return {k: outcomes[k] for k in OUTCOMES if isinstance(outcomes.get(k), int) and outcomes[k]}


def _bar(name: str, counted: Mapping[str, int]) -> Html:
    total, at, rects, items = sum(counted.values()), 0.0, [], []
    for outcome, count in counted.items():
        part = count / total
        rects.append(
            el("rect", x=percent(at), width=percent(part), height=12, class_=f"oc oc-{outcome}")
        )
        at += part
        swatch = el("svg", el("rect", width=12, height=12, class_=f"oc oc-{outcome}"), width=12,
                    height=12, aria_hidden="true")  # fmt: skip
        items.append(el("li", swatch, el("b", str(count)), f" {outcome}"))
    told = ", ".join(f"{n} {o}" for o, n in counted.items())
    picture = el("svg", rects, class_="track outcomes", height=12, role="img",
                 aria_label=f"{name}: {told}")  # fmt: skip
    return join(picture, el("ul", items, class_="legend"))


def _failures(found: object) -> Html | None:
    """Items that are not in the target, with the reason."""
    rows = list(_bad(found)) if isinstance(found, Sequence) and not isinstance(found, str) else []
    if not rows:
        return None
    left = len(rows) - _ITEMS
    body = [
        el("tr", el("th", el("code", name), scope="row"), el("td", why))
        for name, why in rows[:_ITEMS]
    ]
    head = el("tr", el("th", "Not mirrored", scope="col"), el("th", "Why", scope="col"))
    return join(
        el("div", el("table", el("thead", head), el("tbody", body)), class_="scroll"),
        el("p", f"{left} more in report.json.", class_="muted") if left > 0 else None,
    )


def _bad(found: Sequence[object]) -> Iterator[tuple[str, str]]:
    for item in found:
        if not isinstance(item, Mapping) or item.get("outcome", "failed") not in _BAD:
            continue
        outcome, why = str(item.get("outcome", "failed")), str(item.get("what", ""))
        yield str(item.get("image", "")), f"{outcome}: {why}" if why else outcome
