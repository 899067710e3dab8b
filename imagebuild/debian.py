"""Debian's text formats: control paragraphs, version numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

_PAIR = re.compile(r"(\D*)(\d*)")


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file (deb-control(5)), as `{field: value}`.

    Further lines of a value stay apart by newlines. Lines that are neither are skipped.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        elif not line.startswith("#"):
            name, colon, value = line.partition(":")
            name = name if colon else ""
            if name:
                fields[name] = value.strip()


def installed(status: str) -> list[dict[str, str]]:
    """The paragraphs of the packages that are installed, in dpkg's status file."""
    return [p for p in paragraphs(status) if p.get("Status", "").endswith(" installed")]


def compare_versions(a: str, b: str) -> int:
    """-1, 0 or 1 as version `a` is older than, the same as or newer than `b` (deb-version(7))."""
    for one, other in zip(_parts(a), _parts(b), strict=True):
        for x, y in zip_longest(one, other, fillvalue=((0,), 0)):
            if x != y:
                return -1 if x < y else 1
    return 0


def _parts(version: str) -> tuple[list[tuple[tuple[int, ...], int]], ...]:
    """Epoch, upstream version and revision, each as pairs that compare as dpkg does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return _pairs(epoch), _pairs(upstream), _pairs(revision)


def _pairs(text: str) -> list[tuple[tuple[int, ...], int]]:
    # A tilde sorts before the end (0), letters before everything else.
    pairs = []
    for other, digits in _PAIR.findall(text):
        if other or digits:
            order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in other]
            pairs.append(((*order, 0), int(digits or 0)))
    return pairs
