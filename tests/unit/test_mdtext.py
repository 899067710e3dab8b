"""Words of others in Markdown, read by a real parser of it."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from imagebuild.mdtext import block, code, escaped, printable, row, table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
#: What Markdown has a meaning for, and some letters.
TOKENS = st.sampled_from(["&lt;", "&#64;", "__", "**", "~~", "~", "<b>", "[x](y)", "a", " ", "`"])
TEXTS = st.lists(
    TOKENS | st.sampled_from("_*<>[]()!#&;\\|@\"'-+.:/=`") | st.characters(), max_size=12
).map("".join)


@given(TEXTS.filter(lambda t: "`" not in t))
def test_text_is_read_as_it_is(text: str) -> None:
    shown = html.unescape(PARSER.renderInline(f"x {escaped(text)} x"))
    # A bar's backslash is for tables, and is taken off there or here.
    assert shown.replace("\u200b", "") == f"x {printable(text)} x"


@given(TEXTS)
def test_a_cell_of_a_table_stays_one(text: str) -> None:
    lines = [row(["a", "b"]), row(["---", "---"]), row([f"x{code(text)}", escaped(text)])]
    shown = PARSER.render("\n".join(lines))
    assert shown.count("<td>") == 2
    assert shown.count("<tr>") == 2


@given(st.lists(TEXTS, max_size=5))
def test_a_fence_holds_any_line(lines: list[str]) -> None:
    shown = PARSER.render("\n".join([*block(lines), "", "after"]))
    assert shown.count("<pre>") == 1
    assert shown.endswith("<p>after</p>\n")
    inner = html.unescape(shown.partition('">')[2].partition("</code>")[0])
    assert inner.splitlines() == [printable(x.replace("\t", "    ")) for x in lines]


def test_pairs_of_backticks_are_code() -> None:
    assert PARSER.renderInline(escaped("run `a <b> @me` *now*")) == (
        "run <code>a &lt;b&gt; @me</code> *now*"
    )


def test_nobody_is_called() -> None:
    assert escaped("@all, me@example.org") == "@\u200ball, me@\u200bexample.org"


@pytest.mark.parametrize("width", [3, 20, 100])
def test_columns_stand_below_each_other(width: int) -> None:
    lines = table(("name", "what"), [("a" * width, "x"), ("b", "y")])
    bars = [line.index("|", 2) for line in lines]
    assert bars[0] == bars[1] == bars[3] == min(max(width, 4), 48) + 3
