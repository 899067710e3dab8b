"""A disk that fills up while a build runs, in each stage."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuild.host.run import run
from imagebuild.store.store import Store
from tests.images import witness
from tests.images.builds import REPO, Built, bookworm_argv
from tests.images.elements import other_agent_element

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]

GIB = 1 << 30
#: Left free by the filler: less than any stage writes.
_REST = 12 << 20


@dataclass
class SmallDisk:
    """A filesystem of 24 GiB that is mounted in a namespace of its own.

    `inside` is where builds see it, `outside` where the test does.
    """

    holder: subprocess.Popen[str]
    inside: Path

    @property
    def outside(self) -> Path:
        return Path(f"/proc/{self.holder.pid}/root{self.inside}")

    def enter(self, *argv: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *argv]

    def fill(self) -> None:
        with (self.outside / "somebodys-file").open("wb") as file:
            while True:
                status = os.statvfs(self.outside)
                size = status.f_bavail * status.f_frsize - _REST
                if size <= 0:
                    return
                # The build writes meanwhile.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, size)
                    return

    def free(self) -> None:
        (self.outside / "somebodys-file").unlink()


@pytest.fixture(scope="module")
def small(bookworm: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """A small disk with the first build's stages and downloads on it."""
    place = tmp_path_factory.mktemp("small")
    with (place / "disk").open("wb") as file:
        file.truncate(24 * GIB)
    run(["mkfs.ext4", "-q", "-m", "0", place / "disk"])
    mounted = place / "mounted"
    mounted.mkdir()
    script = f"mount -o loop {place}/disk {mounted} && echo ready && exec cat"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    disk = SmallDisk(holder, mounted)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        (disk.outside / "cache").mkdir()
        for name in ("store", "sources", "dib"):
            run(["cp", "-a", bookworm.cache / name, disk.outside / "cache" / name])
        yield disk
    finally:
        holder.communicate("")
    assert witness.loops_of(place) == ""


def build(small: SmallDisk, *options: str) -> subprocess.Popen[str]:
    argv = bookworm_argv(
        "--cache-dir", str(small.inside / "cache"),
        "--images-dir", str(small.inside / "images"), *options,
    )  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(small.enter(*argv), stderr=subprocess.PIPE, text=True, env=env)


#: What makes each stage anew; for the agent, an element of its own.
CHANGES: dict[str, list[str]] = {
    "base": ["--package", "less"],
    "agent": [],
    "disk": ["--image-size", "6G"],
    "formats": ["--set", "compression=none"],
}


@pytest.mark.parametrize("stage", CHANGES)
def test_disk_that_fills_up_in(small: SmallDisk, tmp_path: Path, stage: str) -> None:
    store = Store(small.outside / "cache/store")
    before = {o.key.name for o in store.objects()}
    change = CHANGES[stage] or other_agent_element(tmp_path / "elements")
    process = build(small, *change)
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(f"{stage}: "):
            small.fill()
    stderr = "".join(said)
    assert process.wait() == 4, stderr
    small.free()
    assert "Traceback" not in stderr
    assert re.search(r"^error: (the disk is full|there was no space left on a disk)$", stderr, re.M)
    assert f"where: the filesystem of {small.inside}/cache" in stderr
    # What filled it comes first.
    first = stderr.split("holds:\n")[1].splitlines()[0]
    assert re.fullmatch(r"  \|\s+\d+\.\d GiB  everything else on it", first), stderr
    assert "finished stages (" in stderr
    assert f"{stage}" in said[-1] or "try: free some space" in stderr
    # Nothing half-written, nothing lost.
    assert witness.scratch_of(small.outside / "cache") == []
    assert not list((small.outside).glob("images/*"))
    assert not list((small.outside).glob("images/.*"))
    assert {o.key.name for o in store.objects()} >= before
    assert [store.problem(o.key) for o in store.objects() if store.problem(o.key)] == []
    assert witness.kept_of(store) == {o.key.name for o in store.objects()}


def test_build_succeeds_once_there_is_space_again(small: SmallDisk, tmp_path: Path) -> None:
    """What the failing builds left in the cache harms nobody."""
    process = build(small, *other_agent_element(tmp_path / "elements"))
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    # By inode: a link cannot be resolved through another mount namespace.
    assert len({p.stat().st_ino for p in small.outside.glob("images/*/*.qcow2")}) == 1
