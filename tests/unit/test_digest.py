"""Digests: what counts, and what does not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild import digest


def make(directory: Path, names: tuple[str, ...] = ("a", "b", "sub/c")) -> Path:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    (directory / "link").symlink_to("a")
    return directory


def test_known_values(tmp_path: Path) -> None:
    assert digest.canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    assert digest.of_value({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    data = os.urandom((1 << 20) + 17)  # more than one of the pieces that are read
    (tmp_path / "f").write_bytes(data)
    assert digest.of_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    assert digest.of_bytes(data) == hashlib.sha256(data).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digest.of_value(value) == digest.of_value(backwards)


@given(st.dictionaries(st.text(), st.integers()), st.text(), st.integers())
def test_every_value_counts(value: dict[str, int], key: str, number: int) -> None:
    changed = value | {key: number}
    assert (digest.of_value(changed) == digest.of_value(value)) == (changed == value)


def test_a_directory_is_its_content_wherever_and_however_it_was_made(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    other = make(tmp_path / "elsewhere/other", ("sub/c", "b", "a"))
    os.utime(other / "a", (0, 0))
    (other / "b").chmod(0o600)  # a checkout keeps the executable bit and no other
    assert digest.of_directory(one) == digest.of_directory(other)


def test_byte_code_does_not_count(tmp_path: Path) -> None:
    tree = make(tmp_path / "tree")
    before = digest.of_directory(tree)
    (tree / "sub/__pycache__").mkdir()
    (tree / "sub/__pycache__/c.cpython-311.pyc").write_bytes(b"code")
    (tree / "sub/__pycache__/other").write_bytes(b"more")
    (tree / "stray.pyc").write_bytes(b"code")
    assert digest.of_directory(tree) == before


def _edit(tree: Path) -> None:
    (tree / "sub/c").write_text("content of sub/C\n")


def _executable(tree: Path) -> None:
    (tree / "a").chmod(0o755)


def _rename(tree: Path) -> None:
    (tree / "a").rename(tree / "z")


def _move(tree: Path) -> None:
    (tree / "b").rename(tree / "sub/b")


def _retarget(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")


def _link_to_copy(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").write_text((tree / "a").read_text())


def _add_directory(tree: Path) -> None:
    (tree / "empty").mkdir()


def _add_file(tree: Path) -> None:
    (tree / "new").touch()


def _remove(tree: Path) -> None:
    (tree / "b").unlink()


@pytest.mark.parametrize(
    "change",
    [_edit, _executable, _rename, _move, _retarget, _link_to_copy, _add_directory, _add_file,
     _remove],
)  # fmt: skip
def test_every_change_of_a_directory_counts(tmp_path: Path, change: Callable[[Path], None]) -> None:
    tree = make(tmp_path / "tree")
    before = digest.of_directory(tree)
    change(tree)
    assert digest.of_directory(tree) != before


@pytest.mark.parametrize(
    "pieces",
    [[], [(0, b"a")], [(5 << 20, b"b")], [(0, b"a" * 5000), (3 << 20, b"c"), (7 << 20, b"d")]],
)
@pytest.mark.parametrize("size", [None, 9 << 20])
def test_a_file_with_holes_counts_as_its_content(
    tmp_path: Path, pieces: list[tuple[int, bytes]], size: int | None
) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        if size:
            file.truncate(size)
    assert digest.of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest.digests_of_file(path, "sha512", "sha256") == {
        "sha512": hashlib.sha512(path.read_bytes()).hexdigest(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
