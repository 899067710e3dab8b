"""Checks: where a build writes: rights, mount options, filesystems, space, inodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, from_error, ok
from imagebuild.doctor.host import Host, Mount
from imagebuild.errors import PreflightError
from imagebuild.host.preflight import SCRATCH_SPACE

GROUP = "space"

#: Inodes of a build. Measured: 62,000 at the peak of a bookworm image.
INODES = 100_000
#: Bytes in the temporary directory: keyrings and lists; for a boot, what the guest writes.
TEMPORARY = 64 << 20
BOOT_TEMPORARY = 2 << 30

#: Filesystems that are somebody else's, or that know no owners or devices.
_FOREIGN = ("nfs", "nfs4", "cifs", "smb3", "9p", "vboxsf", "vfat", "exfat", "ntfs", "ntfs3")
#: Those that shorten file names (ecryptfs: 143 bytes), which breaks packages.
_STACKED = ("ecryptfs",)
_ELSEWHERE = "choose another place with --cache-dir (IMAGEBUILD_CACHE_DIR)"


def writable(host: Host, subject: Subject) -> Iterator[Finding]:
    """Rights in every directory that results go to."""
    bad: dict[Path, Finding] = {}
    options = {subject.cache: "--cache-dir (IMAGEBUILD_CACHE_DIR)"}
    for place in subject.places:
        options.setdefault(place.directory, place.option)
    for directory, option in options.items():
        try:
            host.check_writable(directory)
        except PreflightError as exc:
            exc.hint = f"choose another place with {option}"
            bad[directory] = from_error(exc, "a build: its results go there")
    yield from bad.values()
    if not bad:
        yield ok("writable: " + ", ".join(map(str, options)))


def filesystem(host: Host, subject: Subject) -> Iterator[Finding]:
    """The cache directory's filesystem and mount options."""
    mount = host.mount(subject.cache)
    problems = [*_options(mount, subject.cache), *_type(mount, subject.cache)]
    parts = [subject.cache / name for name in ("scratch", "store")]
    if len({host.usage(p).device for p in parts}) > 1:
        problems.append(
            Finding(
                Level.WARNING,
                "scratch space and the store lie on different filesystems",
                where=", ".join(map(str, parts)),
                prevents="nothing, but what a build makes is copied, not renamed",
                advice="mount the cache directory as a whole",
            )
        )
    yield from problems
    if not problems:
        yield ok(f"{mount.fstype} on {mount.point}")


#: Mount options that break a build, and what breaks. Measured: with noexec mmdebstrap ends
#: at its first chroot; with nodev apt in the tree cannot open /dev/null. With nosuid a whole
#: build is fine.
_HOSTILE = {
    "ro": "nothing can be written there",
    "noexec": "the guest's own programs run there",
    "nodev": "the guest's programs need the devices of their tree",
}


def _options(mount: Mount, cache: Path) -> Iterator[Finding]:
    for option, reason in _HOSTILE.items():
        if option in mount.options:
            undone = {"ro": "rw"}.get(option, option.removeprefix("no"))
            yield Finding(
                Level.MISSING,
                f"the cache directory is mounted {option}",
                where=str(cache),
                detail=f"mount point {mount.point}",
                prevents=f"a build: {reason}",
                advice=f"{_ELSEWHERE}, or: mount -o remount,{undone} {mount.point}",
            )


def _type(mount: Mount, cache: Path) -> Iterator[Finding]:
    if mount.fstype in _FOREIGN or mount.fstype.startswith("fuse"):
        yield Finding(
            Level.MISSING,
            f"the cache directory is on {mount.fstype}",
            where=str(cache),
            detail=f"mount point {mount.point}",
            prevents="a build: root cannot make files of all owners and devices there",
            advice=f"choose a local ext4, xfs or btrfs: {_ELSEWHERE}",
        )
    elif mount.fstype in _STACKED:
        yield Finding(
            Level.MISSING,
            f"the cache directory is in an encrypted directory ({mount.fstype})",
            where=str(cache),
            detail="names of files may not be longer than 143 bytes there",
            prevents="a build: packages have longer names",
            advice=_ELSEWHERE,
        )
    elif mount.fstype in ("tmpfs", "ramfs"):
        yield Finding(
            Level.WARNING,
            f"the cache directory is on {mount.fstype}",
            where=str(cache),
            detail=f"mount point {mount.point}",
            prevents="nothing, but trees take memory there, and are lost at the next boot",
            advice=_ELSEWHERE,
        )
    elif mount.fstype == "overlay":
        yield Finding(
            Level.WARNING,
            "the cache directory is on overlayfs, as in a container",
            where=str(cache),
            detail=f"mount point {mount.point}",
            prevents="compiling agent packages that have no wheel: overlays do not nest",
            advice=f"in a container, mount a volume and choose it: {_ELSEWHERE}",
        )


