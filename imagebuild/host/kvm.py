"""Whether KVM works on this host: measured, because a /dev/kvm that opens may still crawl.

Some hosts offer KVM without hardware virtualisation behind it (paravirtual kernels, nested
machines without the CPU's help). A guest then runs instruction by instruction, slower than
qemu's own emulation, and a boot takes for ever.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import ImagebuildError
from imagebuild.host.run import base_env, spawn

DEVICE = Path("/dev/kvm")

#: Instructions a second below which KVM is of no use. Hardware does 10^9 and more, qemu's
#: emulation some 10^8, and a paravirtual KVM that was measured 1.7 * 10^6. (CPUs of before
#: 2010, which emulate real mode only, are taken for slow as well.)
SLOWEST = 5e7


@dataclass(frozen=True)
class Kvm:
    """What was found. `problem` is empty when it works; `is_there` tells of the device.

    `speed` is in instructions a second, None where it was not measured (not x86_64).
    """

    is_there: bool
    problem: str = ""
    is_permission: bool = False
    speed: float | None = None

    @property
    def works(self) -> bool:
        """Whether a guest is better off with it."""
        return self.is_there and not self.problem


def measure(device: Path = DEVICE, seconds: float = 2.0) -> Kvm:
    """Run a guest of a few instructions; takes milliseconds where KVM works, never `seconds`."""
    if not device.exists():
        return Kvm(False, "there is no such device")
    if not os.access(device, os.R_OK | os.W_OK):
        return Kvm(True, "you may not use the device", is_permission=True)
    if os.uname().machine != "x86_64":
        return Kvm(True)
    script = Path(__file__).with_name("kvm_guest.py")
    try:
        process = spawn(
            [sys.executable, "-I", "-S", script, device],
            env=base_env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except ImagebuildError as exc:
        return Kvm(True, exc.what)
    with process:
        try:
            answer, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return Kvm(True, f"a guest of a few instructions did not end within {seconds:.0f} s")
        except BaseException:
            process.kill()
            raise
    try:
        said = json.loads(answer)
    except ValueError:
        return Kvm(True, f"the test guest ended with status {process.returncode}")
    if "error" in said:
        return Kvm(True, f"no guest can be started: {said['error']}")
    speed = float(said["instructions_per_second"])
    if speed < SLOWEST:
        return Kvm(True, f"it crawls: {speed / 1e6:.1f} million instructions a second", speed=speed)
    return Kvm(True, speed=speed)
