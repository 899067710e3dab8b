"""Choose what runs the guest's instructions: KVM where it works, else qemu's emulation (TCG)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from imagebuild.errors import PreflightError, UsageError
from imagebuild.host import kvm
from imagebuild.host.preflight import MACHINES

#: How much longer an emulated machine may take for everything. Measured: a boot to a settled
#: system takes some 25 s with KVM and 100 to 340 s without, the latter on a busy host.
TCG_PATIENCE = 5.0

#: What qemu is told about the emulation; everything that makes it robust belongs here.
_TCG_OPTIONS = ("-accel", "tcg,thread=multi")
#: The same for KVM.
_KVM_OPTIONS = ("-accel", "kvm", "-cpu", "host")


@dataclass(frozen=True)
class Accelerator:
    """What was chosen. `why` is for people; `patience` multiplies every limit of time;
    `options` are qemu's.
    """

    name: str
    why: str
    patience: float
    options: tuple[str, ...]

    @property
    def is_emulated(self) -> bool:
        """Whether qemu interprets the guest's instructions itself."""
        return self.name == "tcg"


def choose(asked: str | None = None, *, arch: str = "amd64") -> Accelerator:
    """The accelerator for a guest of Debian's architecture `arch`.

    `asked` (`kvm`, `tcg`) wins, then the environment's IMAGEBUILD_ACCEL (the same names, with
    qemu's own options behind a comma); else KVM where a measured guest runs fast enough.
    Raises UsageError for another name, PreflightError when KVM is asked for and does not work.
    """
    asked = asked or os.environ.get("IMAGEBUILD_ACCEL") or ""
    name, _, more = asked.partition(",")
    if name not in ("", "kvm", "tcg"):
        raise UsageError(f"there is no accelerator {name!r}", hint="use kvm or tcg")
    if name == "tcg":
        return _tcg("asked for", more)
    if MACHINES.get(arch) != os.uname().machine:
        why = f"a guest of {arch} needs emulation on {os.uname().machine}"
    else:
        found = kvm.measure()
        if found.works:
            speed = (
                f", {found.speed / 1e6:.0f} million instructions a second" if found.speed else ""
            )
            return Accelerator("kvm", f"KVM works{speed}", 1.0, _with(_KVM_OPTIONS, more))
        why = f"{kvm.DEVICE}: {found.problem}"
    if name == "kvm":
        raise PreflightError("KVM does not work on this host", where=str(kvm.DEVICE), detail=why)
    return _tcg(why, more)


def _tcg(why: str, more: str) -> Accelerator:
    return Accelerator("tcg", why, TCG_PATIENCE, _with(_TCG_OPTIONS, more))


def _with(options: tuple[str, ...], more: str) -> tuple[str, ...]:
    if not more:
        return options
    at = options.index("-accel") + 1
    name = options[at].partition(",")[0]
    return (*options[:at], f"{name},{more}", *options[at + 1 :])
