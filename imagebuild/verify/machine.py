"""A machine under qemu as Nova would start it; it is gone when its block is left.

Nova's in what an image can see: virtio devices, OpenStack's SMBIOS strings (cloud-init's
ds-identify turns itself off without them), a ConfigDrive or the metadata service, DHCP. It
needs no root.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping
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
    raw files that become vdb, ...: they are written. `forwards`: an address in the guest's network
    (`168.0.0.4:5672`) -> a port on the host's loopback.
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


@dataclass(frozen=True)
class Machine:
    """A machine that was started: its process and the files that it writes.

    `directory` has `console.log`, `probe.jsonl`, `metadata.log`, `qemu.log`; `sockets` has
    the sockets of the shell and of QMP. `started` is a `time.monotonic()`.
    """

    spec: MachineSpec
    process: subprocess.Popen[bytes]
    directory: Path
    sockets: Path
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds since qemu was started."""
        return time.monotonic() - self.started


@contextlib.contextmanager
def running(
    spec: MachineSpec, logs: Path, scratch: Path, *, keep: bool = False
) -> Iterator[Machine]:
    """The machine, ended however the block is left, and with the tool when that is killed.

    `logs` stay, `scratch` (overlay, sockets, variables) is the caller's to remove. With `keep`
    the machine lives on when the block ends well. Raises PreflightError when the host cannot.
    """
    raise NotImplementedError
