"""The nights before this one: how each cell ended, and how its figures went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imagebuild.pipeline.outcome import Status
from imagebuild.pipeline.page.chart import Point, chart
from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.pipeline.page.view import CellView, Night, PageView
from imagebuild.pipeline.page.words import date, hidden, labels, link, mark, moment, plural
from imagebuild.units import duration, size

_MIB = 1024 * 1024
_BAD = (Status.FAILED, Status.INTERRUPTED, Status.HELD)
#: Cells whose charts are seen at once; those of others are folded.
_OPEN = 6


def section(view: PageView) -> Html | None:
    """The matrix and the charts; nothing in the first night."""
    if not view.earlier:
        return None
    images = [c for c in view.images if sum(n.size is not None for n in c.nights) > 1]
    return join(
        _matrix(view),
        [_charts(c, is_open=len(images) <= _OPEN, has_dots=view.room.has_dots) for c in images],
    )


def _matrix(view: PageView) -> Html:
    """Cells by nights; a column's head leads to that night's page."""
    runs = [*view.earlier, view.report]
    heads = []
    for number, run in enumerate(runs):
        is_last = number == len(runs) - 1
        day = moment(run.started).day
        title = f"{date(run.started)}, run {run.run}"
        text = el("b", str(day)) if is_last or not run.complete else link(
            f"../{run.run}/report.html", str(day), title=title
        )  # fmt: skip
        heads.append(el("th", text, scope="col", class_="tonight" if is_last else None))
    rows = [
        el("tr", el("th", el("a", c.id, href=f"#{c.anchor}"), scope="row"),
           [_square(n) for n in c.nights])
        for c in view.cells
    ]  # fmt: skip
    names = labels([r.started for r in runs])
    first, last = names[0], names[-1]
    caption = el("p", f"How each cell ended, {first} to {last}", class_="muted")
    head = el("thead", el("tr", el("th", "Cell", scope="col"), heads))
    table = el("table", head, el("tbody", rows), class_="matrix")
    name = "How each cell ended"
    return join(
        caption, el("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)
    )


def _square(night: Night) -> Html:
    if night.status is None:
        return el("td", hidden("not there"))
    return el("td", mark(night.status), hidden(night.status.value), title=night.status.value)


def _charts(cell: CellView, *, is_open: bool, has_dots: bool) -> Html:
    nights = cell.nights
    names = labels([n.started for n in nights])

    def one(
        title: str, unit: str, value: Callable[[Night], float | None],
        say: Callable[[float], str], per: float,
    ) -> Html:  # fmt: skip
        points = [
            Point(
                name,
                value(n) if n.is_good else None,
                n.status.value if n.status in _BAD else "",
            )
            for name, n in zip(names, nights, strict=True)
        ]
        return chart(
            title,
            points,
            say,
            lambda v: f"{v / per:.4g}",
            unit,
            (names[0], names[-1]),
            cell.id,
            has_dots=has_dots,
        )

    slow = max((n.build or 0 for n in nights), default=0) >= 300
    figures = (
        one("Image", "MiB", lambda n: None if n.size is None else n.size / _MIB,
            lambda v: size(int(v * _MIB)), 1),
        one("Build", "min" if slow else "s",
            lambda n: None if n.build is None else n.build / (60 if slow else 1),
            lambda v: duration(v * (60 if slow else 1)), 1),
        one("Boot", "s", lambda n: n.boot, duration, 1),
    )  # fmt: skip
    return el(
        "details",
        el("summary", el("h3", cell.id)),
        el("div", figures, class_="charts"),
        _table(nights, names),
        open=is_open,
        class_="card trend",
    )


def _table(nights: Sequence[Night], names: Sequence[str]) -> Html:
    """The charts' figures, newest first."""
    rows = [
        el(
            "tr",
            el("th", name, scope="row"),
            el("td", n.status.value if n.status else "not there"),
            el("td", size(n.size) if n.size is not None else "", class_="n"),
            el("td", duration(n.build) if n.build is not None else "", class_="n"),
            el("td", duration(n.boot) if n.boot is not None else "", class_="n"),
        )
        for name, n in zip(names[::-1], nights[::-1], strict=True)
    ]
    columns = (("Night", ""), ("Result", ""), ("Image", "n"), ("Build", "n"), ("Boot", "n"))
    head = el("tr", [el("th", t, scope="col", class_=k or None) for t, k in columns])
    return el(
        "details",
        el("summary", f"{plural(len(nights), 'night')} as a table"),
        el("div", el("table", el("thead", head), el("tbody", rows)), class_="scroll"),
    )
