"""Words of others in Markdown: nothing in them is taken for markup.

Rules: GitHub Flavored Markdown Spec 0.29 (section 2.4, backslash escapes; 4.5, fences; 4.10,
tables), which GitLab's and Gitea's renderers share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: What a backslash makes plain: a `~` that has a partner, a `_` that is not inside of a word.
_MARKUP = re.compile(r"[\\|`*<\[]|~(?=.*~)|&(?=[#\w]+;)|(?<![^\W_])_|_(?![^\W_])")
_SPAN = re.compile("`[^`]+`")
_SPAN_OR_TEXT = re.compile("`[^`]+`|[^`]+|`")
#: What GitHub and GitLab take for somebody's name, who is then told of it.
_MENTION = re.compile(r"@(?=\w)")


def row(cells: Iterable[str]) -> str:
    """A row of a table; each cell is Markdown already."""
    return f"| {' | '.join(cells)} |"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose columns stand below each other in a plain mail, too. Cells are Markdown."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    # One long line does not push the others apart.
    widths = [min(max(w, 3), 48) for w in widths]
    lines = [columns, ["-" * w for w in widths], *rows]
    return [
        row(c.ljust(w) if n < len(widths) - 1 else c for n, (c, w) in enumerate(zip(line, widths)))  # noqa: B905
        for line in lines
    ]


def code(text: str) -> str:
    """Text in a code span, where no name is a mention."""
    plain = printable(text).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def escaped(text: str) -> str:
    """Text on one line, as it is read; what stands in a pair of backticks is code."""
    return "".join(
        code(part[1:-1]) if _SPAN.fullmatch(part) else _plain(part)
        for part in _SPAN_OR_TEXT.findall(printable(text))
    )


def _plain(text: str) -> str:
    quiet = _MARKUP.sub(lambda m: f"\\{m[0]}", text)
    # A blank of no width: a message may hold anybody's name.
    return _MENTION.sub("@\u200b", quiet)


def block(lines: Sequence[str]) -> list[str]:
    """Lines in a fence that none of them ends."""
    shown = [printable(line.replace("\t", "    ")) for line in lines]
    longest = max((len(m[0]) for line in shown for m in re.finditer("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *shown, fence]


def printable(text: str) -> str:
    """Text without what is not seen; a name may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)
