"""report.md: what a person wants to know first; fits a mail or a merge comment.

The verdict is the first line (a mail's subject), then one line a cell, what failed, and what
changed since the last good night. It reads well as plain text, too: GitHub, GitLab and Gitea
render it, a mail or Slack shows it as it is.

Never longer than LIMIT characters: GitHub takes 65 536 in a comment (422 "body is too long"
beyond), Slack 40 000 in a message (chat.postMessage). What is left out is counted; report.json
has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from imagebuild.mdtext import block, code, escaped, table
from imagebuild.pipeline import markdownchanges
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import GOOD, CellReport, PhaseReport, RunReport, Status
from imagebuild.pipeline.verdict import failing_since, headline, last_good
from imagebuild.units import duration, size

LIMIT = 39_000


@dataclass(frozen=True)
class Detail:
    """How much is told: rows of a list, lines of a log, cells, failures; `is_all`: good cells,
    too.
    """

    rows: int
    lines: int
    cells: int = 10_000
    failures: int = 10_000
    is_all: bool = True


#: Tried in this order until it fits.
DETAILS = (
    Detail(30, 20),
    Detail(10, 10, failures=40),
    Detail(4, 5, cells=150, failures=25),
    Detail(2, 3, cells=60, failures=15, is_all=False),
    Detail(0, 0, cells=20, failures=8, is_all=False),
)


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text. Pure."""
    images = markdownchanges.compare(report, earlier)
    text = ""
    for detail in DETAILS:
        text = _text(report, earlier, images, detail)
        if len(text) <= LIMIT:
            return text
    # Sentences of many thousand characters: whole lines as far as they go.
    kept = text[: LIMIT - 40].rpartition("\n")[0]
    return f"{kept}\n\n… and more: see report.json\n"


def _text(
    report: RunReport,
    earlier: Sequence[RunReport],
    images: Sequence[markdownchanges.Compared],
    detail: Detail,
) -> str:
    lines = [f"# {escaped(report.pipeline)}: {headline(report)}", "", _about(report), ""]
    lines += _cells(report, detail)
    lines += _failures(report, earlier, detail)
    lines += markdownchanges.section(images, detail.rows, detail.cells)
    lines += _warnings(report, detail)
    if report.notes:
        lines += ["", "## Notes", "", *(f"- {escaped(n)}" for n in report.notes[:20])]
    return "\n".join(lines) + "\n"


def _about(report: RunReport) -> str:
    started = datetime.fromtimestamp(report.started, timezone.utc)
    words = [
        f"{started:%a %d %b %Y %H:%M} UTC",
        f"took {duration(report.seconds)}",
        f"exit code {int(report.exit_code)}",
        f"run {report.run}",
    ]
    hosts = [h for h in report.host.split(", ") if h]
    if hosts:
        words.append(f"on {escaped(report.host) if len(hosts) < 4 else f'{len(hosts)} machines'}")
    words += [f"imagebuild {escaped(report.tool)}"] if report.tool else []
    return ", ".join(words)


def _cells(report: RunReport, detail: Detail) -> list[str]:
    wanted = [c for c in report.cells if detail.is_all or c.status not in GOOD]
    wanted = (
        sorted(wanted, key=lambda c: c.status in GOOD) if len(wanted) > detail.cells else wanted
    )
    shown = wanted[: detail.cells]
    rows = [(code(c.id), _result(c.status), _what(c), _took(c)) for c in shown]
    lines = table(("cell", "result", "what", "took"), rows) if rows else []
    if more := len(report.cells) - len(shown):
        bad = sum(c.status not in GOOD for c in report.cells if c not in shown)
        lines += ["", f"… and {more} more cells" + (f", {bad} of them not good" if bad else "")]
    return lines


def _result(status: Status) -> str:
    return status.value if status in GOOD else f"**{status.value.upper()}**"


def _took(cell: CellReport) -> str:
    seconds = sum(p.seconds for p in cell.phases)
    return duration(seconds) if seconds else "-"


def _what(cell: CellReport) -> str:
    for phase in cell.phases:
        if phase.status in (Status.FAILED, Status.INTERRUPTED):
            what = str(phase.error["what"]) if phase.error else phase.status.value
            return f"{_name(phase)}: {escaped(_cut(what, 160))}"
    held = next((p for p in cell.phases if p.status is Status.HELD), None)
    if held:
        return f"not tried: {escaped(_cut(held.why, 160))}"
    if cell.status is Status.SKIPPED:
        return escaped(_cut(next((p.why for p in cell.phases if p.why), "nothing to do"), 160))
    words = _mirrored(cell) if cell.kind == "mirror" else _made(cell)
    tries = [f"{len(p.attempts)} tries of {_name(p)}" for p in cell.phases if len(p.attempts) > 1]
    return ", ".join([*words, *tries])


def _mirrored(cell: CellReport) -> list[str]:
    totals = next((p.result["totals"] for p in cell.phases if p.result.get("totals")), None)
    if not isinstance(totals, dict):
        return []
    outcomes = [f"{n} {word}" for word, n in dict(totals.get("outcomes") or {}).items() if n]
    return [f"{totals.get('images', '?')} images: {', '.join(outcomes) or 'none'}"]


