"""Whatever lies in a directory that is called the agent's source: a plan, or code 3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.fuzz import Ended, check, examples, files_below, invoke, own_environment

NAMED = "[metadata]\nname = trove\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)


def planned(source: Path) -> Ended:
    argv = ["build", "debian", "bookworm", "--dry-run", "--offline", "--json"]
    return check(invoke([*argv, "--agent", str(source)]))


FILES = {
    "setup.cfg": [NAMED, "[metadata]\nname\n", "[metadata]\nname = nova\n", "[", "name = x\n",
                  NAMED + "python-requires = >=3.9\n", NAMED + "python_requires = banana\n",
                  NAMED + "[options]\npython_requires = >=9,\n", "[DEFAULT]\nname = trove\n"],
    "pyproject.toml": ["[project]\nname = 'trove'\n", "[project]\nname = ''\n", "[project]\n"],
    "PKG-INFO": ["Name: trove\nVersion: banana\n", "Name: trove\nVersion: 26.0.0\n", "Version:\n",
                 "Name: trove\nVersion: 99999.1\n", "Name: =?utf-8?q?trove?=\n", "\n\n\n"],
    "requirements.txt": ["pbr\n", "pbr>=99999\n", "-r other\n", "x @ file:///etc\n", "a==b\n",
                         "pbr; python_version ~= 'x'\n", "pbr; extra == 'x'\n",
                         "pbr; os_name > 1\n",
                         "pbr; python_full_version < '3.x'\n", "pbr; 'a' ~= 'b'\n"],
    ".git": ["gitdir: /nowhere\n", "junk"],
    os.fsdecode(b"\xff"): ["x"],
    "\x1b[31m": ["x"],
}  # fmt: skip
contents = st.text(max_size=20).map(lambda text: text.encode(errors="replace"))


@st.composite
def sources(draw: st.DrawFn) -> dict[str, bytes]:
    names = draw(st.lists(st.sampled_from(sorted(FILES)), unique=True))
    tree = {"setup.cfg": NAMED.encode()} if draw(st.booleans()) else {}
    for name in names:
        known = st.sampled_from(FILES[name]).map(str.encode)
        tree[name] = draw(known | known | contents | st.tuples(known, contents).map(b"".join))
    return tree


@examples(80)
@given(tree=sources())
def test_any_source_of_the_agent(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes]
) -> None:
    source = tmp_path_factory.mktemp("source")
    for name, data in tree.items():
        (source / name).write_bytes(data)
    before = files_below(source)
    ended = planned(source)
    assert ended.code in (0, 3)
    assert files_below(source) == before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("PKG-INFO", "Name: trove\nVersion: banana\n", "banana is not a version"),
        ("setup.cfg", NAMED + "python-requires = banana\n", "Requires-Python"),
        ("setup.cfg", "[", "setup.cfg cannot be read"),
        ("requirements.txt", "pbr; python_version ~= 'x'\n", '| pbr; python_version ~= "x" ('),
        (".git", "junk", "git cannot read the agent's source"),
    ],
)
def test_sources_that_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "setup.cfg").write_text(NAMED)
    (tmp_path / name).write_text(text)
    ended = planned(tmp_path)
    assert ended.code == 3
    assert words in ended.err


def test_a_pipe_in_the_source_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text(NAMED)
    assert planned(tmp_path).code == 0
    os.mkfifo(tmp_path / "pipe")
    ended = planned(tmp_path)
    assert ended.code == 3
    assert f"where: {tmp_path}/pipe\n" in ended.err
    assert "a named pipe" in ended.err
