"""HTML of which nothing can break out: what is not `Html` is text, and gets escaped.

el("td", "a < b", class_="num")   →   <td class="num">a &lt; b</td>
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Union

from imagebuild.visible import visible

#: Characters of one text; what is longer is cut, and says so.
LIMIT = 400


class Html(str):
    """Markup, safe as it is. Made by this module only."""

    __slots__ = ()


Child = Union[str, Html, Iterable["Child"], None]  # noqa: UP007 - it names itself
Value = str | int | float | bool | None

_VOID = frozenset(("br", "col", "hr", "input", "link", "meta"))
_SHAPES = frozenset(("circle", "line", "polyline", "rect", "use"))
_ROLES = {
    "table": "table", "tbody": "rowgroup", "tr": "row", "th": "rowheader", "td": "cell",
}  # fmt: skip
_NOTHING = Html("")


def el(tag: str, *children: Child, **attributes: Value) -> Html:
    """An element. Of attributes, `class_` is class and `aria_label` aria-label.

    None and False leave an attribute out, True writes its name alone.
    """
    start = f"<{tag}{_attributes(attributes)}"
    if tag in _SHAPES:
        return Html(f"{start}/>")
    start += ">"
    return Html(start if tag in _VOID else f"{start}{join(*children)}</{tag}>")


def stacked(tag: str, *children: Child, **attributes: Value) -> Html:
    """An element of a table that is no grid on phones: with its role, which it would lose."""
    return el(tag, *children, role=_ROLES[tag], **attributes)


def join(*children: Child) -> Html:
    """Children after each other."""
    return Html("".join(map(_text, children)))


def clipped(text: str, limit: int = LIMIT) -> str:
    """The text, cut to so many characters."""
    over = len(text) - limit
    return text if over <= 0 else f"{text[:limit]}… ({over} characters more)"


def long_text(text: str, limit: int) -> Html:
    """A text that may be longer than others."""
    return Html(html.escape(visible(clipped(text, limit))))


def number(value: float) -> str:
    """A coordinate, as short as it can be."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def percent(value: float) -> str:
    """A coordinate that goes with the width of the picture; 1 is all of it."""
    return f"{number(100 * value)}%"


def _text(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return long_text(child, LIMIT)
    return _NOTHING if child is None else join(*child)


def _attributes(attributes: dict[str, Value]) -> str:
    found = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            found.append(f" {name}")
        else:
            text = value if isinstance(value, str) else number(value)
            found.append(f' {name}="{long_text(text, LIMIT)}"')
    return "".join(found)
