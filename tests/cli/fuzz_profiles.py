"""Strategies for the files and words that people give to the command."""

from __future__ import annotations

import os
from typing import Any

import yaml
from hypothesis import strategies as st

from imagebuild.config.load import load_profile
from imagebuild.config.profilekind import PROFILE

#: Text with what breaks parsers and terminals.
NASTY = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "\r", "\n", "\nerror: forged", "\t",
    "\u202egnp.exe", "\u2028", "\ufeff", "é", "é", "🙂", "[bold]", ":smile:", "%s%n{0}", "$(id)",
    "`id`", "';--", "../../etc", "/dev/zero", "~", "~nobody-here/x", "x" * 300, "9" * 5000,
    "a/" * 3000, ".nan", ".inf", "-0", "0x10", "1e999", "2024-01-01", "null",
    "!!python/object:os.x", "*a", "&a", "<<", "{", "}", "[", "]", "? ", "- ", "|", ">",
    "%YAML 1.99", '"\\UFFFFFFFF"', '"\\uD800"', "---", "...", "\x00", "\x7f", "²", "٣",
)  # fmt: skip

#: What the operating system can hand over: any bytes but NUL, as Python decodes them.
arguments = (
    st.binary(max_size=24).map(lambda b: os.fsdecode(b.replace(b"\0", b"")))
    | st.sampled_from([word.replace("\0", "") for word in NASTY])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.sampled_from(NASTY)
    | st.text(max_size=12)
)
anything = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(["url", "size"]), below, max_size=3)
    ),
    max_leaves=5,
)
keys = st.sampled_from(PROFILE.known_paths())


def flat(text: str) -> str:
    """YAML of a value on one line, as --set takes it."""
    return yaml.safe_dump(text, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


@st.composite
def documents(draw: st.DrawFn) -> str:
    """The text of a whole and valid profile, with keys dropped, renamed, doubled or changed."""
    tree = load_profile(draw(st.sampled_from(["debian-bookworm", "ubuntu-jammy"])))
    data = tree.profile.model_dump(mode="json")
    for _ in range(draw(st.integers(0, 3))):
        _mutate(draw, data)
    text = yaml.safe_dump(data, allow_unicode=draw(st.booleans()), sort_keys=False)
    return _scribble(draw, text) if draw(st.booleans()) else text


def _mutate(draw: st.DrawFn, data: dict[str, Any]) -> None:
    *above, last = draw(keys).split(".")
    for key in above:
        below = data.get(key)
        if not isinstance(below, dict):
            return
        data = below
    what = draw(st.sampled_from(["drop", "rename", "change", "wrap", "add"]))
    if what == "drop":
        data.pop(last, None)
    elif what == "rename":
        data[draw(st.text(max_size=8))] = data.pop(last, None)
    elif what == "change":
        data[last] = draw(anything)
    elif what == "wrap":
        data[last] = draw(st.sampled_from([[data.get(last)], {"x": data.get(last)}]))
    else:
        data[draw(st.sampled_from([*NASTY, "extends", "disc"]))] = draw(anything)


def _scribble(draw: st.DrawFn, text: str) -> str:
    """The text with one place of it damaged."""
    lines = text.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    junk = draw(st.sampled_from(NASTY) | st.text(max_size=6))
    what = draw(st.sampled_from(["double", "indent", "insert", "append", "cut", "second"]))
    if what == "double":
        lines.insert(number, lines[number])
    elif what == "indent":
        lines[number] = draw(st.sampled_from([" ", "\t", "   "])) + lines[number]
    elif what == "insert":
        lines.insert(number, junk + "\n")
    elif what == "append":
        lines[number] = lines[number].rstrip("\n") + junk + "\n"
    elif what == "cut":
        lines[number:] = [lines[number][: draw(st.integers(0, 8))]]
    else:
        lines.append("---\n" + junk)
    return "".join(lines)
