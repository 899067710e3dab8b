"""What a build needs of the host, checked before anything is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import which

#: program -> Debian and Ubuntu package that brings it.
BUILD_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    # DIB asks debootstrap for its version even where mmdebstrap does the work.
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "findmnt": "util-linux",
    "chroot": "coreutils",
    "ps": "procps",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "lsattr": "e2fsprogs",
    "mformat": "mtools",
    "mcopy": "mtools",
    "qemu-img": "qemu-utils",
}

#: Debian's architecture -> what `uname -m` says, and wheels' platform tags.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

#: Space that a build uses at its peak, in bytes: two trees, the sparse disk, the images,
#: and DIB's copy while it works.
SCRATCH_SPACE = 6 << 30


def check_tools(tools: Iterable[str] = BUILD_TOOLS) -> None:
    """Raise PreflightError naming every program that is missing and how to get it."""
    wanted = dict.fromkeys(tools)
    if os.geteuid() != 0:
        wanted["sudo"] = None
    missing = [t for t in wanted if which(t) is None]
    if missing:
        packages = sorted({BUILD_TOOLS.get(t, t) for t in missing})
        raise PreflightError(
            f"{len(missing)} program{'s' if len(missing) > 1 else ''} that a build needs "
            f"{'are' if len(missing) > 1 else 'is'} not installed",
            detail=", ".join(missing),
            hint=f"apt-get install {' '.join(packages)} (scripts/imagebuild does it for you)",
        )


def check_arch(arch: str, binfmt: Path = Path("/proc/sys/fs/binfmt_misc")) -> None:
    """Raise PreflightError unless this host can run programs of `arch` (Debian's name).

    A foreign one needs qemu's user emulation, registered with the kernel
    (Documentation/admin-guide/binfmt-misc.rst).
    """
    wanted = MACHINES[arch]
    if os.uname().machine != wanted and not (binfmt / f"qemu-{wanted}").exists():
        raise PreflightError(
            f"this host cannot run {arch} programs, which composing the image needs",
            detail=f"the host is {os.uname().machine}",
            hint=f"build on an {arch} host, or: apt-get install qemu-user-static binfmt-support",
        )


def check_space(directory: Path, needed: int = SCRATCH_SPACE) -> None:
    """Raise PreflightError when the filesystem of `directory` has less than `needed` bytes free."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise PreflightError(
            "too little space for a build",
            where=str(directory),
            detail=f"{free / 2**30:.1f} GiB free, {needed / 2**30:.0f} GiB needed",
            hint="free some, or choose another place with --cache-dir (IMAGEBUILD_CACHE_DIR)",
        )
