"""Checks: Python, programs and their versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, ok
from imagebuild.doctor.host import Host
from imagebuild.host.preflight import BOOT_TOOLS, BUILD_TOOLS, VERIFY_TOOLS

GROUP = "programs"
_BUILDING = "a build"

Version = tuple[int, ...]


@dataclass(frozen=True)
class _Minimum:
    """The oldest version of a program that does, and why."""

    argv: tuple[str, ...]
    version: Version
    package: str
    reason: str


_MINIMA = (
    # What the oldest supported host, Ubuntu 22.04, has; nothing older was ever tried.
    _Minimum(
        ("mmdebstrap", "--version"), (0, 8), "mmdebstrap", "composing was never tried with it"
    ),
    # e2fsprogs 1.43 release notes.
    _Minimum(
        ("mke2fs", "-V"), (1, 43), "e2fsprogs", "it cannot fill a filesystem from a tree (-d)"
    ),
)
_QEMU_IMG = _Minimum(
    ("qemu-img", "--version"), (5, 1), "qemu-utils", "it cannot write qcow2 with zstd"
)
_PYTHON: Version = (3, 10)
_DIB: Version = (3, 43)


def parse_version(text: str) -> Version | None:
    """The first thing in a text that looks like a version, as numbers."""
    match = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(x) for x in match[0].split(".")) if match else None


def shown(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def python(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """The Python that runs the tool."""
    text = f"Python {shown(host.python)}"
    if host.python[:2] >= _PYTHON:
        yield ok(text)
        return
    yield Finding(
        Level.MISSING,
        f"{text} is too old",
        prevents="everything: the tool needs Python 3.10",
        install=("python3", "python3-venv"),
    )


def dib(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """diskimage-builder, in the tool's own Python environment."""
    found = host.distribution("diskimage-builder")
    if found and (parse_version(found) or ()) >= _DIB:
        yield ok(f"diskimage-builder {found}")
        return
    yield Finding(
        Level.MISSING,
        f"diskimage-builder {found} is too old" if found else "diskimage-builder is not installed",
        detail="3.43 is the first that hands the archive's keyring to mmdebstrap" if found else "",
        prevents="composing trees",
        run=("python3 -m pip install 'diskimage-builder>=3.43'",),
    )


def build_programs(host: Host, subject: Subject) -> Iterator[Finding]:
    """What a build runs."""
    tools = dict(BUILD_TOOLS)
    if subject.profile and (subject.profile.agent.source or "").startswith("git+"):
        tools["git"] = "git"
    yield from _programs(host, tools, _BUILDING)


def boot_programs(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """What booting an image runs."""
    yield from _programs(host, BOOT_TOOLS, "booting an image")


def verify_programs(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """What the control plane of a verification runs."""
    yield from _programs(host, VERIFY_TOOLS, "verifying an agent and its database")


def _programs(host: Host, tools: Mapping[str, str], purpose: str) -> Iterator[Finding]:
    missing = [t for t in tools if not any(host.which(name) for name in t.split("|"))]
    if not missing:
        yield ok(f"{len(tools)} programs that {purpose} needs")
        return
    many = len(missing) > 1
    yield Finding(
        Level.MISSING,
        f"{len(missing)} program{'s' if many else ''} that {purpose} needs "
        f"{'are' if many else 'is'} not installed",
        detail=", ".join(t.replace("|", " or ") for t in missing),
        prevents=purpose,
        install=tuple(dict.fromkeys(tools[t] for t in missing)),
        advice="scripts/imagebuild does it for you" if purpose == _BUILDING else "",
    )


def versions(host: Host, subject: Subject) -> Iterator[Finding]:
    """Programs that are there, but may be too old."""
    minima = [*_MINIMA]
    if _wants_zstd(subject):
        minima.append(_QEMU_IMG)
    for minimum in minima:
        program = minimum.argv[0]
        if not host.which(program):
            continue  # said elsewhere
        found = parse_version(host.version_text(minimum.argv))
        if found is None:
            yield Finding(Level.WARNING, f"{program} does not say its version")
        elif found >= minimum.version:
            yield ok(f"{program} {shown(found)}")
        else:
            yield _too_old(minimum, found)


def _too_old(minimum: _Minimum, found: Version) -> Finding:
    program, wanted = minimum.argv[0], shown(minimum.version)
    is_qemu = minimum is _QEMU_IMG
    return Finding(
        Level.MISSING,
        f"{program} {shown(found)} is too old",
        detail=f"{minimum.reason}; {wanted} is needed",
        prevents="images with compression: zstd" if is_qemu else "a build",
        advice="--set compression=zlib does without; or upgrade the host"
        if is_qemu
        else f"upgrade the host: its {minimum.package} is older than {wanted}",
    )


def _wants_zstd(subject: Subject) -> bool:
    profile = subject.profile
    if profile is None:
        return True  # every shipped profile does
    return str(profile.compression) == "zstd" and "qcow2" in map(str, profile.formats)


BUILD = frozenset({Need.BUILD})
BOOT = frozenset({Need.BOOT, Need.VERIFY})
VERIFY = frozenset({Need.VERIFY})

CHECKS = (
    Check("python", GROUP, "Python", frozenset(Need), python),
    Check("diskimage-builder", GROUP, "diskimage-builder", BUILD, dib),
    Check("build-programs", GROUP, "programs that a build runs", BUILD, build_programs),
    Check("versions", GROUP, "versions of programs", BUILD, versions),
    Check("boot-programs", GROUP, "programs that booting runs", BOOT, boot_programs),
    Check("verify-programs", GROUP, "programs that a control plane runs", VERIFY, verify_programs),
)
