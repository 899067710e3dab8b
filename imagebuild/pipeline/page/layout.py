"""The document around the sections: head, header, landmarks, pictures of statuses."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from imagebuild.errors import ExitCode
from imagebuild.pipeline.outcome import GOOD, RunReport, Status
from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.pipeline.page.view import PageView
from imagebuild.pipeline.page.words import (
    EXIT_WORDS,
    WORST_FIRST,
    at,
    badge,
    date,
    link,
    mark,
    plural,
    when,
)
from imagebuild.units import duration

_HERE = Path(__file__).parent
#: Files that lie beside the page (imagebuild.pipeline.reporting).
NEIGHBOURS = ("report.md", "report.json", "junit.xml", "metrics.prom")
#: What each status looks like, in a box of 16 by 16: a shape of its own, and what is in it.
_SHAPES = {
    Status.PASSED: ('<circle cx="8" cy="8" r="7.5"/>', '<path d="M4.4 8.3l2.5 2.5 4.8-5.3"/>'),
    Status.UNCHANGED: ('<circle cx="8" cy="8" r="7.5"/>', '<path d="M4.8 6.3h6.4M4.8 9.7h6.4"/>'),
    Status.SKIPPED: (
        '<circle class="ring" cx="8" cy="8" r="6.6"/>',
        '<path class="ink" d="M5 8h6"/>',
    ),
    Status.HELD: (
        '<rect x="1" y="1" width="14" height="14" rx="3"/>',
        '<path d="M6 5v6M10 5v6"/>',
    ),
    Status.FAILED: (
        '<path d="M5 .5h6L15.5 5v6L11 15.5H5L.5 11V5z"/>',
        '<path d="M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4"/>',
    ),
    Status.INTERRUPTED: (
        '<path d="M8 .6l7.6 14H.4z"/>',
        '<path d="M8 5.6v4.2M8 12v.6"/>',
    ),
}
#: Colours of the tab's picture, where style sheets do not reach.
_TAB = {True: ("#0f766e", Status.PASSED), False: ("#b3261e", Status.FAILED)}


def verdict(report: RunReport) -> str:
    """The run in one sentence."""
    count = Counter(c.status for c in report.cells)
    total = len(report.cells)
    if not total:
        return "There was nothing to do"
    told = [f"{count[s]} {s.value}" for s in WORST_FIRST[:3] if count[s]]
    if not report.complete:
        return "The run did not end" + (f": {', '.join(told)}" if told else "")
    if count[Status.FAILED] == total:
        return {1: "The one cell failed", 2: "Both cells failed"}.get(
            total, f"All {total} cells failed"
        )
    if told:
        return f"{', '.join(told)} of {plural(total, 'cell')}"
    everything = {1: "The one cell is", 2: "Both cells are"}.get(total, f"All {total} cells are")
    if all(c.status in (Status.UNCHANGED, Status.SKIPPED) for c in report.cells):
        return f"{everything} as last night: nothing had to be done"
    return f"{everything} good"


def document(view: PageView, sections: Sequence[tuple[str, str, Html | None]]) -> str:
    """The whole page; sections are (fragment, title, what is in it or None)."""
    report = view.report
    shown = [(name, title, body) for name, title, body in sections if body]
    style, script = _read("style.css"), _read("script.js")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="generator", content=f"imagebuild {report.tool}".strip()),
        el("title", f"{report.pipeline}: {verdict(report)} ({date(report.started)})"),
        el("link", rel="icon", href=_tab_icon(report)),
        el("style", style),
    )
    nav = el("nav", el("ul", [el("li", el("a", t, href=f"#{n}")) for n, t, _ in shown]),
             aria_label="Sections")  # fmt: skip
    main = [
        el("section", el("h2", title, id=f"{name}-title"), body, id=name,
           aria_labelledby=f"{name}-title")
        for name, title, body in shown
    ]  # fmt: skip
    body = el(
        "body",
        el("a", "To the cells", href="#cells", class_="skip"),
        _sprite(),
        _header(view),
        nav,
        el("main", main),
        el("footer", el("p", f"{report.pipeline}, run {report.run}. Times are UTC. "
           "This page needs no network and no scripts.")),
        el("script", script),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + el("html", head, "\n", body, lang="en") + "\n"


def _read(name: str) -> Html:
    """A file of this package."""
    return Html((_HERE / name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, sent, or framed; of styles and scripts, these two."""
    digests = (hashlib.sha256(text.encode()).digest() for text in (style, script))
    hashes = [base64.b64encode(d).decode() for d in digests]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _header(view: PageView) -> Html:
    report = view.report
    code = report.exit_code
    is_good = code == ExitCode.OK
    worst = _worst(report)
    facts = [
        join("Began ", when(report.started)),
        f"took {duration(report.seconds)}" if report.complete else "ended before its time",
        report.host and f"on {report.host}",
        report.tool and f"imagebuild {report.tool}",
        None if is_good else f"exit code {int(code)}: {_why(report)}",
    ]
    counted = Counter(c.status for c in report.cells)
    counts = [
        el("li", badge(s, f"{counted[s]} {s.value}"), class_="count")
        for s in WORST_FIRST
        if counted[s]
    ]
    links = [el("li", link(name, name)) for name in NEIGHBOURS]
    links.append(el("li", link("cells/", "logs")))
    before = next((r for r in reversed(view.earlier) if r.complete), None)
    if before:
        text = f"the run before: {at(before.started, report.started)}"
        links.append(el("li", link(f"../{before.run}/report.html", text)))
    return el(
        "header",
        el("p", el("b", report.pipeline), " ", el("span", f"run {report.run}", class_="muted"),
           class_="over"),
        el("div", mark(worst), el("h1", verdict(report)), class_=f"verdict s-{worst.value}"),
        el("ul", [el("li", f) for f in facts if f], class_="dots"),
        el("ul", counts, class_="counts", aria_label="Cells by status"),
        el("ul", links, class_="links", aria_label="Files of this run"),
    )  # fmt: skip


def _why(report: RunReport) -> str:
    if not report.complete:
        return "the run was killed, or goes on"
    codes = {p.exit_code for c in report.cells for p in c.phases if p.status is Status.FAILED}
    return (
        "for several reasons"
        if len(codes) > 1 and report.exit_code is ExitCode.FAILED
        else EXIT_WORDS[report.exit_code]
    )


def _worst(report: RunReport) -> Status:
    found = [c.status for c in report.cells]
    if not report.complete:
        found.append(Status.INTERRUPTED)
    return min(found, key=WORST_FIRST.index, default=Status.SKIPPED)


def _sprite() -> Html:
    """Definitions that other pictures use."""
    symbols = [
        f'<symbol id="i-{status.value}" viewBox="0 0 16 16"><g class="shape">{shape}</g>'
        f'<g class="in">{inside}</g></symbol>'
        for status, (shape, inside) in _SHAPES.items()
    ]
    hatch = (
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="hatch" width="2.5" height="6"/></pattern>'
    )
    defs = Html("".join(symbols) + f"<defs>{hatch}</defs>")
    return el("svg", defs, class_="sprite", aria_hidden="true", width=0, height=0)


def _tab_icon(report: RunReport) -> str:
    is_good = report.exit_code == ExitCode.OK and all(c.status in GOOD for c in report.cells)
    colour, status = _TAB[is_good]
    shape, inside = _SHAPES[status]
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='{colour}'>{shape}"
        f"<g fill='none' stroke='#fff' stroke-width='2'>{inside}</g></svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
