"""A line of cron as systemd's calendar events (crontab(5), systemd.time(7))."""

from __future__ import annotations

import re

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
#: Of each field: the least number, the most, and words in place of numbers.
_FIELDS: tuple[tuple[int, int, list[str]], ...] = (
    (0, 59, []), (0, 23, []), (1, 31, []), (1, 12, _MONTHS), (0, 7, _DAYS),
)  # fmt: skip


def calendar_events(line: str) -> list[str]:
    """The events, in UTC: one, or two where cron names days of the month and of the week, of
    which either will do, while systemd wants both.

    `line` is valid (imagebuild.config.pipelinevalues.check_cron).
    """
    minutes, hours, days, months, weekdays = (
        _numbers(text, *bounds) for text, bounds in zip(line.split(), _FIELDS, strict=True)
    )
    time = f"{_listed(hours, 2)}:{_listed(minutes, 2)}:00 UTC"
    week = sorted({number % 7 for number in weekdays}) if weekdays is not None else None
    named = None if week is None else ",".join(_DAYS[n].title() for n in week)
    date = f"*-{_listed(months, 2)}-"
    # cron looks at the star that a field begins with, so */2 is no restriction of days either.
    starred = [line.split()[n].startswith("*") for n in (2, 4)]
    if named and days is not None and not any(starred):
        return [f"{date}{_listed(days, 2)} {time}", f"{named} {date}* {time}"]
    prefix = f"{named} " if named else ""
    return [f"{prefix}{date}{_listed(days, 2)} {time}"]


def _numbers(text: str, least: int, most: int, words: list[str]) -> list[int] | None:
    """The numbers that a field stands for; None: all of them."""
    if text == "*":
        return None
    found: set[int] = set()
    for part in text.lower().split(","):
        span, _, step = part.partition("/")
        first, last = (least, most) if span == "*" else _span(span, least, words)
        found |= set(range(first, last + 1, int(step or 1)))
    return sorted(found)


def _span(text: str, least: int, words: list[str]) -> tuple[int, int]:
    ends = [words.index(end) + least if end in words else int(end) for end in text.split("-")]
    return ends[0], ends[-1]


def _listed(numbers: list[int] | None, width: int) -> str:
    return "*" if numbers is None else ",".join(f"{n:0{width}}" for n in numbers)


def cron_text(text: str) -> str:
    """A command in a line of cron: an unescaped % would end it (crontab(5))."""
    return re.sub(r"%", r"\\%", text)