def space(host: Host, subject: Subject) -> Iterator[Finding]:
    """Free space, summed up for places on one filesystem."""
    yield from _enough(host, subject.cache, _needed(host, subject, subject.cache), _ELSEWHERE)
    own = host.usage(subject.cache).device
    seen = {own}
    for place in subject.places:
        device = host.usage(place.directory).device
        if device in seen:
            continue
        seen.add(device)
        needed = _needed(host, subject, place.directory)
        advice = f"choose another place with {place.option}"
        yield from _enough(host, place.directory, needed, advice)


def _needed(host: Host, subject: Subject, directory: Path) -> int:
    """What the build puts on the filesystem that a directory is on, in bytes."""
    device = host.usage(directory).device
    is_cache = device == host.usage(subject.cache).device
    needed = SCRATCH_SPACE if is_cache else 0
    for place in subject.places:
        if host.usage(place.directory).device == device:
            needed += place.extra + (0 if is_cache else place.size)
    return needed


def _enough(host: Host, directory: Path, needed: int, advice: str) -> Iterator[Finding]:
    free = host.usage(directory).free
    if free >= needed:
        yield ok(f"{gib(free)} free, {gib(needed, 0)} needed", str(directory))
        return
    yield Finding(
        Level.MISSING,
        "too little space for a build",
        where=str(directory),
        detail=f"{gib(free)} free, {gib(needed, 0)} needed",
        prevents="a build",
        advice=f"free some, or {advice}",
    )


def inodes(host: Host, subject: Subject) -> Iterator[Finding]:
    """Free inodes for the trees."""
    free = host.usage(subject.cache).inodes
    if free is None:
        yield ok("inodes are not limited")
    elif free >= INODES:
        yield ok(f"{free} inodes free")
    else:
        yield Finding(
            Level.MISSING,
            "too few inodes for a build",
            where=str(subject.cache),
            detail=f"{free} free, {INODES} needed",
            prevents="a build: trees hold many small files",
            advice=f"remove files, or {_ELSEWHERE}",
        )


def temporary(host: Host, subject: Subject) -> Iterator[Finding]:
    """Space for temporary files."""
    needed = BOOT_TEMPORARY if {Need.BOOT, Need.VERIFY} & subject.needs else TEMPORARY
    directory = host.temporary
    usage = host.usage(directory)
    free = usage.free
    if needed == TEMPORARY and usage.device == host.usage(subject.cache).device:
        yield ok("temporary files lie on the cache's filesystem", str(directory))
        return
    if free >= needed:
        yield ok(f"{gib(free)} free for temporary files", str(directory))
        return
    yield Finding(
        Level.MISSING,
        "too little space for temporary files",
        where=str(directory),
        detail=f"{free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB needed",
        prevents="a boot: the guest's disk lies there" if needed > TEMPORARY else "a build",
        advice="free some, or choose another place with TMPDIR",
    )


def gib(size: int, digits: int = 1) -> str:
    """A size in GiB, for people."""
    return f"{size / 2**30:.{digits}f} GiB"


_BUILD = frozenset({Need.BUILD})
_TEMPORARY = frozenset({Need.BUILD, Need.BOOT, Need.VERIFY})
CHECKS = (
    Check("writable", GROUP, "rights where results go", _BUILD, writable),
    Check("filesystem", GROUP, "the cache's filesystem", _BUILD, filesystem),
    Check("space", GROUP, "free space", _BUILD, space),
    Check("inodes", GROUP, "free inodes", _BUILD, inodes),
    Check("temporary", GROUP, "temporary files", _TEMPORARY, temporary),
)
