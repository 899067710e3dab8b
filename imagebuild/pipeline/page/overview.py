"""All cells by status: phases, and the figures that count."""

from __future__ import annotations

import itertools

from imagebuild.pipeline.outcome import Status
from imagebuild.pipeline.page import phases
from imagebuild.pipeline.page.html import Html, el, join, stacked
from imagebuild.pipeline.page.packages import counts
from imagebuild.pipeline.page.view import CellView, PageView
from imagebuild.pipeline.page.words import badge, plural, size_change, time_change
from imagebuild.units import duration, size

_COLUMNS = ("Image", "Build", "Boot", "Proven")


def section(view: PageView) -> Html:
    """A table, a body for each status."""
    head = el("thead", el("tr", el("th", "Cell", scope="col"), [
        el("th", name, scope="col", class_="n") for name in _COLUMNS
    ]))  # fmt: skip
    bodies = [
        _body(status, list(cells))
        for status, cells in itertools.groupby(view.cells, key=lambda c: c.status)
    ]
    return stacked("table", head, bodies, class_="cells")


def _body(status: Status, cells: list[CellView]) -> Html:
    title = stacked(
        "tr",
        stacked(
            "th",
            badge(status, status.value.capitalize()),
            el("span", f" {len(cells)}", class_="muted"),
            colspan=1 + len(_COLUMNS),
            scope="rowgroup",
        ),
        class_="group",
    )
    return stacked("tbody", title, [_row(c) for c in cells])


def _row(cell: CellView) -> Html:
    report, tonight, before = cell.report, cell.tonight, cell.last_good
    what = " · ".join(filter(None, (report.profile, report.series, report.arch)))
    name = stacked(
        "th",
        el("a", cell.id, href=f"#{cell.anchor}", class_="id"),
        el("span", what, class_="muted") if what and report.kind != "mirror" else None,
        phases.strip(cell),
        _since(cell),
        scope="row",
    )
    grown = size_change(before.size if before else None, tonight.size)
    slower = time_change(before.build if before else None, tonight.build, 0.1)
    later = time_change(before.boot if before else None, tonight.boot, 0.1)
    proven = cell.facts.proven if cell.facts else None
    return stacked(
        "tr",
        name,
        _figure("Image", None if tonight.size is None else size(tonight.size), grown),
        _figure("Build", None if tonight.build is None else duration(tonight.build), slower),
        _figure("Boot", None if tonight.boot is None else duration(tonight.boot), later),
        _figure("Proven", proven, None),
        class_=f"s-{cell.status.value}",
    )


def _figure(label: str, value: str | None, change: Html | None) -> Html:
    if value is None:
        return stacked("td", class_="n none", data_label=label)
    return stacked("td", el("span", value), el("div", change) if change else None, class_="n",
              data_label=label)  # fmt: skip


def _since(cell: CellView) -> Html | None:
    """What is new in the image, in one line."""
    found = cell.changes
    if found is None or cell.facts is None:
        return None
    if found.is_same_build:
        return el("p", f"Same build as {cell.since_date}", class_="muted news")
    parts = []
    if found.packages:
        parts.append(f"packages: {counts(found.packages)}")
    if found.python_packages:
        parts.append(f"Python: {counts(found.python_packages)}")
    old, new = found.agent.get("version", (None, None))
    if old and new:
        parts.insert(0, f"agent {old} → {new}")
    elif found.agent:
        parts.insert(0, f"agent: {plural(len(found.agent), 'difference')}")
    if not parts:
        return None
    return el("p", join(f"Since {cell.since_date}: ", "; ".join(parts)), class_="muted news")
