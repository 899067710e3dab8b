"""Machines for the tests that need qemu and no guest, and stand-ins for those without qemu."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.host.run import need, run
from imagebuild.verify import accel
from imagebuild.verify.machine import Machine
from imagebuild.verify.spec import MachineSpec

TCG = accel.Accelerator("tcg", "a test", 5.0, ("-accel", "tcg"))
KVM = accel.Accelerator("kvm", "a test", 1.0, ("-accel", "kvm"))


def empty_image(directory: Path) -> Path:
    """A disk without a bootloader: the firmware finds nothing and waits for ever."""
    image = directory / "empty.qcow2"
    run([need("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2", image, "1M"])
    return image


@contextmanager
def stand_in(directory: Path, accelerator: accel.Accelerator = KVM) -> Iterator[Machine]:
    """A machine whose process is a sleep; console and probe are written by the test."""
    with subprocess.Popen(["sleep", "60"]) as process:
        spec = MachineSpec(directory / "no-image", accelerator)
        try:
            yield Machine(spec, process, directory, directory)
        finally:
            process.kill()


def machines(directory: Path) -> list[int]:
    """Ids of the qemu processes that have a file below `directory`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if b"qemu-system" in words[0] and str(directory).encode() in b" ".join(words):
            found.append(int(folder.name))
    return found


def becomes(count: int, directory: Path) -> bool:
    """Whether there are `count` machines within some seconds."""
    deadline = time.monotonic() + 20
    while len(machines(directory)) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
