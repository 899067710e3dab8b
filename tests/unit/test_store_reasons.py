"""Why a stage's object is not there, in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.store.reasons import differences

SHA, OTHER = "ab" * 32, "cd" * 32

CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"a": 1}, {"a": 1}, []),
    (
        {"archives": [{"name": "debian", "suites": {"bookworm-security": SHA}}]},
        {"archives": [{"name": "debian", "suites": {"bookworm-security": OTHER}}]},
        ["archives[debian].suites.bookworm-security changed"],
    ),
    (
        {"elements": [{"name": "base", "sha256": SHA}, {"name": "trove-docker", "sha256": SHA}]},
        {"elements": [{"name": "base", "sha256": SHA}, {"name": "trove-docker", "sha256": OTHER}]},
        ["elements[trove-docker] changed"],
    ),
    (
        {"tools": {"imagebuild": "0.1", "qemu-img": "7.2"}},
        {"tools": {"imagebuild": "0.2", "mke2fs": "1.47"}},
        [
            "tools.imagebuild changed from 0.1 to 0.2",
            "tools.mke2fs is new",
            "tools.qemu-img is gone",
        ],
    ),
    (
        {"formats": ["qcow2", "raw"]}, {"formats": ["qcow2", "vmdk"]},
        ["formats[raw] is gone", "formats[vmdk] is new"],
    ),
    ({"formats": ["a", "b"]}, {"formats": ["b", "a"]}, ["the order of formats changed"]),
    ({"compression": "zlib"}, {"compression": "zstd"}, ["compression changed from zlib to zstd"]),
    ({"parent": SHA}, {"parent": OTHER}, ["parent changed"]),
    ({"size": 5}, {"size": None}, ["size changed from 5 to none"]),
    ({"is": True}, {"is": False}, ["is changed from true to false"]),
    ({"numbers": [1, 2]}, {"numbers": [2]}, ["numbers changed"]),
    ({"hosts": {"a.b:5000": SHA}}, {"hosts": {"a.b:5000": OTHER}}, ["hosts[a.b:5000] changed"]),
    ({"a": {"b": 1}}, {"a": 1}, ["a changed"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "said"), CASES)
def test_differences_in_words(before: dict[str, Any], now: dict[str, Any], said: list[str]) -> None:
    assert differences(before, now) == said


_NAMES = st.sampled_from(["name", "sha256", "a", "b"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x", SHA]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_INPUTS = st.dictionaries(_NAMES, _VALUES, max_size=4)


@given(_INPUTS, _INPUTS)
def test_no_difference_goes_unsaid(before: dict[str, Any], now: dict[str, Any]) -> None:
    said = differences(before, now)
    assert (said == []) == (before == now)
    assert all(line and line == line.strip() for line in said)
