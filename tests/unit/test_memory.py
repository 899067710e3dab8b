"""What the network said: kept, found again, and believed only when it is whole."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.memory import Fact, Memory, age

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def never() -> NoReturn:
    raise AssertionError("the network was asked")


def online(directory: Path | None) -> Memory:
    return Memory(directory, offline=False)


def offline(directory: Path | None) -> Memory:
    return Memory(directory, offline=True)


def test_what_is_asked_online_is_known_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "cache/resolved"
    for moment, answer in ((1000.9, "old"), (2000.9, "new")):
        monkeypatch.setattr(time, "time", partial(float, moment))
        asked = online(directory)
        assert asked.ask("ref", ["url", "main"], "main", partial(str, answer)) == answer
        assert asked.used == ()
    known = offline(directory)
    assert known.ask("ref", ["url", "main"], "main", never) == "new"
    assert known.used == (Fact("main", 2000),)
    for kind, question in (("ref", ["url", "other"]), ("tag", ["url", "main"])):
        assert known.ask(kind, question, "another", never) is None
    assert known.used == (Fact("main", 2000),), "what is not known was not used"
    assert [p.suffix for p in directory.iterdir()] == [".json"], "more than one file is left"


def test_who_fails_teaches_nothing(tmp_path: Path) -> None:
    online(tmp_path).remember("ref", "main", "old")
    with pytest.raises(ZeroDivisionError):
        online(tmp_path).ask("ref", "main", "main", lambda: 1 // 0)
    assert offline(tmp_path).recall("ref", "main", "main") == "old"


def test_without_a_directory_nothing_is_kept() -> None:
    assert online(None).ask("ref", "main", "main", lambda: "x") == "x"
    assert offline(None).ask("ref", "main", "main", never) is None


def test_what_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert online(tmp_path / "file").ask("ref", "main", "main", lambda: "x") == "x"
    assert offline(tmp_path / "file").ask("ref", "main", "main", never) is None


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    online(tmp_path).remember("ref", "main", "x")
    (file,) = tmp_path.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert offline(tmp_path).recall("ref", "main", "main") is None
    online(tmp_path).remember("ref", "main", "y")
    assert offline(tmp_path).recall("ref", "main", "main") == "y"


def test_no_byte_of_a_file_changes_unnoticed(tmp_path: Path) -> None:
    answer = ["0123456789abcdef", 1740823200, None]
    online(tmp_path).remember("kind", "question", answer)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for at, byte in enumerate(whole):
        for other in (byte ^ 1, ord("0"), ord('"')):
            file.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            assert offline(tmp_path).recall("kind", "question", "it") in (None, answer)


@given(question=JSON, answer=JSON, data=st.data())
def test_a_damaged_file_is_not_believed(
    question: object, answer: object, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        online(directory).remember("kind", question, answer)
        assert offline(directory).recall("kind", question, "it") == answer
        (file,) = directory.iterdir()
        whole = file.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        other = data.draw(st.binary(max_size=6))
        file.write_bytes(whole[:at] + other + whole[at + data.draw(st.integers(0, 6)) :])
        memory = offline(directory)
        # A change of blanks alone, or none at all, is no damage.
        assert memory.recall("kind", question, "it") in (None, answer)
        file.write_bytes(whole[:at])
        assert memory.recall("kind", question, "it") is None


@given(content=st.binary() | JSON.map(lambda value: repr(value).encode()))
def test_any_file_in_its_place_is_not_believed(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        online(Path(name)).remember("kind", "question", "answer")
        (file,) = Path(name).iterdir()
        for text in (content, b'{"answer":%s,"learned":1,"sha256":""}' % content, b"[" * 100_000):
            file.write_bytes(text)
            assert offline(Path(name)).recall("kind", "question", "it") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "a moment ago"),
        (59, "a moment ago"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (86400 * 40, "40 days ago"),
    ],
)
def test_age_in_words(seconds: int, text: str) -> None:
    assert age(Fact("x", 1_000_000), 1_000_000 + seconds) == text
