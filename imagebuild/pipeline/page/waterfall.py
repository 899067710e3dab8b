"""The run's time: each cell a line, its phases and the stages of its build on one axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import PhaseReport, RunReport, Status
from imagebuild.pipeline.page.html import Html, el, number, percent
from imagebuild.pipeline.page.view import CellView, PageView
from imagebuild.pipeline.page.words import clock, hidden, mark, plural, when
from imagebuild.units import duration

#: Distances of the axis' ticks in seconds, and how many of them there may be.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
_TICKS = 6
#: Heights in pixels: of a phase, of a stage below it, and between lines.
_PHASE, _STAGE, _GAP = 18, 8, 3
#: Width in pixels that a label may count on where labels are shown, and that of a letter.
_WIDTH, _LETTER = 640.0, 7.4
#: Phases of publishing look alike.
_KIND = {
    Phase.MIRROR: "mirror",
    Phase.BUILD: "build",
    Phase.VERIFY: "verify",
}
STAGES = ("base", "agent", "containers", "disk", "formats")


@dataclass(frozen=True)
class Axis:
    """The time that all of it takes: `start` in seconds since 1970, `seconds` long."""

    start: float
    seconds: float

    def at(self, moment: float) -> float:
        """A time as a part of the axis, 0 to 1."""
        return min(max((moment - self.start) / self.seconds, 0.0), 1.0)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Seconds from its start, evenly."""
        step = next((s for s in _STEPS if self.seconds / s <= _TICKS), None)
        step = step or 86400 * math.ceil(self.seconds / 86400 / _TICKS)
        return tuple(float(s) for s in range(0, math.ceil(self.seconds), step))


@dataclass(frozen=True)
class Bar:
    """A phase, one of its tries, the wait between two, or a stage, from `start` for `seconds`.

    `kind` is one of mirror, build, verify, publish, wait, or a stage's name; `lane` counts
    phases that go on at the same time.
    """

    start: float
    seconds: float
    kind: str
    title: str
    label: str = ""
    lane: int = 0
    is_bad: bool = False
    is_reused: bool = False

    @property
    def is_stage(self) -> bool:
        """Whether it stands below a build."""
        return self.kind in STAGES or self.kind == "stage"


def axis_of(report: RunReport) -> Axis:
    """From the run's start, or what began before it, to its end, or what ended after it."""
    spans = [(p.started, p.started + p.seconds) for c in report.cells for p in _timed(c.phases)]
    start = min([report.started, *(s for s, _ in spans)])
    return Axis(start, max([report.started + report.seconds, *(e for _, e in spans)]) - start or 1)


def bars(cell: CellView) -> list[Bar]:
    """All bars of a cell."""
    found: list[Bar] = []
    ends: list[float] = []
    for phase in sorted(_timed(cell.report.phases), key=lambda p: p.started):
        lane = next((n for n, end in enumerate(ends) if end <= phase.started + 0.5), len(ends))
        ends[lane : lane + 1] = [phase.started + phase.seconds]
        found += _tries(phase, lane)
        if phase.phase is Phase.BUILD and phase.status is Status.PASSED:
            found += _stages(cell, phase, lane)
    return found


def section(view: PageView) -> Html | None:
    """The chart; nothing when nothing has run."""
    axis = axis_of(view.report)
    lines = [(cell, found) for cell in _by_time(view) if (found := bars(cell))]
    if not lines:
        return None
    idle = len(view.cells) - len(lines)
    ticks = [axis.at(axis.start + t) for t in axis.ticks]
    grid = el("svg", el("g", [
        el("line", x1=percent(x), x2=percent(x), y1="0", y2="400") for x in ticks
    ], id="wf-grid"), class_="sprite", aria_hidden="true")  # fmt: skip
    return el(
        "figure",
        el("figcaption", el("p", "Time since ", when(axis.start), ". ",
           f"{plural(idle, 'cell')} did not run." if idle else None, class_="muted")),
        _legend(found for _, found in lines),
        grid,
        el("div", _head(axis), [_line(c, b, axis) for c, b in lines], class_="wf"),
        class_="waterfall",
    )  # fmt: skip


def _timed(phases: Iterable[PhaseReport]) -> list[PhaseReport]:
    return [p for p in phases if p.started > 0 and p.status not in (Status.HELD, Status.SKIPPED)]


def _by_time(view: PageView) -> Sequence[CellView]:
    def start(cell: CellView) -> float:
        return min((p.started for p in _timed(cell.report.phases)), default=math.inf)

    return sorted(view.cells, key=start)


def _tries(phase: PhaseReport, lane: int) -> Iterator[Bar]:
    kind = _KIND.get(phase.phase, "publish")
    name = phase.phase.value + (f" {phase.target}" if phase.target else "")
    tries = phase.attempts
    bad = phase.status in (Status.FAILED, Status.INTERRUPTED)
    if len(tries) < 2:
        title = f"{name}: {phase.status.value}, {duration(phase.seconds)}"
        yield Bar(phase.started, phase.seconds, kind, title, phase.phase.value, lane, bad)
        return
    for before, after in itertools.pairwise(tries):
        end = before.started + before.seconds
        if after.started > end:
            wait = after.started - end
            yield Bar(end, wait, "wait", f"{name}: {duration(wait)} until the next try", "", lane)
    for count, one in enumerate(tries, 1):
        failed = one.exit_code != 0
        title = f"{name}, try {count} of {len(tries)}: {duration(one.seconds)}"
        title += f", exit code {one.exit_code}" if failed else ""
        yield Bar(one.started, one.seconds, kind, title, phase.phase.value, lane, failed)


