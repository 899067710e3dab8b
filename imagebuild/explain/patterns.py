"""Patterns of the book: a piece of a log line, with holes.

    E: Unable to locate package {package}
    Could not connect to {host} (…connect (111: Connection refused)

`{name}` is a word (no white space) and `{name*}` any text, both up to what follows and of
at most 200 characters; a name that comes twice must be the same text twice. `…` is any
text, or none, of at most 400 characters. Everything else stands for itself, so that a line
can be copied from a log into the book.

The longest piece between the holes (the needle) is searched for first, as plain text, from
the end: a regular expression sees only the lines that hold it. That, and the bounds, keep
the search fast on any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Characters looked at before and after a needle; a line of a log can be megabytes long.
REACH = 1000
#: So many characters of a line are shown.
SHOWN = 300
#: So many lines with the needle are tried, from the end on.
TRIES = 500
#: Needles shorter than this would be found everywhere.
SHORTEST_NEEDLE = 6
#: More holes than this in one pattern could make the search slow.
MOST_HOLES = 5

_HOLE = re.compile(r"\{(?P<name>[a-z_]+)(?P<text>\*?)\}|…")


@dataclass(frozen=True)
class Match:
    """A line that matched: its offset in the text, itself, what was in the holes.

    Of a long line, `line` is the part around what matched.
    """

    start: int
    line: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern; `compile_pattern` makes it."""

    source: str
    needle: str
    regex: re.Pattern[str]

    @property
    def fields(self) -> frozenset[str]:
        """Names of its holes."""
        return frozenset(self.regex.groupindex)

    def last(self, text: str) -> Match | None:
        """The last line of `text` that matches."""
        end = len(text)
        for _ in range(TRIES):
            hit = text.rfind(self.needle, 0, end)
            if hit < 0:
                break
            start = text.rfind("\n", 0, hit) + 1
            stop = text.find("\n", hit)
            stop = len(text) if stop < 0 else stop
            line = text[max(start, hit - REACH) : min(stop, hit + REACH)]
            if match := self.regex.search(line):
                fields = {name: _bare(value) for name, value in match.groupdict().items()}
                return Match(start, _around(line, match.start()), fields)
            end = start if hit - start <= REACH else hit
        return None


def compile_pattern(source: str) -> Pattern:
    """The pattern that `source` says. Raises ValueError when it is too vague to be searched."""
    pieces = list(_pieces(source))
    needle = max((text for kind, text in pieces if kind == "literal"), key=len, default="")
    if len(needle.strip()) < SHORTEST_NEEDLE:
        raise ValueError(f"pattern {source!r} has no piece of {SHORTEST_NEEDLE} characters")
    if sum(kind != "literal" for kind, _ in pieces) > MOST_HOLES:
        raise ValueError(f"pattern {source!r} has more than {MOST_HOLES} holes")
    regex = ""
    seen: set[str] = set()
    for number, (kind, text) in enumerate(pieces, start=1):
        shortest = "?" if number < len(pieces) else ""
        if kind == "literal":
            regex += re.escape(text)
        elif kind == "gap":
            regex += ".{0,400}" + shortest
        elif text in seen:
            regex += f"(?P={text})"
        else:
            seen.add(text)
            one = "." if kind == "text" else r"\S"
            regex += f"(?P<{text}>{one}{{1,200}}{shortest})"
    return Pattern(source, needle, re.compile(regex))


def _around(line: str, at: int) -> str:
    """What is shown of a line that matched at `at`."""
    first = max(0, min(at - SHOWN // 4, len(line) - SHOWN))
    shown = line[first : first + SHOWN].strip()
    return f"{'…' * (first > 0)}{shown}{'…' * (first + SHOWN < len(line))}"


def _bare(value: str) -> str:
    """Without what a sentence, a quotation or a bracket around it leaves at its ends."""
    value = value.strip().rstrip(".,;:'\"").lstrip("'\"")
    return value if "(" in value else value.rstrip(")")


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    """Kind (literal, gap, word or text) and text or name of each piece."""
    at = 0
    for hole in _HOLE.finditer(source):
        if hole.start() > at:
            yield "literal", source[at : hole.start()]
        if hole["name"]:
            yield "text" if hole["text"] else "word", hole["name"]
        else:
            yield "gap", ""
        at = hole.end()
    if at < len(source):
        yield "literal", source[at:]
