"""Whatever lies in a directory of elements: a plan with its digest, or code 3 and where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.fuzz import (
    Ended,
    check,
    examples,
    fifo,
    files_below,
    invoke,
    listening,
    own_environment,
)
from tests.unit.test_dib import make_element

PLAN = ["build", "debian", "bookworm", "--dry-run", "--offline", "--json"]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)


def planned(site: Path, *elements: str) -> Ended:
    """The plan with these elements of `site`."""
    argv = [part for name in elements for part in ("--element", name)]
    return check(invoke([*PLAN, "--elements-path", str(site), *argv]))


def lines(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(os.fsencode(text))


NAMES = ("one", "two", "three", "package-installs", "operating-system", "trove-docker", "vm")
names = st.sampled_from(
    [*NAMES, "element-deps", "element-provides", "install.d", "10-hook", "a b", ".hidden", "$(id)",
     os.fsdecode(b"\xff\xfe"), "\x1b[31m", "é", "-n", "x\ny", "x.pyc", "__pycache__"]
)  # fmt: skip
relations = st.lists(
    st.sampled_from([*NAMES, *NAMES, "imagebuild-distro", "nothing", "# comment", "../one", "a b",
                     "", "\0", "it's", os.fsdecode(b"\xff"), "\x1b[31mred"]),
    max_size=3,
).map(lambda words: lines("\n".join(words)))  # fmt: skip
things = st.one_of(
    relations,
    st.binary(max_size=20).map(lambda data: lambda path: path.write_bytes(data)),
    st.sampled_from(
        [fifo, listening, Path.mkdir, lambda path: path.symlink_to(path.name),
         lambda path: path.symlink_to(".."), lambda path: path.symlink_to("/dev/zero"),
         lambda path: path.symlink_to("nothing")]
    ),
)  # fmt: skip
inside = st.lists(
    st.tuples(st.lists(names, min_size=1, max_size=3), things)
    | st.tuples(st.sampled_from([["element-deps"], ["element-provides"]]), relations),
    max_size=3,
)


def make(
    site: Path, tree: list[tuple[str, list[tuple[list[str], Callable[[Path], object]]]]]
) -> None:
    for name, entries in tree:
        (site / name).mkdir(exist_ok=True)
        for parts, thing in entries:
            path = site.joinpath(name, *parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not os.path.lexists(path):
                    thing(path)
            except (FileExistsError, NotADirectoryError, OSError):
                continue  # something else has the name


@examples(120)
@given(
    tree=st.lists(st.tuples(st.sampled_from(NAMES) | names, inside), min_size=1, max_size=3),
    asked=st.lists(
        st.sampled_from(["one", "one", "two", "vm", "package-installs"]), min_size=1, max_size=2
    ),
    beside=st.lists(st.tuples(names, things), max_size=1),
)
def test_any_tree_of_elements(
    tmp_path_factory: pytest.TempPathFactory,
    tree: list[tuple[str, list[tuple[list[str], Callable[[Path], object]]]]],
    asked: list[str],
    beside: list[tuple[str, Callable[[Path], object]]],
) -> None:
    site = tmp_path_factory.mktemp("site")
    for name, thing in beside:
        thing(site / name)
    for name in asked:
        tree = [*tree, (name, [])]
    make(site, [(name, entries) for name, entries in tree if not os.path.lexists(site / name)])
    before = files_below(site)
    ended = planned(site, *asked)
    assert ended.code in (0, 3)
    if ended.code == 0:
        assert planned(site, *asked).out == ended.out
        used = {e["name"] for e in ended.document["stages"][0]["elements"]}
        assert set(asked) <= used
    assert files_below(site) == before
    shutil.rmtree(site)


@pytest.mark.parametrize("place", ["element-deps", "element-provides", "install.d/10-x", "file"])
@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (fifo, "a named pipe"),
        (listening, "a socket"),
        (lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)), "a device"),
    ],
    ids=["pipe", "socket", "device"],
)
def test_an_element_holds_files_only(
    tmp_path: Path, place: str, thing: Callable[[Path], object], words: str
) -> None:
    path = make_element(tmp_path, "mine") / place
    path.parent.mkdir(exist_ok=True)
    try:
        thing(path)
    except PermissionError:
        pytest.skip("only root makes devices")
    ended = planned(tmp_path, "mine")
    assert ended.code == 3
    assert f"where: {path}\n" in ended.err
    assert words in ended.err


@pytest.mark.parametrize("place", ["element-deps", "element-provides"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "can't decode"),
        (b"x" * (1 << 17), "larger than 64 KiB"),
        (None, "Is a directory"),
    ],
)
def test_relations_that_cannot_be_read(
    tmp_path: Path, place: str, content: bytes | None, words: str
) -> None:
    """Also of an element that nobody asks for: diskimage-builder reads them all."""
    make_element(tmp_path, "mine")
    path = make_element(tmp_path, "other") / place
    path.mkdir() if content is None else path.write_bytes(content)
    ended = planned(tmp_path, "mine")
    assert ended.code == 3
    assert f"where: {path}\n" in ended.err
    assert words in ended.err


def test_links_are_not_followed(tmp_path: Path) -> None:
    element = make_element(tmp_path, "mine", hook="install.d/10-x")
    for name, target in {"self": "self", "up": "..", "root": "/", "zero": "/dev/zero"}.items():
        (element / name).symlink_to(target)
    first = planned(tmp_path, "mine")
    assert first.code == 0
    (element / "up").unlink()
    (element / "up").symlink_to("../..")
    assert planned(tmp_path, "mine").document["build_id"] != first.document["build_id"]


def test_a_name_that_is_no_utf8_counts(tmp_path: Path) -> None:
    element = make_element(tmp_path, "mine")
    ids = set()
    for name in (b"\xff", b"\xfe"):
        path = element / os.fsdecode(name)
        path.touch()
        ended = planned(tmp_path, "mine")
        assert ended.code == 0
        ids.add(ended.document["build_id"])
        path.unlink()
    assert len(ids) == 2


def test_elements_that_depend_in_a_circle(tmp_path: Path) -> None:
    make_element(tmp_path, "one", deps="two\n")
    make_element(tmp_path, "two", deps="one\ntwo\n")
    assert planned(tmp_path, "one").code == 0


@pytest.mark.parametrize("name", ["it's gone", "'", "x y", "\x1b[31m"])
def test_a_missing_element_is_named_and_who_wants_it(tmp_path: Path, name: str) -> None:
    element = make_element(tmp_path, "mine", deps=f"{name}\n")
    ended = planned(tmp_path, "mine")
    assert ended.code == 3
    assert f"there is no element {name!r}" in ended.err
    assert f"wanted by {element}/element-deps" in ended.err


def test_a_name_that_dib_cannot_take(tmp_path: Path) -> None:
    make_element(tmp_path, "a b")
    make_element(tmp_path, "mine", deps="a b\n")
    ended = planned(tmp_path, "mine")
    assert ended.code == 3
    assert f"where: {tmp_path}/a b\n" in ended.err


def test_an_element_that_another_provides(tmp_path: Path) -> None:
    make_element(tmp_path, "one", provides="two\n")
    make_element(tmp_path, "two")
    ended = planned(tmp_path, "one", "two")
    assert ended.code == 3
    assert "provided by another" in ended.err


def test_an_operating_system_too_many(tmp_path: Path) -> None:
    make_element(tmp_path, "mine", provides="operating-system\n")
    ended = planned(tmp_path, "mine")
    assert ended.code == 3
    assert "operating-system: already provided by" in ended.err
