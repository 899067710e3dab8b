"""How the page says things: statuses, times, sizes, what has grown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from urllib.parse import quote

from imagebuild.errors import ExitCode
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import Status
from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.units import duration, size

#: The least that counts as a change: of a size, of a time.
_SAME_SIZE, _SAME_SECONDS = 512 * 1024, 1.0
_SAFE = re.compile(r"[^a-zA-Z0-9]+")

EXIT_WORDS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "wrong usage",
    ExitCode.CONFIG: "configuration invalid",
    ExitCode.PREFLIGHT: "host, credentials or quota not ready",
    ExitCode.VERIFY: "verification failed",
    ExitCode.PUBLISH: "publishing or mirroring failed",
    ExitCode.POLICY: "a policy gate said no",
    ExitCode.TEMPORARY: "temporary, a retry may help",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}

#: What is looked at first.
WORST_FIRST = (
    Status.FAILED, Status.INTERRUPTED, Status.HELD, Status.PASSED, Status.UNCHANGED,
    Status.SKIPPED,
)  # fmt: skip

PHASE_ORDER = tuple(Phase)


def mark(status: Status) -> Html:
    """A status as a little picture, each of another shape. Says nothing to a screen reader."""
    use = el("use", href=f"#i-{status.value}")
    return el("svg", use, class_=f"i s-{status.value}", aria_hidden="true")


def badge(status: Status, text: str = "") -> Html:
    """Picture and word."""
    word = el("span", text or status.value)
    return el("span", mark(status), word, class_=f"badge s-{status.value}")


def hidden(text: str) -> Html:
    """Words for screen readers only."""
    return el("span", text, class_="vh")


def moment(seconds: float) -> datetime:
    """A time of a report. What no calendar has is the start of 1970."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0, timezone.utc)


def date(seconds: float) -> str:
    """23 Nov."""
    it = moment(seconds)
    return f"{it.day} {it:%b}"


def at(seconds: float, now: float) -> str:
    """A run of another day by its date, one of the same day with its time."""
    is_today = moment(seconds).date() == moment(now).date()
    return f"{date(seconds)}, {clock(seconds)}" if is_today else date(seconds)


def labels(starts: Sequence[float]) -> list[str]:
    """Runs by their dates, with the time where a day has several."""
    days = [date(s) for s in starts]
    return [
        f"{day}, {clock(s)}" if days.count(day) > 1 else day
        for day, s in zip(days, starts, strict=True)
    ]


def clock(seconds: float) -> str:
    """02:17."""
    return f"{moment(seconds):%H:%M}"


def when(seconds: float) -> Html:
    """Mon 23 Nov 2026, 02:17 UTC."""
    it = moment(seconds)
    text = f"{it:%a} {it.day} {it:%b %Y}, {it:%H:%M} UTC"
    return el("time", text, datetime=f"{it:%Y-%m-%dT%H:%M:%SZ}")


def plural(count: int, noun: str, several: str = "") -> str:
    """1 cell, 2 cells."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def size_change(before: int | None, after: int | None) -> Html | None:
    """+1.2 MiB, with an arrow; nothing when it is about the same or not known."""
    if before is None or after is None or abs(after - before) < _SAME_SIZE:
        return None
    return _change(after - before, size(abs(after - before)), "larger", "smaller")


def time_change(before: float | None, after: float | None, least: float = 0.05) -> Html | None:
    """As `size_change`, of seconds. `least`: the part from which on it is worth a word."""
    if before is None or after is None:
        return None
    change = after - before
    if abs(change) < max(_SAME_SECONDS, least * before):
        return None
    return _change(change, duration(abs(change)), "slower", "faster")


def _change(change: float, text: str, more: str, less: str) -> Html:
    sign, word = ("+", more) if change > 0 else ("\N{MINUS SIGN}", less)
    name = "up" if change > 0 else "down"
    return el("span", f"{sign}{text}", hidden(f" ({word})"), class_=f"change {name}")


def anchor(*names: str) -> str:
    """A fragment of a URL, of safe letters."""
    return "-".join(_SAFE.sub("-", n).strip("-").lower() or "x" for n in names)


def link(path: str, text: str, **attributes: str) -> Html:
    """A link to a file near the page; plain text when it would lead elsewhere."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts[1:] or any(not p for p in parts[:-1]):
        return join(text)
    # "./" keeps a colon in the first part from being a scheme.
    start = "" if parts[0] == ".." else "./"
    encoded = quote(path.encode(errors="replace"), safe="/")
    return el("a", text, href=start + encoded, **attributes)


def command_line(command: tuple[str, ...]) -> Html:
    """What to type, with a shell's quotes."""
    import shlex

    return el("code", shlex.join(command), class_="command")


def size_or_none(value: object) -> str | None:
    """A size of a document that others have written."""
    return size(int(value)) if isinstance(value, int | float) and value >= 0 else None
