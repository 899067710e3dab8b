"""Debian's text formats."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild import debian

TEXT = """\
Package: a
# a comment
Description: short
 longer
 .
 Version: not a field
Version: 1:2.0

\t
Package: b
"""


def test_paragraphs() -> None:
    assert list(debian.paragraphs(TEXT)) == [
        {
            "Package": "a",
            "Description": "short\nlonger\n.\nVersion: not a field",
            "Version": "1:2.0",
        },
        {"Package": "b"},
    ]


@pytest.mark.parametrize("text", ["", "\n\n", " only a continuation\n", "no colon\n more\n"])
def test_no_paragraph(text: str) -> None:
    assert list(debian.paragraphs(text)) == []


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0-1+b1"),
        ("1.9", "1.10"),
        ("9.9", "1:0.1"),
        ("1.0-1", "1.0-1ubuntu1"),
        ("1.0a", "1.0+"),
        ("1.0-1~deb12u1", "1.0-1"),
    ],
)
def test_versions_in_order(older: str, newer: str) -> None:
    assert debian.compare_versions(older, newer) == -1
    assert debian.compare_versions(newer, older) == 1


@pytest.mark.parametrize(("a", "b"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1")])
def test_versions_that_are_the_same(a: str, b: str) -> None:
    assert debian.compare_versions(a, b) == 0


PART = st.text("0129az.+~", max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.sampled_from(["", "0:", "1:"]), PART, st.sampled_from(["", "-1", "-a~", "-0"])),
    st.tuples(st.sampled_from(["", "0:", "1:"]), PART, st.sampled_from(["", "-1", "-a~", "-0"])),
)
def test_dpkg_agrees(a: tuple[str, str, str], b: tuple[str, str, str]) -> None:
    one, other = (f"{epoch}1{upstream}{revision}" for epoch, upstream, revision in (a, b))
    way = debian.compare_versions(one, other)
    sign = {-1: "lt", 0: "eq", 1: "gt"}[way]
    done = subprocess.run(["dpkg", "--compare-versions", one, sign, other], check=False)
    assert done.returncode == 0, f"{one} {sign} {other} is wrong"
