"""Packages that came, went, or changed since the last good night."""

from __future__ import annotations

from collections.abc import Mapping

from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.pipeline.page.view import CellView
from imagebuild.pipeline.page.words import hidden, plural

Change = tuple[str | None, str | None]

#: Rows that are seen at once; more are folded.
_OPEN = 25


def counts(changes: Mapping[str, Change]) -> str:
    """7 changed, 1 added, 2 removed; nothing when nothing is."""
    kinds = [_kind(c) for c in changes.values()]
    told = ((kinds.count(k), k) for k in ("changed", "added", "removed"))
    return ", ".join(f"{n} {k}" for n, k in told if n)


def section(cell: CellView, most: int) -> Html | None:
    """The tables of a cell, of at most so many rows each; nothing without an image."""
    if cell.facts is None:
        return None
    return el("section", el("h4", "Packages"), _body(cell, most), class_="packages")


def _body(cell: CellView, most: int) -> Html:
    facts, found = cell.facts, cell.changes
    if facts is None:
        return join()
    have = f"{len(facts.packages)} packages of the distribution, {len(facts.python_packages)} of "
    have += "the agent's Python"
    if found is None:
        return el("p", f"There is no earlier good image to compare with. It has {have}.",
                  class_="muted")  # fmt: skip
    since = f"the image of {cell.since_date}"
    if found.is_same_build:
        return el("p", f"It is the same build as {since}: {have}.", class_="muted")
    if not (found.packages or found.python_packages or found.agent):
        return el("p", f"They are the same as in {since}: {have}.", class_="muted")
    return join(
        el("p", f"Compared with {since}; it has {have}.", class_="muted"),
        _table("Guest agent", found.agent, most),
        _table("Distribution", found.packages, most),
        _table("Python", found.python_packages, most),
    )


def _table(title: str, changes: Mapping[str, Change], most: int) -> Html | None:
    if not changes:
        return None
    order = {"removed": 0, "added": 1, "changed": 2}
    rows = sorted(changes.items(), key=lambda item: (order[_kind(item[1])], item[0]))[:most]
    left = len(changes) - len(rows)
    head = el("thead", el("tr", [
        el("th", text, scope="col") for text in ("Name", "Before", "Now")
    ]))  # fmt: skip
    table = el("table", head, el("tbody", [_row(n, c) for n, c in rows]), class_="diff")
    heading = join(el("b", title), f": {counts(changes)}")
    rest = el("p", f"{plural(left, 'more row')} in report.json.", class_="muted") if left else None
    return el(
        "details", el("summary", heading), el("div", table, class_="scroll"), rest,
        open=len(rows) <= _OPEN, class_="sheet",
    )  # fmt: skip


def _row(name: str, change: Change) -> Html:
    kind, (before, after) = _kind(change), change
    sign = {"added": "+", "removed": "\N{MINUS SIGN}", "changed": ""}[kind]
    label = join(el("span", sign, hidden(f" {kind}: "), class_="sign"), name) if sign else name
    if before is None or after is None:
        return el(
            "tr",
            el("th", label, scope="row"),
            el("td", before or "\N{EN DASH}"),
            el("td", after or "\N{EN DASH}"),
            class_=kind,
        )
    same = _common(before, after)
    return el(
        "tr",
        el("th", label, scope="row"),
        el("td", before),
        el("td", after[:same], el("b", after[same:]) if after[same:] else None),
        class_=kind,
    )


def _common(before: str, after: str) -> int:
    """How much of both is the same, up to a part of a version."""
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    while same and after[same - 1].isalnum():
        same -= 1
    return same


def _kind(change: Change) -> str:
    before, after = change
    return "added" if before is None else "removed" if after is None else "changed"
