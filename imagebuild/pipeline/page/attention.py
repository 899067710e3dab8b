"""What somebody has to look at: failures first, with what, where, why and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import PhaseReport, Status
from imagebuild.pipeline.page.html import Html, clipped, el, join, long_text
from imagebuild.pipeline.page.phases import warnings
from imagebuild.pipeline.page.view import CellView, PageView
from imagebuild.pipeline.page.words import EXIT_WORDS, command_line, link, mark, plural
from imagebuild.pipeline.verdict import failing_since
from imagebuild.units import duration

#: Lines and characters of what an error shows that are seen at once; the rest is folded.
_LINES, _CHARACTERS = 12, 6000
#: Failed checks, and lines of evidence of each.
_CHECKS, _EVIDENCE = 8, 8
#: Cells that are named in one place.
_NAMES = 40


@dataclass
class Trouble:
    """One failure, and the cells that it befell; the phase is that of the first."""

    phase: PhaseReport
    cells: list[tuple[CellView, PhaseReport]] = field(default_factory=list)


def troubles(view: PageView) -> list[Trouble]:
    """All failures; what failed for the same reason in several cells is one."""
    found: dict[tuple[object, ...], Trouble] = {}
    for cell in view.cells:
        for phase in cell.report.phases:
            if phase.status in (Status.FAILED, Status.INTERRUPTED):
                error = phase.error or {}
                parts = (error.get("what"), error.get("hint"), error.get("exit_code"))
                same = (phase.phase, phase.status, *map(str, parts))
                found.setdefault(same, Trouble(phase)).cells.append((cell, phase))
    return list(found.values())


def section(view: PageView) -> Html | None:
    """Failures, and what they hold; nothing when all is well."""
    parts = [*(_failure(t, view) for t in troubles(view)), _held(view)]
    shown = [p for p in parts if p]
    return join(shown) if shown else None


def _failure(trouble: Trouble, view: PageView) -> Html:
    phase, error = trouble.phase, trouble.phase.error or {}
    cell = trouble.cells[0][0]
    what = _say(error, "what") or f"{phase.phase.value} was {phase.status.value}"
    others = trouble.cells[1:]
    return el(
        "article",
        el(
            "h3",
            mark(phase.status),
            el("a", cell.id, href=f"#{cell.anchor}"),
            f" and {len(others)} more" if others else None,
            el("span", f" {phase.phase.value}", f" {phase.target}" if phase.target else None,
               class_="muted"),
        ),
        el("p", what, class_="what"),
        el("dl", _pairs(phase, error, failing_since(cell.id, view.earlier))),
        _detail(_say(error, "detail", 10**6), told=_names_of(_bad_checks(cell, phase))),
        _checks(_bad_checks(cell, phase)),
        _advice(error),
        el("p", link(phase.log, "Log"), class_="act") if phase.log else None,
        _others(others),
        class_=f"card trouble s-{phase.status.value}",
    )  # fmt: skip


def _pairs(phase: PhaseReport, error: Mapping[str, Any], nights: int) -> list[Html]:
    pairs: list[tuple[str, Html | str]] = []
    if where := _say(error, "where"):
        pairs.append(("Where", el("code", where)))
    code = phase.exit_code
    tries = len(phase.attempts)
    ended = f"exit code {int(code)}: {EXIT_WORDS[code]}"
    if phase.seconds:
        ended += f"; after {duration(phase.seconds)}"
    if tries > 1:
        ended += f", {plural(tries, 'try', 'tries')}"
    pairs.append(("Ended", ended))
    if nights:
        pairs.append(("Before", f"it was not good in the {plural(nights, 'night')} before either"))
    if len(phase.command) > 1:
        pairs.append(("By hand", command_line(phase.command)))
    return [el("div", el("dt", name), el("dd", value)) for name, value in pairs]


def _detail(detail: str, told: tuple[str, ...]) -> Html | None:
    """The lines that show why; but for those of checks that are told below."""
    lines = detail.strip("\n").split("\n") if detail.strip() else []
    lines = [line for line in lines if not (told and line.startswith(told))]
    if not lines:
        return None
    first = el("pre", long_text("\n".join(lines[:_LINES]), _CHARACTERS), tabindex=0)
    rest = "\n".join(lines[_LINES:])
    if not rest:
        return first
    more = plural(len(lines) - _LINES, "more line")
    return join(
        first,
        el("details", el("summary", more), el("pre", long_text(rest, _CHARACTERS), tabindex=0)),
    )


def _bad_checks(cell: CellView, phase: PhaseReport) -> list[Mapping[str, Any]]:
    checks = cell.facts.checks if cell.facts and phase.phase is Phase.VERIFY else ()
    return [c for c in checks if c["outcome"] in ("failed", "unknown")]


def _names_of(checks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(f"{c['name']}:" for c in checks[:_CHECKS])


def _checks(bad: Sequence[Mapping[str, Any]]) -> Html | None:
    """Checks that failed, with the lines that show it."""
    if not bad:
        return None
    shown = [
        el(
            "li",
            el("code", str(c["name"])),
            f" {c['what']}",
            _evidence(c.get("evidence")),
        )
        for c in bad[:_CHECKS]
    ]
    left = len(bad) - len(shown)
    return join(
        el("h4", plural(len(bad), "check") + " failed"),
        el("ul", shown, class_="checks"),
        el("p", f"{left} more in report.json.", class_="muted") if left else None,
    )


def _evidence(lines: object) -> Html | None:
    if not isinstance(lines, Sequence) or isinstance(lines, str) or not lines:
        return None
    text = "\n".join(str(line) for line in lines[:_EVIDENCE])
    return el("pre", long_text(text, _CHARACTERS), tabindex=0)


def _advice(error: Mapping[str, Any]) -> Html | None:
    """What the pattern book says of it, and what to try."""
    cause = error.get("cause")
    cause = cause if isinstance(cause, Mapping) else {}
    told = cause.get("advice")
    advice = [str(a) for a in told] if isinstance(told, list | tuple) else []
    advice += [hint] if (hint := _say(error, "hint")) and hint not in advice else []
    if not (advice or cause):
        return None
    return join(
        el("p", el("b", _say(cause, "title")), " ", _say(cause, "text")) if cause else None,
        el("div", el("b", "Try"), el("ul", [el("li", a) for a in advice[:6]]), class_="try")
        if advice
        else None,
    )


def _others(others: Sequence[tuple[CellView, PhaseReport]]) -> Html | None:
    if not others:
        return None
    items = [
        el("li", el("a", c.id, href=f"#{c.anchor}"), " ", link(p.log, "log") if p.log else None)
        for c, p in others[:_NAMES]
    ]
    left = len(others) - len(items)
    return join(
        el("h4", "For the same reason"),
        el("ul", items, el("li", f"and {left} more") if left else None, class_="names"),
    )


def _held(view: PageView) -> Html | None:
    """Cells that were not tried, by what holds them."""
    reasons: dict[str, list[CellView]] = {}
    for cell in view.cells:
        if cell.status is Status.HELD:
            why = next((p.why for p in cell.report.phases if p.status is Status.HELD), "")
            reasons.setdefault(why or "what comes before it has not ended well", []).append(cell)
    if not reasons:
        return None
    rows = [
        el(
            "li",
            mark(Status.HELD),
            [join(", " if n else " ", el("a", c.id, href=f"#{c.anchor}"))
             for n, c in enumerate(cells[:_NAMES])],
            f" and {len(cells) - _NAMES} more" if len(cells) > _NAMES else None,
            f": held, since {why}",
        )
        for why, cells in reasons.items()
    ]  # fmt: skip
    return el("article", el("h3", "Held"), el("ul", rows, class_="plain"),
              class_="card trouble s-held")  # fmt: skip


def notes(view: PageView) -> Html | None:
    """What works, but somebody should know; the same of several cells once."""
    said: dict[str, list[CellView]] = {}
    for cell in view.cells:
        for text in (*warnings(cell.report.phases), *_of_checks(cell)):
            said.setdefault(text, []).append(cell)
    notes = list(dict.fromkeys(view.report.notes))
    if not (said or notes):
        return None
    rows = [
        el("li", text, " ", el("span", ", ".join(c.id for c in cells[:6]),
           f" and {len(cells) - 6} more" if len(cells) > 6 else None, class_="muted"))
        for text, cells in said.items()
    ]  # fmt: skip
    shown = [*(el("li", note) for note in notes), *rows]
    left = len(shown) - _NAMES
    return el(
        "article",
        el("ul", shown[:_NAMES]),
        el("p", f"{left} more in report.json.", class_="muted") if left > 0 else None,
        class_="card notes",
    )


def _of_checks(cell: CellView) -> list[str]:
    checks = cell.facts.checks if cell.facts else ()
    told = []
    for check in checks:
        if check["outcome"] == "warning":
            hint = _say(check, "hint")
            told.append(f"{check['name']}: {check['what']}" + (f" ({hint})" if hint else ""))
    return told


def _say(error: Mapping[str, Any], key: str, limit: int = 1000) -> str:
    value = error.get(key)
    return clipped(str(value), limit) if value else ""
