"""A machine under qemu as Nova would start it; it is gone when its block is left.

Nova's in what an image can see: virtio devices, OpenStack's SMBIOS strings (cloud-init's
ds-identify turns itself off without them), a ConfigDrive or the metadata service, DHCP. It
needs no root.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.errors import BuildError, PreflightError, VerifyError
from imagebuild.host.run import need, run, spawn
from imagebuild.verify.argv import (
    CONSOLE,
    METADATA_LOG,
    OVERLAY,
    PROBE,
    QEMU_LOG,
    QMP_SOCKET,
    SHELL_SOCKET,
    qemu_argv,
)
from imagebuild.verify.place import Place
from imagebuild.verify.qmp import Qmp
from imagebuild.verify.spec import MachineSpec

#: Seconds in which qemu must answer for the first time, and end when it is asked to.
_START_SECONDS = 30
_END_SECONDS = 10


@dataclass(frozen=True)
class Machine:
    """A machine that was started: its process and where its files are.

    `logs` has what it writes, `scratch` its disk and sockets. `started`: a `time.monotonic()`.
    """

    spec: MachineSpec
    process: subprocess.Popen[bytes]
    logs: Path
    scratch: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def console(self) -> Path:
        """What the guest writes to its serial console; not there before the first byte."""
        return self.logs / CONSOLE

    @property
    def probe(self) -> Path:
        """What the probe in the guest reports, a JSON document a line."""
        return self.logs / PROBE

    @property
    def metadata_log(self) -> Path:
        """What was asked of the metadata service."""
        return self.logs / METADATA_LOG

    @property
    def shell(self) -> Path:
        """The socket of the root shell."""
        return self.scratch / SHELL_SOCKET

    @property
    def qmp(self) -> Qmp:
        """Questions to qemu."""
        return Qmp(self.scratch / QMP_SOCKET)

    @property
    def has_ended(self) -> bool:
        """Whether qemu is gone."""
        return self.process.poll() is not None

    def elapsed(self) -> float:
        """Seconds since qemu was started."""
        return time.monotonic() - self.started

    def words(self) -> str:
        """What qemu itself had to say."""
        try:
            return (self.logs / QEMU_LOG).read_text(errors="replace").strip()
        except OSError:
            return ""


@contextlib.contextmanager
def running(
    spec: MachineSpec, logs: Path, place: Place, *, keep: bool = False
) -> Iterator[Machine]:
    """The machine, ended however the block is left, and with the tool when that is killed.

    With `keep` it lives on when the block ends well, and holds the place's lock. Raises
    PreflightError when the host cannot start it, VerifyError when the image is no disk.
    """
    logs.mkdir(parents=True, exist_ok=True)
    make_overlay(spec.image, place.path / OVERLAY, fmt=spec.fmt, size=spec.disk_size)
    argv: Sequence[str] = qemu_argv(spec, logs.resolve(), place.path)
    with (logs / QEMU_LOG).open("wb") as output:
        process = spawn(
            argv,
            cwd=place.path,
            stdout=output,
            stderr=output,
            new_session=True,
            pass_fds=(place.lock,) if keep else (),
            die_with_parent=not keep,
        )
    machine = Machine(spec, process, logs, place.path)
    try:
        _wait_for_start(machine)
        yield machine
        place.keep = keep
    finally:
        if not place.keep:
            _end(process)


def make_overlay(image: Path, overlay: Path, *, fmt: str, size: str | None) -> Path:
    """A new qcow2 file over `image`, which stays as it is. Raises VerifyError when `image` is
    not what `fmt` says.
    """
    try:
        run(
            [need("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2",
             "-b", image.resolve(), "-F", fmt, overlay, *([size] if size else [])]
        )  # fmt: skip
    except BuildError as exc:
        raise VerifyError(
            f"the image cannot be opened as {fmt}", where=str(image), detail=exc.detail
        ) from exc
    return overlay


def _wait_for_start(machine: Machine) -> None:
    while True:
        if machine.has_ended:
            raise PreflightError(
                "qemu cannot start the machine",
                where=str(machine.logs / QEMU_LOG),
                detail=machine.words(),
            )
        try:
            machine.qmp.status()
            return
        except OSError as exc:
            if machine.elapsed() > _START_SECONDS:
                raise PreflightError(
                    "qemu does not answer", where=str(machine.logs), detail=str(exc)
                ) from exc
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it: SIGTERM, then SIGKILL."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
