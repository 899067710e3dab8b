"""Full disks, on a filesystem that really is full."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, PreflightError
from imagebuild.host import space
from imagebuild.host.run import run
from imagebuild.host.space import SpaceWatch

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "small"
    place.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place])
    try:
        yield place
    finally:
        run(["umount", place])


def fill(path: Path) -> OSError:
    """Write until the filesystem is full, and return what the system said."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(MIB))
            except OSError as exc:
                return exc


def test_full_disk_is_named_with_what_is_on_it(small: Path) -> None:
    (small / "trees").mkdir()
    (small / "trees/one").write_bytes(bytes(10 * MIB))
    users = {"finished trees": small / "trees", "scratch": small / "scratch"}
    with SpaceWatch([small], users) as watch:
        (small / "scratch").mkdir()
        found = watch.explain(fill(small / "scratch/disk"))
    assert isinstance(found, PreflightError)
    assert found.exit_code == 4
    assert found.what == "the disk is full"
    assert found.where == f"the filesystem of {small}"
    lines = found.detail.splitlines()
    assert lines[0] == f"{small}, 64 MiB, holds:"
    assert lines[1].split(maxsplit=2)[::2] == ["54", "scratch"]
    assert lines[2].split(maxsplit=2)[::2] == ["10", "finished trees"]
    assert "No space left on device" in lines[-1]


def test_what_filled_it_is_known_after_it_is_gone(small: Path) -> None:
    """A failing program removes its half-written file before anybody can look."""
    with SpaceWatch([small], {"scratch": small / "scratch"}) as watch:
        (small / "scratch").mkdir()
        fill(small / "scratch/disk")
        deadline = time.monotonic() + 20
        while small not in watch._surveys or not watch._full:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (small / "scratch/disk").unlink()
        found = watch.explain(BuildError("mke2fs failed", detail="status 1"))
    assert found
    assert found.detail.splitlines()[1].split(maxsplit=2)[::2] == ["64", "scratch"]
    assert "mke2fs failed" in found.detail


def test_other_failures_are_left_alone(tmp_path: Path) -> None:
    with SpaceWatch([tmp_path], {}) as watch:
        assert watch.explain(BuildError("a hook failed", detail="exit 1")) is None
        assert watch.explain(OSError(errno.EACCES, "Permission denied")) is None


@pytest.mark.parametrize(
    "text",
    [
        "cp: error writing 'x': No space left on device",
        "tar: x: Cannot write: No space left on device",
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "fallocate: fallocate failed: Disk quota exceeded",
    ],
)
def test_what_programs_say_is_understood(tmp_path: Path, text: str) -> None:
    assert space.says_full(BuildError("a hook failed", detail=text))
    with SpaceWatch([tmp_path], {}) as watch:
        found = watch.explain(BuildError("a hook failed", detail=f"before\n{text}\nafter"))
    # It is not full any more: the sentence does not claim that.
    assert found
    assert found.what == "there was no space left on a disk"


def test_survey_counts_hard_links_once_and_holes_not_at_all(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(bytes(4 * MIB))
    os.link(tree / "a", tree / "b")
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    ((name, size),) = space.survey(tmp_path, {"tree": tree}).users
    assert name == "tree"
    assert 4 * MIB <= size < 5 * MIB