def _stages(cell: CellView, phase: PhaseReport, lane: int) -> Iterator[Bar]:
    """A build's stages, one after the other up to its end: what comes before is resolving.

    An artifact that an earlier run has made tells of that one's times: they are left out.
    """
    found = cell.facts.stages if cell.facts else ()
    total = sum(s for _, s, _ in found)
    took = phase.attempts[-1].seconds if phase.attempts else phase.seconds
    if not found or total > 1.02 * took + 1 or phase.result.get("unchanged") is True:
        return
    end = phase.attempts[-1].started + took if phase.attempts else phase.started + took
    at = end - total
    for name, seconds, reused in found:
        how = "from the store" if reused else duration(seconds)
        kind = name if name in STAGES else "stage"
        yield Bar(at, seconds, kind, f"stage {name}: {how}", name, lane, is_reused=reused)
        at += seconds


def _head(axis: Axis) -> Html:
    in_hours = axis.ticks[-1] >= 7200
    unit = 3600 if in_hours else 60 if axis.seconds > 120 else 1
    name = {3600: "h", 60: "min", 1: "s"}[unit]
    texts = [
        el(
            "text",
            number(t / unit) + (f" {name}" if n else ""),
            x=percent(axis.at(axis.start + t)),
            y=12,
            class_="ax first" if n == 0 else "ax end" if axis.at(axis.start + t) > 0.93 else "ax",
        )
        for n, t in enumerate(axis.ticks)
    ]
    return el(
        "div",
        el("span"),
        el("svg", texts, class_="track", height=18, aria_hidden="true"),
        class_="wf-row wf-head",
    )


def _line(cell: CellView, found: Sequence[Bar], axis: Axis) -> Html:
    tops, height = [], _GAP
    for lane in range(1 + max(b.lane for b in found)):
        tops.append(height)
        has_stages = any(b.is_stage for b in found if b.lane == lane)
        height += _PHASE + (_STAGE + 1 if has_stages else 0) + _GAP
    told = "; ".join(b.title for b in found if not b.is_stage and b.kind != "wait")
    start = min(b.start for b in found)
    track = el(
        "svg",
        el("use", href="#wf-grid", class_="grid"),
        [_bar(b, axis, tops[b.lane]) for b in found],
        class_="track",
        height=height,
        role="img",
        aria_label=f"{cell.id}, from {clock(start)}: {told}",
    )
    name = el("a", cell.id, href=f"#{cell.anchor}")
    label = el("div", mark(cell.status), hidden(cell.status.value + ": "), name, class_="wf-name")
    return el("div", label, track, class_="wf-row")


def _bar(bar: Bar, axis: Axis, top: float) -> Html:
    left, right = axis.at(bar.start), axis.at(bar.start + bar.seconds)
    y, height = top, _PHASE
    if bar.is_stage:
        y, height = top + _PHASE + 1, _STAGE
    elif bar.kind == "wait":
        y, height = top + _PHASE // 2 - 1, 2
    place: dict[str, str | float] = {"x": percent(left), "width": percent(right - left)}
    place |= {"y": y, "height": height}
    kind = f"st st-{bar.kind}" if bar.is_stage else f"ph ph-{bar.kind}"
    reused = " reused" if bar.is_reused else ""
    shapes = [el("rect", **place, class_=kind + reused)]
    if bar.is_bad:
        shapes.append(el("rect", **place, class_="bad"))
    if bar.kind == "publish" and (right - left) * _WIDTH > 3:  # its neighbours look alike
        x = percent(left)
        shapes.append(el("line", x1=x, x2=x, y1=y, y2=y + height, class_="sep"))
    label = None
    if bar.label and not bar.is_stage and (right - left) * _WIDTH > len(bar.label) * _LETTER + 12:
        inside = f"in-{bar.kind}"
        label = el("text", bar.label, x=percent(left), y=y + 13, dx=6, class_=f"lb {inside}")
    return el("g", el("title", bar.title), shapes, label)


def _legend(lines: Iterable[Sequence[Bar]]) -> Html:
    """What the colours mean, of what is there."""
    kinds: dict[str, str] = {}
    for bar in (b for line in lines for b in line):
        kinds[bar.kind] = f"st st-{bar.kind}" if bar.is_stage else f"ph ph-{bar.kind}"
        if bar.is_bad:
            kinds["failed try"] = "bad"
        if bar.is_reused:
            kinds["from the store"] = "st reused"
    order = ("mirror", "build", *STAGES, "stage", "from the store", "verify", "publish", "wait",
             "failed try")  # fmt: skip
    items = []
    for kind in (k for k in order if k in kinds):
        is_wait = kind == "wait"
        swatch = el("rect", x=0.5, y=5 if is_wait else 0.5, width=13, height=2 if is_wait else 11,
                    class_=kinds[kind])  # fmt: skip
        items.append(
            el("li", el("svg", swatch, width=14, height=12, aria_hidden="true"),
               "waiting to try again" if is_wait else kind)
        )  # fmt: skip
    return el("ul", items, class_="legend", aria_label="Colours")
