"""Find entries of the book in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from imagebuild.explain.book import Entry, Rank, Scope, load_book
from imagebuild.explain.patterns import Match

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_USERINFO = re.compile(r"//[^/\s@]{1,200}@")


@dataclass(frozen=True)
class Explanation:
    """What an entry says about a text. `line` is the last that says it, `number` counts from 1."""

    id: str
    scope: tuple[Scope, ...]
    rank: Rank
    title: str
    cause: str
    advice: tuple[str, ...]
    source: tuple[str, ...]
    temporary: bool
    number: int
    line: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `imagebuild explain --json` prints them."""
        return {
            "id": self.id,
            "scope": [str(s) for s in self.scope],
            "rank": self.rank.name.lower(),
            "title": self.title,
            "cause": self.cause,
            "advice": list(self.advice),
            "source": list(self.source),
            "temporary": self.temporary,
            "line_number": self.number,
            "line": self.line,
        }


def explain(
    text: str, scope: Scope | None = None, entries: Iterable[Entry] | None = None
) -> tuple[Explanation, ...]:
    """What the book knows about a log: the likeliest cause first.

    `scope` leaves entries for other logs out. Colours are ignored and passwords in URLs
    struck out. An empty tuple means that nothing was recognised.
    """
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    found = []
    for entry in load_book().entries if entries is None else entries:
        if scope is None or scope in entry.scope:
            match = _find(entry, text)
            if match:
                found.append((entry, match))
    found.sort(key=lambda pair: (-pair[0].rank, -pair[1].start))
    return tuple(_explanation(entry, match, text) for entry, match in found)


def _find(entry: Entry, text: str) -> Match | None:
    best = next(filter(None, (p.last(text) for p in entry.any)), None)
    if best is None:
        return None
    fields = dict(best.fields)
    for pattern in entry.also:
        other = pattern.last(text)
        if other is None:
            return None
        fields = other.fields | fields
    if any(p.last(text) for p in entry.unless):
        return None
    return Match(best.start, best.line, fields)


def _explanation(entry: Entry, match: Match, text: str) -> Explanation:
    fields = {name: _masked(value) for name, value in match.fields.items()}
    return Explanation(
        id=entry.id,
        scope=entry.scope,
        rank=entry.rank,
        title=entry.fill(entry.title, fields),
        cause=entry.fill(entry.cause, fields).strip(),
        advice=tuple(entry.fill(a, fields) for a in entry.advice),
        source=entry.source,
        temporary=entry.temporary,
        number=text.count("\n", 0, match.start) + 1,
        line=_masked(match.line),
    )


def _masked(text: str) -> str:
    """Without the name and password of a URL: what is shown here ends up in tickets."""
    return _USERINFO.sub("//***@", text)
