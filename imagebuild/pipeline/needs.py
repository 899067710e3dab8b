"""What a job wants of the machine that it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagebuild.config.words import Arch
from imagebuild.doctor.check import Need
from imagebuild.doctor.machine import MEMORY
from imagebuild.doctor.places import image_size
from imagebuild.doctor.storage import BOOT_TEMPORARY
from imagebuild.host.preflight import SCRATCH_SPACE
from imagebuild.pipeline.cells import Cell, Job, MirrorCell, profile_of

_MIB = 1 << 20
#: Python, its libraries and what comes over the network piece by piece. Measured: 52 MiB for
#: a mirror of 0.9 GB, 51 for an upload of 1 GiB (README, "Speed"); rounded up for the system.
_TRANSFER_MEMORY = 512 * _MIB
#: What the stages of one build leave in the store. Measured, debian-bookworm: 4.0 GB, of which
#: trees 1.1, disks 1.9, images 1.0.
_STORE = 4 << 30
#: A database's container is some 0.8 GB unpacked (mysql 8.4), and stands in a layer, in a disk
#: and, compressed, in the images.
_CONTAINER = 2 << 30
#: How many times its size a compressed image grows when it is made a raw one
#: (publish/payload.py).
_GROWS = 3
_LEAST_DISK = 1 << 30


@dataclass(frozen=True)
class Needs:
    """What a machine must have for a job: `memory` and `disk` in bytes, free.

    `kvm`: machines are started, which without KVM takes minutes instead of seconds.
    """

    cpus: int
    memory: int
    disk: int
    kvm: bool = False
    root: bool = False
    arch: Arch = Arch.AMD64

    def to_json(self) -> dict[str, Any]:
        """Shape used by `pipeline plan`."""
        return {
            "cpus": self.cpus,
            "memory": self.memory,
            "disk": self.disk,
            "kvm": self.kvm,
            "root": self.root,
            "arch": str(self.arch),
        }


def needs(cell: Cell, job: Job) -> Needs:
    """What the job wants; the figures are those by which `doctor` judges a host (measured there:
    doctor/machine.py, host/preflight.py), and those of README, "Speed".

    Raises ConfigError for a profile that is not valid.
    """
    if isinstance(cell, MirrorCell):
        return Needs(cpus=1, memory=_TRANSFER_MEMORY, disk=_LEAST_DISK)
    profile = profile_of(cell).profile
    images = sum(image_size(profile, str(f)) for f in profile.formats)
    containers = len(profile.preload) * _CONTAINER
    if job is Job.BUILD:
        disk = SCRATCH_SPACE + _STORE + containers + images
        return Needs(2, MEMORY[Need.BUILD][0], disk, root=True, arch=cell.arch)
    if job is Job.VERIFY:
        level = cell.verify.level.value
        if level == "static":
            return Needs(1, _TRANSFER_MEMORY, images + _LEAST_DISK, arch=cell.arch)
        need = Need.BOOT if level == "boot" else Need.VERIFY
        is_kvm = str(cell.verify.accelerator or "kvm") == "kvm"
        disk = images + BOOT_TEMPORARY
        return Needs(2, MEMORY[need][0], disk, kvm=is_kvm, arch=cell.arch)
    grown = max((_GROWS * images for p in cell.publish if p.convert), default=0)
    return Needs(1, _TRANSFER_MEMORY, images + grown + _LEAST_DISK)
