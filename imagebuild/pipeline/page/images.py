"""Each image: what is in it, how it booted, what has changed."""

from __future__ import annotations

from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import Status
from imagebuild.pipeline.page import boot, directories, packages, phases
from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.pipeline.page.view import CellView, PageView, Room
from imagebuild.pipeline.page.words import badge, plural
from imagebuild.units import duration, size

#: Images that are seen at once; of more, those that failed are.
_OPEN = 3
_HOOKS = 8


def section(view: PageView) -> Html | None:
    """All images; nothing when there is none."""
    images = view.images
    if not images:
        return None
    return join(_image(c, view, view.room) for c in images)


def _image(cell: CellView, view: PageView, room: Room) -> Html:
    is_open = len(view.images) <= _OPEN or cell.status in (Status.FAILED, Status.INTERRUPTED)
    facts = cell.facts
    booted, news = boot.section(cell, room), packages.section(cell, room.packages)
    summary = el(
        "summary",
        el("h3", cell.id, id=cell.anchor),
        badge(cell.status),
        el("span", size(cell.tonight.size), class_="muted") if cell.tonight.size else None,
    )
    body = (
        (_facts(facts), el("div",
            el("div", directories.section(cell, room), news if booted else None),
            el("div", booted or news, _hooks(facts)), class_="two"))
        if facts
        else el("p", _nothing(cell), class_="muted")
    )  # fmt: skip
    return el(
        "details",
        summary,
        el("div", body, phases.table(cell, view.report, room.phases), class_="inside"),
        class_="card image",
        open=is_open,
    )


def _nothing(cell: CellView) -> str:
    if cell.report.image:
        return "The report has facts of the image that this version cannot read."
    return "There is no image: it was not built in this run."


def _facts(facts: ImageFacts) -> Html:
    """Names and figures, side by side."""
    passed = sum(c["outcome"] in ("passed", "warning") for c in facts.checks)
    ran = [c for c in facts.checks if c["outcome"] != "skipped"]
    agent = " ".join(str(facts.agent[k]) for k in ("name", "version") if facts.agent.get(k))
    commit = str(facts.agent.get("commit") or "")[:12]
    pairs = [
        ("Artifact", el("code", facts.name)),
        ("Files", ", ".join(f"{k} {size(v)}" for k, v in facts.files.items())),
        ("Disk", size(facts.virtual_size) if facts.virtual_size else ""),
        ("Guest agent", ", ".join(filter(None, (agent, commit, _series(facts))))),
        ("Proven", facts.proven or ""),
        ("Checks", f"{passed} of {len(ran)} passed" if ran else ""),
    ]
    return el(
        "dl",
        [el("div", el("dt", name), el("dd", value)) for name, value in pairs if value],
        class_="facts",
    )


def _series(facts: ImageFacts) -> str:
    series = facts.agent.get("series")
    return f"series {series}" if series else ""


def _hooks(facts: ImageFacts) -> Html | None:
    """The steps that took longest when it was built."""
    if not facts.hooks:
        return None
    rows = [
        el(
            "tr",
            el("th", el("code", f"{phase}/{name}"), scope="row"),
            el("td", stage),
            el("td", duration(seconds), class_="n"),
        )
        for stage, phase, name, seconds in facts.hooks[:_HOOKS]
    ]
    head = el("tr", el("th", "Step", scope="col"), el("th", "Stage", scope="col"),
              el("th", "Took", scope="col", class_="n"))  # fmt: skip
    return el(
        "details",
        el("summary", f"The {plural(len(rows), 'slowest step', 'slowest steps')} of its build"),
        el("div", el("table", el("thead", head), el("tbody", rows)), class_="scroll"),
    )
