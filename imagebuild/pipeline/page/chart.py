"""A line over nights, small enough to stand beside others: axes, gaps, the last value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imagebuild.pipeline.page.html import Html, el, number, percent

#: Pixels: of the plot, and of room above and below the line for its points.
HEIGHT, _MARGIN = 88, 8
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Point:
    """One night. `value` is None in a gap; `why` says what was wrong that night."""

    title: str
    value: float | None
    why: str = ""


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, a tick every `step`."""

    low: float
    high: float
    step: float

    @property
    def ticks(self) -> tuple[float, ...]:
        """The values that stand beside the plot."""
        count = round((self.high - self.low) / self.step)
        return tuple(self.low + n * self.step for n in range(count + 1))

    def y(self, value: float) -> float:
        """Pixels from the top."""
        part = (value - self.low) / (self.high - self.low)
        return HEIGHT - _MARGIN - part * (HEIGHT - 2 * _MARGIN)


def scale(values: Sequence[float]) -> Scale:
    """Round numbers around the values, two to four ticks."""
    low, high = min(values), max(values)
    # What hardly moves must not look like a storm: the scale spans a twentieth at least.
    room = max(0.05 * abs(high), high - low, 1e-9)
    middle = (low + high) / 2
    low, high = max(min(low, middle - room / 2), 0.0), max(high, middle + room / 2)
    rough = (high - low) / 2
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * 0.999)
    bottom = math.floor(low / step + 1e-9) * step
    top = math.ceil(high / step - 1e-9) * step
    return Scale(bottom, max(top, bottom + step), step)


def chart(
    title: str,
    points: Sequence[Point],
    say: Callable[[float], str],
    tick: Callable[[float], str],
    unit: str,
    dates: tuple[str, str],
    name: str,
    *,
    has_dots: bool = True,
) -> Html:
    """The figure. `say` writes a value with its unit, `tick` one without (`unit` stands on top).

    `name` is what it is about, for those who do not see it; `dates` are the first and last. Without
    `has_dots` the last point alone is marked.
    """
    values = [p.value for p in points if p.value is not None]
    if not values:
        empty = el("p", "not measured", class_="muted empty")
        return el("div", el("h4", title), empty, class_="chart")
    axis = scale(values)
    last = points[-1].value
    spoken = f"{title} of {name} over {len(points)} nights: "
    spoken += f"{say(min(values))} to {say(max(values))}"
    head = el(
        "h4",
        title,
        el("span", f" {unit}", class_="muted"),
        el("span", say(last) if last is not None else "", class_="latest"),
    )
    left = el(
        "svg",
        [
            el("text", tick(t), x=44, y=axis.y(t) + 3.5, class_="ax end")
            for t in axis.ticks
        ],
        width=48,
        height=HEIGHT,
        aria_hidden="true",
    )  # fmt: skip
    plot = el(
        "svg",
        [el("line", x1=0, x2="100%", y1=axis.y(t), y2=axis.y(t), class_="gl") for t in axis.ticks],
        _line(points, axis),
        _dots(points, axis, say, has_dots=has_dots),
        class_="track",
        height=HEIGHT,
        role="img",
        aria_label=spoken + (f", now {say(last)}" if last is not None else ", none this night"),
    )
    foot = el("div", el("span", dates[0]), el("span", dates[1]), class_="dates")
    return el("div", head, el("div", left, plot, class_="plot"), foot, class_="chart")


def place(index: int, count: int) -> float:
    """Where a night stands, as a part of the width; a little room at both ends."""
    return 0.5 if count < 2 else 0.02 + 0.96 * index / (count - 1)


def _line(points: Sequence[Point], axis: Scale) -> Html | None:
    """A polyline for each stretch without a gap, in units that stretch with the page."""
    lines = []
    for _, stretch in itertools.groupby(enumerate(points), key=lambda p: p[1].value is None):
        known = [(n, p.value) for n, p in stretch if p.value is not None]
        if len(known) > 1:
            coordinates = " ".join(
                f"{number(1000 * place(n, len(points)))},{number(axis.y(v))}" for n, v in known
            )
            lines.append(el("polyline", points=coordinates))
    if not lines:
        return None
    box = f"0 0 1000 {HEIGHT}"
    return el("svg", lines, viewBox=box, preserveAspectRatio="none", width="100%", height=HEIGHT,
              class_="lines")  # fmt: skip


def _dots(
    points: Sequence[Point], axis: Scale, say: Callable[[float], str], *, has_dots: bool
) -> Iterator[Html]:
    for n, point in enumerate(points):
        x = percent(place(n, len(points)))
        if point.value is not None:
            if not has_dots and n < len(points) - 1:
                continue
            dot = el("circle", cx=x, cy=axis.y(point.value), r=4 if n == len(points) - 1 else 2.2,
                     class_="last" if n == len(points) - 1 else None)  # fmt: skip
            yield el("g", el("title", f"{point.title}: {say(point.value)}"), dot)
        elif point.why:
            cross = el("text", "\N{MULTIPLICATION SIGN}", x=x, y=HEIGHT - 3, class_="gap")
            yield el("g", el("title", f"{point.title}: {point.why}"), cross)
