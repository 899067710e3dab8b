"""Claims on outputs, between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from imagebuild.claims import claim_directory, claim_file, partial_of, sweep
from imagebuild.errors import PreflightError, TemporaryError

_HOLDER = """
import sys, time
from pathlib import Path
from imagebuild.claims import claim_directory
with claim_directory(Path(sys.argv[1]), on_wait=None) as partial:
    (partial / "half").write_text("x")
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(output)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def claim_in_vain(claim: Callable[..., AbstractContextManager[Path]], output: Path) -> None:
    with claim(output, on_wait=None):
        pytest.fail(f"claimed {output}")


def test_second_claim_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "images/guest"
    holder = start_holder(output)
    with pytest.raises(TemporaryError, match="another build is writing there") as caught:
        claim_in_vain(claim_directory, output)
    assert caught.value.where == str(output)
    assert (partial_of(output) / "half").exists(), "the holder's files are its own"
    holder.communicate("")
    with claim_directory(output, on_wait=None) as partial:
        assert list(partial.iterdir()) == []


def test_second_claim_waits_when_asked(tmp_path: Path) -> None:
    output = tmp_path / "guest"
    holder = start_holder(output)
    waited = threading.Event()

    def release() -> None:
        waited.wait(30)
        holder.communicate("")

    thread = threading.Thread(target=release)
    thread.start()
    with claim_directory(output, on_wait=waited.set) as partial:
        assert waited.is_set()
        assert list(partial.iterdir()) == []
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_claim_of_a_killed_process_is_free_and_its_files_go(tmp_path: Path) -> None:
    output = tmp_path / "guest"
    holder = start_holder(output)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (partial_of(output) / "half").exists()
    with claim_directory(output, on_wait=None) as partial:
        assert list(partial.iterdir()) == []


def test_finished_output_is_renamed_and_nothing_else_is_left(tmp_path: Path) -> None:
    output = tmp_path / "new/images/guest"
    with claim_directory(output, on_wait=None) as partial:
        (partial / "whole").touch()
        partial.rename(output)
    assert [p.name for p in output.parent.iterdir()] == ["guest"]
    with claim_file(tmp_path / "new/disk.raw", on_wait=None) as partial:
        partial.write_text("disk")
        partial.replace(tmp_path / "new/disk.raw")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["disk.raw", "images"]


def test_failed_build_leaves_no_directory_that_was_made_for_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim_directory(tmp_path / "a/b/c", on_wait=None):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), claim_file(tmp_path / "a/b/c.raw", on_wait=None):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_claims_of_different_outputs_do_not_meet(tmp_path: Path) -> None:
    with (
        claim_directory(tmp_path / "a", on_wait=None),
        claim_directory(tmp_path / "b", on_wait=None),
        claim_file(tmp_path / "c.raw", on_wait=None),
    ):
        assert len(list(tmp_path.iterdir())) == 3


def test_next_one_gets_a_lock_on_what_is_there_now(tmp_path: Path) -> None:
    """A waiter that is woken by the rename must not believe that it holds the new place."""
    output = tmp_path / "guest"
    waiting = threading.Event()
    seen = []

    def second() -> None:
        with claim_directory(output, on_wait=waiting.set) as partial:
            seen.append(partial.stat().st_ino)
            assert list(partial.iterdir()) == []

    thread = threading.Thread(target=second)
    with claim_directory(output, on_wait=None) as partial:
        first = partial.stat().st_ino
        (partial / "whole").touch()
        thread.start()
        assert waiting.wait(30)
        partial.rename(output)
    thread.join(30)
    assert len(seen) == 1
    assert seen[0] != first
    assert (output / "whole").exists()


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match="cannot write there"):
        claim_in_vain(claim_directory, tmp_path / "file/guest")
    partial_of(tmp_path / "disk.raw").symlink_to("/dev/null")
    with pytest.raises(PreflightError, match="cannot write there"):
        claim_in_vain(claim_file, tmp_path / "disk.raw")


def test_sweep_removes_what_nobody_claims(tmp_path: Path) -> None:
    left = partial_of(tmp_path / "trove-guest-x-1")
    (left / "deep").mkdir(parents=True)
    other = partial_of(tmp_path / "somebodys-own")
    other.mkdir()
    holder = start_holder(tmp_path / "trove-guest-x-2")
    assert sweep(tmp_path, "trove-guest-*") == [left]
    assert not left.exists()
    assert other.exists()
    assert (partial_of(tmp_path / "trove-guest-x-2") / "half").exists()
    holder.communicate("")
    assert sweep(tmp_path / "nowhere", "*") == []
