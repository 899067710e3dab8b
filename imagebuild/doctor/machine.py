"""Checks: memory, architecture, KVM, UEFI firmware."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, from_error, ok
from imagebuild.doctor.host import Host
from imagebuild.doctor.storage import gib
from imagebuild.errors import PreflightError
from imagebuild.host.preflight import MACHINES

GROUP = "machine"

#: need -> (memory in bytes that it is comfortable with, and without which it is not tried).
MEMORY = {
    # Measured: the programs of a bookworm build have 220 MiB of their own at the peak. The
    # rest is the page cache, without which it crawls, and agent packages that are compiled.
    Need.BUILD: (2 << 30, 768 << 20),
    # The guest has 2 GiB (verify.spec); qemu itself and the page cache want some, too.
    Need.BOOT: (5 << 29, 3 << 29),
    # The same, and the control plane: measured, 560 MiB.
    Need.VERIFY: (7 << 29, 5 << 29),
}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_TEXT = {Need.BUILD: "a build", Need.BOOT: "a boot", Need.VERIFY: "a verification"}


def memory(host: Host, subject: Subject) -> Iterator[Finding]:
    """Memory that a build or a boot can have, swap and control groups counted in."""
    found = host.memory()
    for need, (comfortable, least) in MEMORY.items():
        if need not in subject.needs:
            continue
        if found.usable >= comfortable:
            yield ok(f"{gib(found.usable)} of memory free, {gib(comfortable)} for {_TEXT[need]}")
            continue
        is_limited = found.limit is not None and found.limit == found.usable
        tight = f"{_TEXT[need]}: programs may be ended by the kernel"
        yield Finding(
            Level.WARNING if found.usable >= least else Level.MISSING,
            f"little memory for {_TEXT[need]}",
            detail=f"{gib(found.usable)} free with swap, {gib(comfortable)} wanted"
            + (" (a control group's limit)" if is_limited else ""),
            prevents=tight,
            advice="raise the container's or the service's memory limit"
            if is_limited
            else "end something, or add swap",
        )


def architecture(host: Host, subject: Subject) -> Iterator[Finding]:
    """Whether programs of the image's architecture run here.

    A foreign one needs qemu's user emulation, registered with the kernel (Linux,
    Documentation/admin-guide/binfmt-misc.rst), with the flag F, which makes it work in a
    chroot.
    """
    if subject.profile is None:
        yield ok(f"this host is {host.machine}")
        return
    arch = str(subject.profile.arch)
    wanted = MACHINES[arch]
    if host.machine == wanted:
        yield ok(f"{arch} is this host's own architecture")
        return
    entry = _BINFMT / f"qemu-{wanted}"
    advice = f"or build on an {arch} host"
    if not host.exists(entry):
        yield Finding(
            Level.MISSING,
            f"this host cannot run {arch} programs, which composing the image needs",
            detail=f"the host is {host.machine}",
            prevents="a build",
            install=("qemu-user-static", "binfmt-support"),
            advice=advice,
        )
        return
    lines = host.read(entry).decode(errors="replace").splitlines()
    flags = next((x.partition(":")[2] for x in lines if x.startswith("flags")), "")
    if "enabled" in lines and "F" in flags:
        yield Finding(
            Level.WARNING,
            f"{arch} programs are emulated",
            prevents="nothing, but a build takes some ten times as long",
            advice=f"build on an {arch} host where there is one",
        )
        return
    yield Finding(
        Level.MISSING,
        f"{arch} programs cannot be run in a chroot",
        where=str(entry),
        detail="registered, but switched off" if "enabled" not in lines else "without the flag F",
        prevents="a build",
        install=("qemu-user-static",),
        advice=advice,
    )


def kvm(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """KVM, measured with a guest of a few instructions."""
    found = host.kvm()
    wanted = host.environ.get("IMAGEBUILD_ACCEL", "").split(",")[0] == "kvm"
    if found.works:
        text = "KVM is there; its speed cannot be measured on this architecture"
        if found.speed is not None:
            text = f"KVM works: {found.speed / 1e6:.0f} million instructions a second"
        yield ok(text + ("" if wanted else "; IMAGEBUILD_ACCEL=kvm uses it"))
        return
    slow = "nothing, but boots are emulated and take minutes instead of seconds"
    run: tuple[str, ...] = ()
    if found.is_permission:
        run, advice = ("usermod -aG kvm $USER",), "then log in again"
    elif found.is_there:
        advice = "unset IMAGEBUILD_ACCEL" if wanted else "leave IMAGEBUILD_ACCEL unset"
    else:
        advice = "switch virtualisation on in the firmware, or nested virtualisation for this guest"
    yield Finding(
        Level.MISSING if wanted else Level.WARNING,
        "KVM is there, but does not work" if found.is_there else "there is no KVM",
        where="/dev/kvm",
        detail=found.problem,
        prevents="boots: IMAGEBUILD_ACCEL asks for KVM" if wanted else slow,
        run=run,
        advice=advice,
    )


def firmware(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """UEFI firmware for qemu."""
    try:
        code = host.firmware()
    except PreflightError as exc:
        finding = from_error(exc, "booting an image by UEFI")
        yield Finding(
            finding.level, finding.what, finding.where, "", finding.prevents, install=("ovmf",)
        )
        return
    yield ok("UEFI firmware for qemu", str(code))


_BOOT = frozenset({Need.BOOT, Need.VERIFY})
CHECKS = (
    Check("memory", GROUP, "memory", frozenset(MEMORY), memory),
    Check("architecture", GROUP, "the image's architecture", frozenset({Need.BUILD}), architecture),
    Check("kvm", GROUP, "KVM", _BOOT, kvm),
    Check("firmware", GROUP, "UEFI firmware", _BOOT, firmware),
)
