"""Locks and scratch directories: who is dead leaves nothing, who lives loses nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError, TemporaryError
from imagebuild.host import scratch
from imagebuild.host.run import spawn

ROOT = Path(__file__).resolve().parents[2]

#: Holds a scratch directory and says which, until it is killed.
_HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from imagebuild.host import scratch
with scratch.directory(Path(sys.argv[2]), "held") as path:
    (path / "deep").mkdir()
    (path / "deep/file").write_text("x")
    print(path, flush=True)
    time.sleep(1000)
"""


@contextmanager
def holder(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    process = spawn([sys.executable, "-c", _HOLDER, ROOT, root], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().decode().strip())
        finally:
            process.kill()


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "new/x.lock"
    with scratch.lock(path):
        with (
            pytest.raises(TemporaryError) as caught,
            scratch.lock(path, wait=False, what="the artifact X"),
        ):
            pass
        assert caught.value.exit_code == 75
        assert caught.value.what == "another build is busy with the artifact X"
        assert caught.value.where == str(path)
        with pytest.raises(TemporaryError), scratch.lock(path, wait=False, shared=True):
            pass
    with scratch.lock(path, wait=False):
        pass


def test_a_shared_lock_is_held_by_many(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with (
        scratch.lock(path, shared=True),
        scratch.lock(path, shared=True, wait=False),
        pytest.raises(TemporaryError),
        scratch.lock(path, wait=False),
    ):
        pass


def test_an_exclusive_lock_becomes_a_shared_one(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with scratch.lock(path) as held:
        scratch.share(held)
        with scratch.lock(path, shared=True, wait=False):
            pass
        with pytest.raises(TemporaryError), scratch.lock(path, wait=False):
            pass


def test_a_lock_that_an_error_leaves_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with pytest.raises(KeyError), scratch.lock(path):
        raise KeyError
    with scratch.lock(path, wait=False):
        pass


def test_a_lock_is_not_inherited(tmp_path: Path) -> None:
    """A child that outlives the build does not keep its lock."""
    path = tmp_path / "x.lock"
    with scratch.lock(path):
        child = spawn(["sleep", "1000"])
    try:
        with scratch.lock(path, wait=False):
            pass
    finally:
        child.kill()
        child.wait()


def test_every_build_has_a_directory_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "new/root"
    with scratch.directory(root, "x") as one, scratch.directory(root, "x") as other:
        assert one != other
        assert {one.parent, other.parent} == {root}
        assert one.is_dir()
        assert list(one.iterdir()) == []


def test_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError) as caught, scratch.directory(tmp_path / "file/root", "x"):
        pass
    assert caught.value.where == str(tmp_path / "file/root")
    assert "--cache-dir" in caught.value.hint


def test_sweep_takes_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    with holder(tmp_path) as (dead, left), holder(tmp_path) as (_, living):
        assert scratch.sweep(tmp_path) == []
        assert (left / "deep/file").exists()
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert scratch.sweep(tmp_path) == [left]
        assert sorted(p.name for p in tmp_path.iterdir()) == [living.name, f"{living.name}.lock"]
        assert (living / "deep/file").read_text() == "x"
        assert scratch.sweep(tmp_path) == []


def test_sweep_where_nothing_is(tmp_path: Path) -> None:
    assert scratch.sweep(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
