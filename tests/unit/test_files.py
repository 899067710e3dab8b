"""Reading files that people name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imagebuild import files


def test_a_file_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 2048)
    assert files.read_limited(path, 2048) == b"x" * 2048
    with pytest.raises(OSError, match="larger than 1 KiB") as caught:
        files.read_limited(path, 1024)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))


def test_a_pipe_that_is_open_is_read_to_its_end_when_asked_for() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"text")
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    try:
        assert files.is_descriptor(path)
        assert files.is_open_pipe(path)
        with pytest.raises(OSError, match="a named pipe"):
            files.read_limited(path, 1024)
        assert files.read_limited(path, 1024, pipe=True) == b"text"
    finally:
        os.close(reading)


def test_a_pipe_with_a_name_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert not files.is_open_pipe(path)
    with pytest.raises(OSError, match="a named pipe"):
        files.read_limited(path, 1024, pipe=True)


def test_what_becomes_a_pipe_between_looking_and_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(path)
    other.touch()
    looked_like = other.stat()
    monkeypatch.setattr(Path, "stat", lambda _: looked_like)
    with pytest.raises(OSError, match="a named pipe"):
        files.open_regular(path)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "nothing", "\udcff"])
def test_a_path_that_cannot_be_looked_at_is_nothing(tmp_path: Path, name: str) -> None:
    assert not files.is_file(tmp_path / name)
    assert not files.is_directory(tmp_path / name)
