"""The boot level: the image starts as Nova would start it, and is asked how it went."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.verify.accel import Accelerator
from imagebuild.verify.firmware import Firmware
from imagebuild.verify.guest import Guest
from imagebuild.verify.machine import Machine
from imagebuild.verify.nic import ONE_NIC, HostForward, Nic
from imagebuild.verify.results import Check, Milestone, Run
from imagebuild.verify.watch import Limits

CONFIG_DRIVE = "config-drive"
METADATA = "metadata"


@dataclass(frozen=True)
class Boot:
    """How to boot an image once. `scratch`: the root of scratch directories
    (`Paths.scratch_root`); `logs`: a directory for the console and other logs, made anew.
    """

    image: Path
    how: str
    firmware: Firmware
    logs: Path
    scratch: Path
    accelerator: Accelerator
    fmt: str = "qcow2"
    arch: str = "amd64"
    user_data: bytes | None = None
    nics: tuple[Nic, ...] = ONE_NIC
    volumes: tuple[Path, ...] = ()
    forwards: Mapping[str, int] | None = None
    host_forwards: tuple[HostForward, ...] = ()
    limits: Limits | None = None
    memory_mib: int = 2048
    cpus: int = 2
    disk_size: str | None = "10G"
    keep: bool = False


@dataclass(frozen=True)
class Booted:
    """A guest that has settled, while its machine runs."""

    machine: Machine
    guest: Guest
    milestones: tuple[Milestone, ...]
    facts: Mapping[str, Any]


@contextlib.contextmanager
def booted(
    boot: Boot, *, on_milestone: Callable[[Milestone], None] = lambda _m: None
) -> Iterator[Booted]:
    """Boot, wait until the system has settled, end the machine with the block."""
    raise NotImplementedError


def check_boot(
    boot: Boot,
    *,
    content: Mapping[str, Any] | None = None,
    also: Callable[[Booted], None] | None = None,
    on_milestone: Callable[[Milestone], None] = lambda _m: None,
) -> tuple[Run, list[Check]]:
    """The boot level for one way to start. `content` is the manifest's (guest user, ...);
    `also` is called with the settled guest before it is ended.
    """
    raise NotImplementedError
