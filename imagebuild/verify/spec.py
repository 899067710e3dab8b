"""What a machine is made of: plain values; `verify.argv` says how qemu is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.verify.accel import Accelerator
from imagebuild.verify.firmware import Firmware
from imagebuild.verify.nic import ONE_NIC, HostForward, Nic


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made of.

    `image` (of format `fmt`) is only read: the machine writes into an overlay of `disk_size`
    (as for qemu-img; None: the image's own). `arch` is Debian's. `config_drive` is an ISO
    file; `metadata` a directory of `verify.metadata`, served at 169.254.169.254. `volumes` are
    raw files that become vdb, ...: they are written. `forwards`: an address in the guest's
    network (`168.0.0.4:5672`) -> a port on the host's loopback, on each card whose network has
    it. `options`: further ones of qemu's own.
    """

    image: Path
    accelerator: Accelerator
    firmware: Firmware = Firmware.BIOS
    fmt: str = "qcow2"
    arch: str = "amd64"
    memory_mib: int = 2048
    cpus: int = 2
    disk_size: str | None = "10G"
    config_drive: Path | None = None
    metadata: Path | None = None
    nics: tuple[Nic, ...] = ONE_NIC
    volumes: tuple[Path, ...] = ()
    forwards: Mapping[str, int] = field(default_factory=dict)
    host_forwards: tuple[HostForward, ...] = ()
    shell: bool = True
    options: tuple[str, ...] = ()
