"""The root filesystem: an ext4 made from a directory, without a mount or a block device.

`mke2fs -d` writes the tree into the image at an offset, with owners, modes, hard links,
device nodes and extended attributes (`security.capability`, POSIX ACLs). What the
filesystem looks like depends on the arguments alone, not on the host's mke2fs.conf.
"""

from __future__ import annotations

import math
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, need, run
from imagebuild.stages import debugfs

MIB = 1 << 20
BLOCK = 4096

#: Bytes of filesystem per inode: what Debian's and Ubuntu's own mke2fs.conf use. The
#: ratio is kept when a guest grows the filesystem.
INODE_RATIO = 16384

JOURNAL_MIB = 64

#: mke2fs refuses a journal that takes more than half of the free blocks.
LEAST_BYTES = (2 * JOURNAL_MIB + 8) * MIB

_LABEL_BYTES = 16

# The file is new and sparse: it holds zeros where inode tables and journal are.
_LAZY = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"

_FEATURES = "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize"

# metadata_csum_seed and orphan_file, defaults of newer e2fsprogs, are left out: kernels
# before 5.15, e2fsprogs before 1.47 and GRUB before 2.12 do not mount or read them.
# resize_inode reserves what growing online to 1024 times the size needs. mke2fs asks for
# the type "small" below 512 MiB of its own accord.
_MKE2FS_CONF = f"""\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
    blocksize = {BLOCK}
    inode_size = 256
    inode_ratio = {INODE_RATIO}
    reserved_ratio = 1.0
[fs_types]
    ext4 = {{
        features = {_FEATURES}
    }}
    small = {{
        inode_ratio = {INODE_RATIO}
    }}
"""


@dataclass(frozen=True)
class Ext4Spec:
    """Identity of a filesystem. `epoch` (seconds) is the time at which it was "made"."""

    label: str
    fs_uuid: uuid.UUID
    hash_seed: uuid.UUID
    epoch: int


@dataclass(frozen=True)
class Content:
    """What a tree needs: data and directory bytes in whole blocks, and inodes."""

    size: int
    inodes: int


@dataclass(frozen=True)
class Usage:
    """State of a filesystem: bytes in use and free, counted from the superblock."""

    used: int
    free: int
    free_inodes: int


class NoRoomError(Exception):
    """The tree does not fit. For the disk stage, which knows the size of the disk."""


