"""Texts of others, safe to show: what would be obeyed or hidden is written as an escape."""

from __future__ import annotations

import re

#: What a terminal or a page would obey or hide instead of showing it: control characters (C0
#: without tab and line end, C1), marks that turn the direction of text, and lone surrogates,
#: which stand for bytes that are no UTF-8.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with what would not be shown written as an escape, like \\x1b."""
    return UNSEEN.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """`visible`, and line ends and tabs written as escapes too: one value on one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
