"""Reads an ext4 filesystem inside a file: no mount, no root, no other program.

The layout is that of the kernel's Documentation/filesystems/ext4/*.rst. Only what the
disk stage and common mkfs settings write is read; a filesystem with anything else
(inline data, encryption, a journal that waits for its replay) is refused, not guessed at.
Nothing is trusted: numbers that point outside raise VerifyError.
"""

from __future__ import annotations

import os
import stat
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from imagebuild.errors import VerifyError

ROOT_INODE = 2


class UnsupportedError(VerifyError):
    """What is there may be sound; this version of the tool does not read it."""


_SUPERBLOCK = 1024
_MAGIC = 0xEF53
_EXTENT_MAGIC = 0xF30A
_XATTR_MAGIC = 0xEA020000
_USES_EXTENTS = 0x80000
_HAS_64BIT = 0x80
#: filetype, extents, 64bit, flex_bg, csum_seed, largedir.
_INCOMPAT_KNOWN = 0x2 | 0x40 | _HAS_64BIT | 0x200 | 0x2000 | 0x4000
_INCOMPAT_NEEDED = 0x2
_INCOMPAT_NAMES = {
    0x4: "a journal that waits for its replay (needs_recovery)", 0x10: "meta_bg",
    0x400: "ea_inode", 0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
}  # fmt: skip
_RO_BIGALLOC = 0x200
_MOST_DEPTH = 5
#: Longest target of a link that stands in the inode itself.
_FAST_LINK = 59
_XATTR_PREFIX = {
    0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default",
    4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """`count` blocks of a file from its block `logical` on, at block `physical` of the filesystem.

    Blocks that are allocated and not yet written read as zeros: `written` is false.
    """

    logical: int
    physical: int
    count: int
    written: bool


@dataclass(frozen=True)
class Inode:
    """An inode. `mode` holds type and permission bits, `mtime` is in seconds."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    links: int
    raw: bytes

    @property
    def xattr_block(self) -> int:
        """The block with the extended attributes for which the inode has no room, or 0."""
        low = int.from_bytes(self.raw[0x68:0x6C], "little")
        return low | int.from_bytes(self.raw[0x76:0x78], "little") << 32


class Ext4:
    """The filesystem that begins `offset` bytes into the file `path`.

    Raises VerifyError when there is none, or one that uses what this cannot read.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._finalizer = weakref.finalize(self, os.close, self._fd)
        self._read_superblock()

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._finalizer()

    def _read_superblock(self) -> None:
        data = self.bytes_at(_SUPERBLOCK, 1024)

        def u16(at: int) -> int:
            return int.from_bytes(data[at : at + 2], "little")

        def u32(at: int) -> int:
            return int.from_bytes(data[at : at + 4], "little")

        if u16(0x38) != _MAGIC or u32(0x4C) == 0:
            self._bad("there is no ext4 filesystem")
        incompat = u32(0x60)
        strange = [n for bit, n in _INCOMPAT_NAMES.items() if incompat & bit]
        rest = incompat & ~_INCOMPAT_KNOWN & ~sum(_INCOMPAT_NAMES)
        if rest:
            strange.append(f"incompatible features {rest:#x}")
        if u32(0x64) & _RO_BIGALLOC:
            strange.append("bigalloc")
        if strange or not incompat & _INCOMPAT_NEEDED:
            raise UnsupportedError(
                "cannot read the root filesystem",
                where=f"{self.path}, offset {self.offset}",
                detail=f"the filesystem uses {', '.join(strange) or 'no file types'}",
                hint="build the image anew; e2fsck -fn tells more",
            )
        self.inodes = u32(0x0)
        self.block_size = 1024 << u32(0x18) if u32(0x18) <= 5 else 0
        wide = bool(incompat & _HAS_64BIT)
        self.blocks = u32(0x4) | (u32(0x150) << 32 if wide else 0)
        self._inodes_per_group = u32(0x28)
        self._inode_size = u16(0x58)
        self._descriptor_size = u16(0xFE) if wide else 32
        if (
            not self.block_size or not self.blocks or not self._inodes_per_group
            or not 128 <= self._inode_size <= self.block_size
            or not 32 <= self._descriptor_size <= self.block_size
        ):  # fmt: skip
            self._bad("the superblock makes no sense")
        groups = -(-self.inodes // self._inodes_per_group)
        if groups > self.blocks:
            self._bad("the superblock makes no sense")
        first = u32(0x14) + 1
        table = self.bytes_at(first * self.block_size, groups * self._descriptor_size)
        self._tables = [self._inode_table(table, g) for g in range(groups)]

    def _inode_table(self, table: bytes, group: int) -> int:
        at = group * self._descriptor_size
        block = int(struct.unpack_from("<I", table, at + 0x8)[0])
        if self._descriptor_size >= 64:
            block |= int(struct.unpack_from("<I", table, at + 0x28)[0]) << 32
        return block

    def inode(self, number: int) -> Inode:
        """The inode of that number."""
        if not 0 < number <= self.inodes:
            self._bad(f"inode {number} does not exist")
        group, index = divmod(number - 1, self._inodes_per_group)
        at = self._tables[group] * self.block_size + index * self._inode_size
        raw = self.bytes_at(at, self._inode_size)
        (mode, uid, size, _atime, _ctime, mtime, _dtime, gid, links) = struct.unpack_from(
            "<HHIIIiIHH", raw
        )
        size_high = int.from_bytes(raw[0x6C:0x70], "little")
        uid_high, gid_high = struct.unpack_from("<HH", raw, 0x78)
        if len(raw) >= 0x8C and int.from_bytes(raw[0x80:0x82], "little") >= 0xC:
            mtime += (int.from_bytes(raw[0x88:0x8C], "little") & 3) << 32
        return Inode(
            number, mode, uid | uid_high << 16, gid | gid_high << 16, size | size_high << 32,
            mtime, links, raw,
        )  # fmt: skip

    def entries(self, directory: Inode) -> Iterator[tuple[str, int]]:
        """Names in a directory and the numbers of their inodes, without `.` and `..`.

        A name that is no UTF-8 comes with surrogates, as `os.fsdecode` has it.
        """
        size = self.block_size
        if directory.size % size or directory.size > self.blocks * size:
            self._bad(f"the directory of inode {directory.number} has an impossible size")
        data = self.read(directory, 0, directory.size)
        for start in range(0, len(data), size):
            at = start
            while at < start + size:
                number, length, name_length = struct.unpack_from("<IHB", data, at)
                if (
                    length < 8
                    or length % 4
                    or at + length > start + size
                    or name_length > length - 8
                ):
                    self._bad(f"the directory of inode {directory.number} is damaged")
                name = data[at + 8 : at + 8 + name_length]
                if number and name not in (b".", b".."):
                    if not name or b"/" in name or b"\0" in name:
                        self._bad(
                            f"the directory of inode {directory.number} has an impossible name"
                        )
                    yield name.decode(errors="surrogateescape"), number
                at += length

    def extents(self, inode: Inode) -> list[Extent]:
        """Where the content of a file or directory lies, in the order of the file."""
        if not self._has_blocks(inode):
            return []
        if not int.from_bytes(inode.raw[0x20:0x24], "little") & _USES_EXTENTS:
            self._bad(f"inode {inode.number} has a block map in place of extents")
        found: list[Extent] = []
        self._extent_node(inode, inode.raw[0x28 : 0x28 + 60], _MOST_DEPTH, found)
        return found

    def _extent_node(self, inode: Inode, data: bytes, most: int, found: list[Extent]) -> None:
        """Add the extents of a node of the tree; they must go upwards, so no tree is endless."""
        magic, entries, _max, depth = struct.unpack_from("<HHHH", data)
        empty = not entries and most < _MOST_DEPTH
        if magic != _EXTENT_MAGIC or depth > most or 12 + entries * 12 > len(data) or empty:
            self._bad(f"inode {inode.number} has a damaged extent tree")
        for at in range(12, 12 + entries * 12, 12):
            if depth:
                _block, low, high = struct.unpack_from("<IIH", data, at)
                child = self.bytes_at((low | high << 32) * self.block_size, self.block_size)
                self._extent_node(inode, child, depth - 1, found)
                continue
            logical, count, high, low = struct.unpack_from("<IHHI", data, at)
            written = count <= 0x8000
            extent = Extent(logical, low | high << 32, count - (not written) * 0x8000, written)
            end = found[-1].logical + found[-1].count if found else 0
            if logical < end or not extent.count or extent.physical + extent.count > self.blocks:
                self._bad(f"inode {inode.number} has impossible extents")
            found.append(extent)

    def read(self, inode: Inode, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file's content from byte `start` on; holes are zeros."""
        end = min(start + size, inode.size)
        if end <= start:
            return b""
        if stat.S_ISLNK(inode.mode) and not self._has_blocks(inode):
            return inode.raw[0x28 : 0x28 + 60][start:end]
        content = bytearray(end - start)
        for extent in self.extents(inode):
            first = extent.logical * self.block_size
            low, high = max(first, start), min(first + extent.count * self.block_size, end)
            if extent.written and low < high:
                at = extent.physical * self.block_size + low - first
                content[low - start : high - start] = self.bytes_at(at, high - low)
        return bytes(content)

    def link(self, inode: Inode) -> str:
        """Target of a symbolic link."""
        if inode.size > self.block_size:
            self._bad(f"the link of inode {inode.number} is too long")
        return self.read(inode, 0, inode.size).decode(errors="surrogateescape")

    def xattrs(self, inode: Inode) -> dict[str, bytes]:
        """Extended attributes by full name, e.g. `security.capability`."""
        found: dict[str, bytes] = {}
        if len(inode.raw) > 128:
            first = 128 + int.from_bytes(inode.raw[0x80:0x82], "little")
            if inode.raw[first : first + 4] == _XATTR_MAGIC.to_bytes(4, "little"):
                self._xattr_entries(inode, inode.raw, first + 4, first + 4, found)
        if block := inode.xattr_block:
            data = self.bytes_at(block * self.block_size, self.block_size)
            if data[:4] != _XATTR_MAGIC.to_bytes(4, "little"):
                self._bad(f"inode {inode.number} has damaged extended attributes")
            self._xattr_entries(inode, data, 32, 0, found)
        return found

    def _xattr_entries(
        self, inode: Inode, data: bytes, at: int, base: int, found: dict[str, bytes]
    ) -> None:
        while at + 4 <= len(data) and data[at : at + 4] != bytes(4):
            if at + 16 > len(data):
                self._bad(f"inode {inode.number} has damaged extended attributes")
            length, index, offset, outside, size = struct.unpack_from("<BBHII", data, at)
            name = data[at + 16 : at + 16 + length].decode(errors="surrogateescape")
            if outside or base + offset + size > len(data) or at + 16 + length > len(data):
                self._bad(f"inode {inode.number} has damaged extended attributes")
            prefix = _XATTR_PREFIX.get(index, f"{index}.")
            found[prefix + name] = data[base + offset : base + offset + size]
            at += 16 + (length + 3 & ~3)

    def _has_blocks(self, inode: Inode) -> bool:
        if stat.S_ISLNK(inode.mode):
            return inode.size > _FAST_LINK
        return stat.S_ISREG(inode.mode) or stat.S_ISDIR(inode.mode)

    def bytes_at(self, at: int, size: int) -> bytes:
        """Bytes of the filesystem as they stand on the disk. Raises VerifyError past its end."""
        data = os.pread(self._fd, size, self.offset + at)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), self.offset + at + len(data))
            if not more:
                self._bad(f"it ends before byte {at + size}")
            data += more
        return data

    def _bad(self, why: str) -> NoReturn:
        raise VerifyError(
            "cannot read the root filesystem",
            where=f"{self.path}, offset {self.offset}",
            detail=why,
            hint="build the image anew; e2fsck -fn tells more",
        )
