"""What `mirror check` found, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagebuild.cli.mirror.view import short
from imagebuild.cli.terminal import Terminal, one_line
from imagebuild.units import size

if TYPE_CHECKING:
    from imagebuild.cli.mirror.checkrun import Checked, Found
    from imagebuild.mirror.answers import Answer
    from imagebuild.mirror.loading import LoadedList

SCHEMA_VERSION = 1

_STYLES = {"whole": "green", "missing": "bold red", "damaged": "bold red", "unknown": "bold red"}


def state_of(checked: Checked) -> str:
    """whole, missing, damaged, or unknown where the registry could not be asked."""
    walk = checked.walk
    if walk.error:
        return "unknown"
    if not walk.digest:
        return "missing"
    return "whole" if walk.ok else "damaged"


def show(to: Terminal, loaded: LoadedList, found: Found) -> None:
    """Tables on stdout; what is wrong, and what to do, on stderr."""
    from imagebuild.cli.tables import Tables

    tables = Tables(to.out)
    target = loaded.value.target.name
    rows = [_cells(c, target) for c in found.checked]
    states = [state_of(c) for c in found.checked]
    tables.table(
        f"Images of {target}", ("image", "state", "digest", "size"), rows, ("size",),
        [_STYLES[s] for s in states],
    )  # fmt: skip
    if found.answers:
        tables.table(
            "Datastore versions", ("version", "state", "wanted for", "image"),
            [_answer_cells(a) for a in found.answers], (),
            ["green" if a.ok else "bold red" for a in found.answers],
        )  # fmt: skip
    _tell(to, found, target)


def _tell(to: Terminal, found: Found, below: str) -> None:
    told = set()
    for checked in found.checked:
        name = short(str(checked.walk.reference), below)
        if checked.walk.error and str(checked.walk.error) not in told:
            told.add(str(checked.walk.error))
            to.error(checked.walk.error)
        for problem in checked.walk.problems:
            to.info(f"✗ {name}: {one_line(str(problem))}", "bold red")
        if checked.is_foreign:
            to.warning(f"{name} is not what `mirror sync` put there: {checked.expected}")
    for answer in found.answers:
        label = f"{answer.need.version.label}, {answer.need.purpose.value}"
        if not answer.ok:
            to.info(f"✗ {label}: {one_line(answer.reason)}", "bold red")
            if answer.hint:
                to.info(f"  try: {one_line(answer.hint)}", "cyan")
        elif answer.reason:
            to.info(f"! {label}: {one_line(answer.reason)}", "yellow")
    states = [state_of(c) for c in found.checked]
    if any(s in ("missing", "damaged") for s in states):
        damaged = " --deep" if "damaged" in states else ""
        to.info(f"  try: imagebuild mirror sync{damaged}", "cyan")
    counts = ", ".join(f"{states.count(s)} {s}" for s in _STYLES if s in states)
    versions = sum(not a.ok for a in found.answers)
    said = f"; {versions} of {len(found.answers)} needs of versions not met" if versions else ""
    to.info(f"{counts or 'no images'}{said}", "bold")


def document(loaded: LoadedList, found: Found, *, deep: bool) -> dict[str, Any]:
    """Shape used by `--json`."""
    states = [state_of(c) for c in found.checked]
    return {
        "schema_version": SCHEMA_VERSION,
        "list": str(loaded.path),
        "target": loaded.value.target.name,
        "deep": deep,
        "ok": found.ok,
        "results": [
            c.walk.to_json()
            | {"state": state_of(c), "expected": c.expected, "foreign": c.is_foreign}
            for c in found.checked
        ],
        "versions": [a.to_json() for a in found.answers],
        "totals": {
            "images": len(states),
            "states": {s: states.count(s) for s in _STYLES},
            "needs": len(found.answers),
            "needs_not_met": sum(not a.ok for a in found.answers),
        },
    }


def _cells(checked: Checked, below: str) -> list[str]:
    walk = checked.walk
    digest = walk.digest.removeprefix("sha256:")[:12] or "-"
    return [
        one_line(short(str(walk.reference), below)),
        state_of(checked),
        digest,
        size(walk.size) if walk.digest else "-",
    ]


def _answer_cells(answer: Answer) -> list[str]:
    state = "found" if answer.ok else "not found"
    wanted = answer.image or " or ".join(answer.need.chain.images) or "-"
    return [answer.need.version.label, state, answer.need.purpose.value, one_line(wanted)]
