"""Patterns and the search: right on any text, and fast on large ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.explain import Entry, explain, load_book
from imagebuild.explain.patterns import REACH, TRIES, Pattern, compile_pattern

PATTERNS = [p for e in load_book().entries for p in (*e.any, *e.also, *e.unless)]


def entry(**change: object) -> Entry:
    return Entry.model_validate(
        {
            "id": "x",
            "scope": ["build"],
            "rank": "cause",
            "title": "something {name} is wrong",
            "cause": "It went wrong, as things do.",
            "advice": ["look at {name}"],
            "source": ["https://example.org/"],
            "any": ["something {name} wrong"],
            "otherwise": {"name": "or other"},
        }
        | change
    )


def title(text: str, *entries: Entry) -> str:
    return explain(text, entries=entries)[0].title


@pytest.mark.parametrize(
    ("pattern", "line", "fields"),
    [
        ("Unable to locate package {p}", "E: Unable to locate package a-b", {"p": "a-b"}),
        ("package '{p}' not found", "the package 'x y' not found", None),
        ("package '{p*}' not found", "the package 'x y' not found", {"p": "x y"}),
        ("depends on {p*} but", "depends on b (>= 2) but", {"p": "b (>= 2)"}),
        ("connect to {h} (…refused)", "connect to m:80 (1.2.3.4, refused)", {"h": "m:80"}),
        ("connect to {h} (…refused)", "connect to m:80 (1.2.3.4, timeout)", None),
        ("pulled {a} from {a}/x", "pulled b from b/x", {"a": "b"}),
        ("pulled {a} from {a}/x", "pulled b from c/x", None),
        ("said the word {w}", "said the word 'one'.", {"w": "one"}),
        ("said (word {w}", "said (word one).", {"w": "one"}),
        ("a.b*c+d literally", "aXbbccd literally", None),
        ("a.b*c+d literally", "a.b*c+d literally", {}),
    ],
)
def test_patterns(pattern: str, line: str, fields: dict[str, str] | None) -> None:
    match = compile_pattern(pattern).last(f"first\n{line}\nlast")
    assert (match and match.fields) == fields
    assert match is None or match.line == line


def test_the_last_line_counts() -> None:
    text = "something one wrong\nsomething two wrong\nsomething three right\n"
    found = explain(text, entries=[entry()])[0]
    assert (found.title, found.number, found.line) == (
        "something two is wrong",
        2,
        "something two wrong",
    )


def test_the_first_pattern_that_is_found_gives_the_fields() -> None:
    two = entry(any=["something {name} wrong", "it broke down"])
    assert title("something x wrong\nit broke down\n", two) == "something x is wrong"
    assert title("it broke down\n", two) == "something or other is wrong"


def test_also_and_unless() -> None:
    text = "something x wrong\n"
    with_also = entry(also=["the moon is {phase}"], title="{name}, since the moon is {phase}")
    assert explain(text, entries=[with_also]) == ()
    assert title(text + "the moon is full\n", with_also) == "x, since the moon is full"
    with_unless = entry(unless=["all is forgiven"])
    assert explain(text, entries=[with_unless])
    assert explain("all is forgiven\n" + text, entries=[with_unless]) == ()


def test_rank_wins_then_the_later_line() -> None:
    first, second = entry(id="first"), entry(id="second", any=["another {name} failure"])
    text = "something x wrong\nanother y failure\n"
    assert [e.id for e in explain(text, entries=[first, second])] == ["second", "first"]
    stronger = entry(id="first", rank="root")
    assert [e.id for e in explain(text, entries=[second, stronger])] == ["first", "second"]


def test_colours_and_carriage_returns_do_not_matter() -> None:
    text = "a\r\n\x1b[31msome\x1b[0mthing \x1b[1mx wrong\x1b[m\r\n"
    found = explain(text, entries=[entry()])[0]
    assert (found.line, found.number) == ("something x wrong", 2)


def test_passwords_in_urls_are_struck_out() -> None:
    text = "something http://me:hunter2@proxy.example/x wrong\n"
    found = explain(text, entries=[entry()])[0]
    assert found.title == "something http://***@proxy.example/x is wrong"
    assert "hunter2" not in str(found.to_json())


def test_lines_that_nearly_match_hide_the_one_that_does_only_in_masses() -> None:
    pattern = compile_pattern("something {name} wrong")
    near = "something went right\n"
    assert pattern.last("something x wrong\n" + near * (TRIES - 1))
    assert pattern.last("something x wrong\n" + near * TRIES) is None


def test_a_line_of_megabytes_is_shown_in_part() -> None:
    text = "y" * 3_000_000 + " something x wrong " + "z" * 3_000_000
    found = explain(text, entries=[entry()])[0]
    assert found.title == "something x is wrong"
    assert len(found.line) <= 302
    assert "something x wrong" in found.line


@pytest.mark.parametrize("text", ["", "\n", "\0\n\0", "no trouble at all\n"])
def test_nothing_is_recognised_in_nothing(text: str) -> None:
    assert explain(text) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([p.needle for p in PATTERNS]),
            st.sampled_from([p.source.split("{")[0] for p in PATTERNS]),
            st.text(max_size=30),
        ),
        max_size=60,
    )
)
def test_any_text_can_be_searched_and_is_told_from_the_right_line(parts: list[str]) -> None:
    text = "".join(parts)
    started = time.process_time()
    found = explain(text)
    assert time.process_time() - started < 5
    lines = text.split("\n")
    for explanation in found:
        assert 1 <= explanation.number <= len(lines)


def test_twenty_megabytes_take_about_a_second() -> None:
    line = "06:04:01 Get:{} http://deb.debian.org/debian bookworm/main libfoo{} error failed E: \n"
    text = "".join(line.format(i, i) for i in range(20_000_000 // len(line)))
    started = time.process_time()
    assert explain(text) == ()
    # Generous, for slow machines; every line through every pattern would take minutes.
    assert time.process_time() - started < 8


class _Recorder:
    """In the place of a compiled expression: matches nothing, and notes what it was given."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def search(self, text: str) -> None:
        self.lengths.append(len(text))


def test_an_expression_sees_a_bounded_part_of_a_text() -> None:
    for text in ("the needle " * 50_000, "the needle\n" * 50_000, "x" * 10**6 + "the needle"):
        recorder = _Recorder()
        pattern = Pattern("the needle", "the needle", recorder)  # type: ignore[arg-type]
        assert pattern.last(text) is None
        assert 1 <= len(recorder.lengths) <= TRIES
        assert max(recorder.lengths) <= 2 * REACH


def test_no_line_makes_a_pattern_slow() -> None:
    """Lines made of a pattern's own pieces, over and over, are what backtracking fears."""
    for pattern in PATTERNS:
        opening = pattern.source.split("{")[0].split("…")[0]
        for text in (
            pattern.needle * 2000,
            f"{pattern.needle}\n" * 2000,
            (opening + "a" + pattern.needle) * 500,
            f"{opening * 20}{pattern.needle}\n" * 500,
        ):
            started = time.process_time()
            pattern.last(text)
            assert time.process_time() - started < 5, pattern.source