def _made(cell: CellReport) -> list[str]:
    image = cell.image or {}
    words = [f"build {code(cell.build_id[:8])}"] if cell.build_id else []
    if image.get("proven"):
        words.append(f"proven: {escaped(str(image['proven']))}")
    files = {f: s for f, s in dict(image.get("files") or {}).items() if f != "raw"}
    words += [f"{f} {size(s)}" for f, s in list(files.items())[:1]]
    for which, verb in ((Phase.UPLOAD, "in"), (Phase.PROMOTE, "promoted:")):
        targets = [
            escaped(p.target) for p in cell.phases
            if p.phase is which and p.target and p.status in (Status.PASSED, Status.UNCHANGED)
        ]  # fmt: skip
        if targets:
            more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
            words.append(f"{verb} {', '.join(targets[:3])}{more}")
    return words


def _name(phase: PhaseReport) -> str:
    return escaped(f"{phase.phase.value} {phase.target}".rstrip())


def _failures(report: RunReport, earlier: Sequence[RunReport], detail: Detail) -> list[str]:
    failed = [
        (c, p)
        for c in report.cells
        for p in c.phases
        if p.status in (Status.FAILED, Status.INTERRUPTED)
    ]
    if not failed:
        return []
    lines = ["", f"## What failed ({len(failed)})"]
    for cell, phase in failed[: detail.failures]:
        lines += ["", f"### {code(cell.id)}: {_name(phase)}", "", *_failure(cell, phase, detail)]
        lines += _standing(cell, earlier)
    if more := len(failed) - detail.failures:
        lines += ["", f"… and {more} more failures"] if more > 0 else []
    return lines


def _failure(cell: CellReport, phase: PhaseReport, detail: Detail) -> list[str]:
    error = phase.error or {}
    lines = [f"**{escaped(_cut(str(error.get('what') or phase.status.value), 600))}**", ""]
    if where := str(error.get("where") or ""):
        lines.append(f"- where: {code(_cut(where, 300))}")
    tries = f" after {len(phase.attempts)} tries" if len(phase.attempts) > 1 else ""
    lines.append(f"- exit code {int(phase.exit_code)}{tries}")
    cause = error.get("cause")
    if isinstance(cause, dict):
        lines.append(f"- cause: {escaped(_cut(str(cause.get('title', '')), 300))}")
        lines += [f"- try: {escaped(_cut(str(a), 300))}" for a in list(cause.get("advice", ()))[:3]]
    if hint := str(error.get("hint") or ""):
        lines.append(f"- try: {escaped(_cut(hint, 300))}")
    if phase.command:
        lines.append(f"- by hand: {code(_cut(' '.join(phase.command), 500))}")
    if phase.log:
        lines.append(f"- log: {code(_cut(phase.log, 300))}")
    said = str(error.get("detail") or "").rstrip().splitlines()
    if phase.phase is Phase.VERIFY:
        said = _bad_checks(cell, detail) or said
    if said and detail.lines:
        kept = [_clipped(line, 300) for line in said[-detail.lines :]]
        left = len(said) - len(kept)
        lines += ["", *block([*([f"… {left} lines before"] if left else []), *kept])]
    return lines


def _bad_checks(cell: CellReport, detail: Detail) -> list[str]:
    """What the image did not pass, with its evidence."""
    lines = []
    for check in (cell.image or {}).get("checks", ()):
        if check["outcome"] in ("failed", "unknown"):
            lines.append(f"{check['name']}: {check['what']}")
            lines += [f"  | {e}" for e in list(check.get("evidence") or ())[-detail.lines :]]
            lines += [f"  try: {check['hint']}"] if check.get("hint") else []
    return lines


def _standing(cell: CellReport, earlier: Sequence[RunReport]) -> list[str]:
    """How long it has been so."""
    good = last_good(cell.id, earlier)
    nights = failing_since(cell.id, earlier)
    if good and not nights:
        return ["", f"The last run, {good.run}, was good."]
    if good:
        runs = "last run was" if nights == 1 else f"last {nights} runs were"
        return ["", f"The {runs} not good, either; {good.run} was."]
    return ["", f"None of {nights} earlier runs was good."] if nights else []


def _warnings(report: RunReport, detail: Detail) -> list[str]:
    found = [
        f"{code(c.id)} {_name(p)}: {escaped(_cut(w, 300))}"
        for c in report.cells
        for p in c.phases
        for w in p.warnings
    ]
    found += [
        f"{code(c.id)} {escaped(str(k['name']))}: {escaped(_cut(str(k['what']), 300))}"
        for c in report.cells
        for k in (c.image or {}).get("checks", ())
        if k["outcome"] == "warning"
    ]
    if not found:
        return []
    shown = found[: max(3, detail.rows)]
    more = [f"- … and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
    return ["", f"## Warnings ({len(found)})", "", *(f"- {w}" for w in shown), *more]


def _cut(text: str, length: int) -> str:
    """One line, not longer than that."""
    return _clipped(" ".join(text.split()), length)


def _clipped(line: str, length: int) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"