def measure(tree: Path) -> Content:
    """Space that the tree takes in an ext4 with 4 KiB blocks, without the filesystem's own.

    Hard links count once, holes of sparse files do not count. Raises BuildError when a
    directory cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    blocks = inodes = 0
    directories = [os.fspath(tree)]
    try:
        while directories:
            names = 24
            with os.scandir(directories.pop()) as entries:
                for entry in entries:
                    # A directory entry: 8 bytes and the name, padded to 4.
                    names += 8 + (len(os.fsencode(entry.name)) + 3 & ~3)
                    stat = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                        continue
                    if stat.st_nlink > 1:
                        if (stat.st_dev, stat.st_ino) in seen:
                            continue
                        seen.add((stat.st_dev, stat.st_ino))
                    inodes += 1
                    if entry.is_symlink():
                        # Targets up to 59 bytes live in the inode.
                        blocks += stat.st_size > 59
                    else:
                        blocks += -(-min(stat.st_size, stat.st_blocks * 512) // BLOCK)
            inodes += 1
            # 3800 of 4096: entries do not cross blocks, and each block has a checksum.
            blocks += -(-names // 3800)
    except OSError as exc:
        raise BuildError(
            "cannot read the whole tree", where=str(tree), detail=str(exc),
            hint="a tree holds files that only root may read: run this as root",
        ) from exc  # fmt: skip
    return Content(blocks * BLOCK, inodes)


def fits(content: Content, size: int, work: Path) -> bool:
    """Does the content fit into a filesystem of `size` bytes? Measured, not estimated."""
    return _shortage(content, size, work) == 0


def smallest(content: Content, work: Path) -> int:
    """Smallest filesystem, in bytes and whole MiB, that takes the content."""
    size = LEAST_BYTES
    while short := _shortage(content, size, work):
        size += _whole_mib(short)
    return size


def make(image: Path, offset: int, size: int, tree: Path, spec: Ext4Spec, work: Path) -> Usage:
    """Write a filesystem of `size` bytes holding `tree` at `offset` of the file `image`.

    The tree is only read. Access and change times are set to the epoch: they tell when
    the tree was unpacked and read on the build host, so they would make two builds of
    one tree differ. Modification times stay. Nor does it matter where files of the tree have
    holes, which depends on the filesystem that they are on. Raises NoRoomError, BuildError.
    """
    if not 0 < len(spec.label.encode()) <= _LABEL_BYTES:
        raise BuildError(
            f"{spec.label!r} cannot be a filesystem label",
            detail=f"ext4 takes labels of 1 to {_LABEL_BYTES} bytes",
        )
    options = f"offset={offset},hash_seed={spec.hash_seed},{_LAZY}"
    argv: list[str | Path] = [
        need("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-L", spec.label,
        "-U", str(spec.fs_uuid), "-J", f"size={JOURNAL_MIB}", "-E", options,
        "-d", tree, image, f"{size // 1024}k",
    ]  # fmt: skip
    try:
        run(argv, env=_env(work, spec.epoch), what="mke2fs could not write the root filesystem")
    except BuildError as exc:
        if "Could not allocate" in exc.detail:
            raise NoRoomError(exc.detail) from exc
        raise
    _set_times(image, offset, spec.epoch, work)
    _forget_writes(image, offset)
    return usage(image, offset)


def usage(image: Path, offset: int = 0) -> Usage:
    """Used and free space of the filesystem at `offset` of `image`."""
    sb = _Superblock.read(image, offset)
    return Usage((sb.blocks - sb.free_blocks) * BLOCK, sb.free_blocks * BLOCK, sb.free_inodes)


def _shortage(content: Content, size: int, work: Path) -> int:
    """Bytes that a filesystem of `size` bytes lacks for the content, 0 when it fits.

    An empty filesystem is made in a sparse file, since nothing else knows exactly what
    inode tables, bitmaps and the blocks reserved for growing take.
    """
    # Extended attributes, extent trees and split directories are not in `content`.
    needed = content.size + max(content.size // 100, 8 * MIB)
    least = max(needed + JOURNAL_MIB * MIB, LEAST_BYTES)
    if size < least:
        return least - size
    trial = work / "trial.ext4"
    try:
        with trial.open("wb") as file:
            file.truncate(size)
        run(
            [need("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-J",
             f"size={JOURNAL_MIB}", "-E", _LAZY, trial],
            env=_env(work, 0),
        )  # fmt: skip
        empty = usage(trial)
    finally:
        trial.unlink(missing_ok=True)
    return max(
        0,
        needed - empty.free,
        (content.inodes + 16 - empty.free_inodes) * INODE_RATIO,
    )


def _env(work: Path, epoch: int) -> dict[str, str]:
    """Environment of the e2fsprogs: private configuration, fixed clock.

    Not SOURCE_DATE_EPOCH: from e2fsprogs 1.47.1 on it also moves modification times back
    to the epoch, which makes Python's compiled files look older than their sources.
    """
    config = work / "mke2fs.conf"
    config.write_text(_MKE2FS_CONF)
    return base_env(MKE2FS_CONFIG=str(config), E2FSPROGS_FAKE_TIME=str(epoch))


def _whole_mib(size: int) -> int:
    return -(-size // MIB) * MIB


@dataclass(frozen=True)
class _Superblock:
    """What is needed of a superblock (Linux: Documentation/filesystems/ext4/super.rst)."""

    blocks: int
    free_blocks: int
    free_inodes: int
    blocks_per_group: int
    inodes_per_group: int
    first_inode: int
    descriptor_size: int

    @classmethod
    def read(cls, image: Path, offset: int) -> _Superblock:
        with image.open("rb") as file:
            file.seek(offset + 1024)
            data = file.read(1024)

        def u16(at: int) -> int:
            return int(struct.unpack_from("<H", data, at)[0])

        def u32(at: int) -> int:
            return int(struct.unpack_from("<I", data, at)[0])

        if len(data) < 1024 or u16(0x38) != 0xEF53 or u32(0x18) != 2:
            raise BuildError(
                "there is no ext4 filesystem with 4 KiB blocks",
                where=f"{image}, offset {offset}",
            )
        return cls(
            blocks=u32(0x4) | u32(0x150) << 32,
            free_blocks=u32(0xC) | u32(0x158) << 32,
            free_inodes=u32(0x10),
            blocks_per_group=u32(0x20),
            inodes_per_group=u32(0x28),
            first_inode=u32(0x54),
            descriptor_size=u16(0xFE) or 32,
        )


def _used_inodes(image: Path, offset: int) -> Iterator[int]:
    """Numbers of the inodes in use: the root directory and all that are not reserved.

    Read from the inode bitmaps (Documentation/filesystems/ext4/group_descr.rst).
    """
    sb = _Superblock.read(image, offset)
    yield 2
    with image.open("rb") as file:
        groups = -(-sb.blocks // sb.blocks_per_group)
        file.seek(offset + BLOCK)
        table = file.read(groups * sb.descriptor_size)
        for group in range(groups):
            at = group * sb.descriptor_size
            (bitmap,) = struct.unpack_from("<I", table, at + 0x4)
            (flags,) = struct.unpack_from("<H", table, at + 0x12)
            if sb.descriptor_size >= 64:
                bitmap |= struct.unpack_from("<I", table, at + 0x24)[0] << 32
            if flags & 1:  # INODE_UNINIT: no inode of this group was ever used
                continue
            file.seek(offset + bitmap * BLOCK)
            bits = file.read(sb.inodes_per_group // 8)
            first = group * sb.inodes_per_group + 1
            for i in range(sb.inodes_per_group):
                if bits[i >> 3] >> (i & 7) & 1 and first + i >= sb.first_inode:
                    yield first + i


def _set_times(image: Path, offset: int, epoch: int, work: Path) -> None:
    """Set access and change time of every inode to the epoch (debugfs: 0.1 s for 14,000)."""
    debugfs.change(
        image,
        offset,
        (
            f"sif <{inode}> {field} @{epoch}"
            for inode in _used_inodes(image, offset)
            for field in ("atime", "ctime")
        ),
        epoch=epoch,
        work=work,
        what="debugfs could not set the times in the root filesystem",
    )


def _forget_writes(image: Path, offset: int) -> None:
    """Set the count of what was ever written to 0 in each superblock (super.rst).

    mke2fs writes less for a tree whose files have holes. Of 0, libext2fs counts no further
    (ext2fs_close2 in lib/ext2fs/closefs.c).
    """
    sb = _Superblock.read(image, offset)
    groups = -(-sb.blocks // sb.blocks_per_group)
    with image.open("r+b") as file:
        for group in filter(_has_superblock, range(groups)):
            at = offset + (group * sb.blocks_per_group * BLOCK or 1024)
            file.seek(at)
            data = bytearray(file.read(1024))
            if data[0x38:0x3A] != b"\x53\xef":
                raise BuildError(
                    "a copy of the superblock is not where it should be",
                    where=f"{image}, offset {at}",
                )
            data[0x178:0x180] = bytes(8)
            struct.pack_into("<I", data, 0x3FC, _crc32c(bytes(data[:0x3FC])))
            file.seek(at)
            file.write(data)


def _has_superblock(group: int) -> bool:
    """Whether a block group has a copy (sparse_super): 0, 1 and powers of 3, 5 and 7."""
    return group < 2 or any(group == p ** round(math.log(group, p)) for p in (3, 5, 7))


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) as ext4 has it: begun with all ones, not inverted at the end."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc
