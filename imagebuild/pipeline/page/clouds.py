"""What became of each cloud: images that went up, versions that were promoted, what was retired."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import GOOD, PhaseReport, Status
from imagebuild.pipeline.page.html import Html, el, join, stacked
from imagebuild.pipeline.page.view import CellView, PageView
from imagebuild.pipeline.page.words import mark, plural, size_or_none
from imagebuild.units import duration

_PUBLISHING = (Phase.UPLOAD, Phase.REGISTER, Phase.PROMOTE, Phase.RETIRE)
#: The cloud of a phase without a target: that of OS_*.
_UNNAMED = "default cloud"


def section(view: PageView) -> Html | None:
    """A table for each cloud; nothing when no cell publishes."""
    names = {_cloud(p) for c in view.images for p in c.report.phases if p.phase in _PUBLISHING}
    return join(_table(view, name) for name in sorted(names)) if names else None


def _table(view: PageView, cloud: str) -> Html:
    columns = ("Image", "Upload", "Datastore versions", "Older images")
    rows = [row for c in view.images if (row := _row(c, cloud))]
    head = el("thead", el("tr", [el("th", text, scope="col") for text in columns]))
    table = stacked(
        "table", el("caption", el("h3", cloud)), head, stacked("tbody", rows), class_="cloud"
    )
    return el("div", table, class_="scroll", tabindex=0, role="region", aria_label=cloud)


def _row(cell: CellView, cloud: str) -> Html | None:
    here = [p for p in cell.report.phases if p.phase in _PUBLISHING and _cloud(p) == cloud]
    if not here:
        return None
    name = stacked("th", el("a", cell.id, href=f"#{cell.anchor}"), scope="row")
    if all(p.status is Status.HELD for p in here):
        held = el("div", mark(Status.HELD), f" held: {here[0].why}")
        return stacked("tr", name, stacked("td", held, colspan=3))
    of = {phase: [p for p in here if p.phase is phase] for phase in _PUBLISHING}
    versions = _versions(of[Phase.REGISTER], of[Phase.PROMOTE])
    return stacked(
        "tr",
        name,
        stacked("td", [_upload(p) for p in of[Phase.UPLOAD]], data_label="Upload"),
        stacked("td", versions, data_label="Datastore versions"),
        stacked("td", [_retired(p) for p in of[Phase.RETIRE]], data_label="Older images"),
    )


def _upload(phase: PhaseReport) -> Html:
    if phase.status is not Status.PASSED:
        return _plain(phase, {Status.UNCHANGED: "was there"})
    image, size = phase.result.get("image"), size_or_none(phase.result.get("bytes"))
    told = ", ".join(filter(None, (str(phase.result.get("status") or "uploaded"), size,
                                   duration(phase.seconds))))  # fmt: skip
    tries = len(phase.attempts)
    return el(
        "div",
        mark(phase.status),
        f" {told}",
        f", {plural(tries, 'try', 'tries')}" if tries > 1 else None,
        el("div", el("code", str(image)), class_="muted") if image else None,
    )


def _versions(registered: Sequence[PhaseReport], promoted: Sequence[PhaseReport]) -> list[Html]:
    """A line for each version: promoted or not, with its creation in front when it is new."""
    made = {_rest(p): p for p in registered}
    lines = []
    for phase in promoted:
        new = made.pop(_rest(phase), None)
        words = {Status.PASSED: "promoted", Status.UNCHANGED: "has it"}
        if phase.status is Status.PASSED and phase.result.get("changed") is False:
            words[Status.PASSED] = "has it"
        if new and new.status is Status.PASSED:
            words = {k: f"created, {v}" for k, v in words.items()}
        elif new and new.status not in GOOD and phase.status is Status.HELD:
            phase, words = new, {}
        lines.append(_plain(phase, words, _rest(phase)))
    for name, phase in made.items():
        words = {Status.PASSED: "created", Status.UNCHANGED: "was there"}
        lines.append(_plain(phase, words, name))
    return lines


def _retired(phase: PhaseReport) -> Html:
    counted = [
        f"{phase.result[key]} {word}"
        for key, word in (
            ("deleted", "deleted"),
            ("deactivated", "deactivated"),
            ("left", "kept"),
        )
        if isinstance(phase.result.get(key), int) and phase.result[key]
    ]
    words = {Status.PASSED: ", ".join(counted) or "done", Status.UNCHANGED: "nothing to do"}
    return _plain(phase, words, _rest(phase))


def _plain(phase: PhaseReport, words: dict[Status, str], name: str = "") -> Html:
    text = words.get(phase.status, phase.status.value)
    if phase.status is Status.HELD and phase.why:
        text = f"held: {phase.why}"
    return el("div", mark(phase.status), " ", el("b", name) if name else None, f" {text}")


def _cloud(phase: PhaseReport) -> str:
    return phase.target.partition("/")[0] or _UNNAMED


def _rest(phase: PhaseReport) -> str:
    return phase.target.partition("/")[2].replace("/", " ")
