"""GUID partition tables, written and read in pure Python.

The layout is that of the UEFI specification 2.10: section 5.2.3 (protective MBR) and
5.3 (GPT header and partition entry array, a primary pair at the start of the disk and a
backup pair at its end). Sizes are in sectors of 512 bytes. Nothing here is random: every
GUID comes from the caller.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imagebuild.errors import BuildError, VerifyError

SECTOR = 512

#: Entries in the partition array. Section 5.3.1 asks for at least 16 KiB of array.
ENTRIES = 128
ENTRY_SIZE = 128
ARRAY_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR

#: Sectors at the start of a disk that the tables take: MBR, header, array.
FIRST_USABLE_LBA = 2 + ARRAY_SECTORS

#: Bytes of the first sector that may hold BIOS boot code (table 5-1).
BOOT_CODE_SIZE = 440

_NAME_UNITS = 36
_SIGNATURE = b"EFI PART"
_REVISION = 0x00010000
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_RECORD = struct.Struct("<B3sB3sII")


@dataclass(frozen=True)
class Partition:
    """One entry of the table. `last_lba` is the last sector of the partition itself.

    `attributes` is the 64-bit field of table 5-8.
    """

    name: str
    type_guid: uuid.UUID
    unique_guid: uuid.UUID
    first_lba: int
    last_lba: int
    attributes: int = 0

    @property
    def offset(self) -> int:
        """Where the partition starts, in bytes."""
        return self.first_lba * SECTOR

    @property
    def size(self) -> int:
        """Size of the partition in bytes."""
        return (self.last_lba - self.first_lba + 1) * SECTOR


@dataclass(frozen=True)
class _Header:
    """The fields of a GPT header that differ between the two copies, or matter to us."""

    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: uuid.UUID
    array_lba: int
    array_crc: int

    def pack(self) -> bytes:
        def body(crc: int) -> bytes:
            return _HEADER.pack(
                _SIGNATURE, _REVISION, _HEADER.size, crc, 0,
                self.my_lba, self.alternate_lba, self.first_usable, self.last_usable,
                self.disk_guid.bytes_le, self.array_lba, ENTRIES, ENTRY_SIZE, self.array_crc,
            )  # fmt: skip

        # The checksum is taken with its own field set to zero (table 5-5).
        return body(zlib.crc32(body(0))).ljust(SECTOR, b"\0")


def last_usable_lba(size: int) -> int:
    """Last sector that a partition may use on a disk of `size` bytes."""
    return size // SECTOR - 1 - ARRAY_SECTORS - 1


def write(path: Path, disk_guid: uuid.UUID, partitions: Sequence[Partition]) -> None:
    """Write the protective MBR and both copies of the table into the existing file `path`.

    The boot code area of the first sector is left as it is. Raises BuildError when the
    partitions overlap, lie outside the usable sectors or have names that do not fit.
    """
    size = path.stat().st_size
    _check(path, size, partitions)
    sectors = size // SECTOR
    array = b"".join(_pack_entry(p) for p in partitions).ljust(ENTRIES * ENTRY_SIZE, b"\0")
    crc = zlib.crc32(array)
    last = sectors - 1
    usable = last_usable_lba(size)
    primary = _Header(1, last, FIRST_USABLE_LBA, usable, disk_guid, 2, crc)
    backup = _Header(last, 1, FIRST_USABLE_LBA, usable, disk_guid, usable + 1, crc)
    with path.open("r+b") as disk:
        disk.seek(BOOT_CODE_SIZE)
        disk.write(_protective_mbr(sectors))
        disk.write(primary.pack())
        disk.write(array)
        disk.seek((usable + 1) * SECTOR)
        disk.write(array)
        disk.write(backup.pack())


def read(path: Path) -> list[Partition]:
    """The partitions of a disk image, in the order of the table.

    Both copies are read and must agree; raises VerifyError when the protective MBR is
    missing, a checksum is wrong, or the copies differ.
    """
    with path.open("rb") as disk:
        sectors = disk.seek(0, os.SEEK_END) // SECTOR
        mbr = _sector(disk, 0)
        if mbr[510:] != b"\x55\xaa" or mbr[446 + 4] != 0xEE:
            raise _bad(path, "the first sector holds no protective MBR")
        primary, entries = _read_copy(path, disk, 1)
        backup, backup_entries = _read_copy(path, disk, sectors - 1)
    if primary.alternate_lba != sectors - 1 or backup.alternate_lba != 1:
        raise _bad(path, "the two headers do not point at each other")
    if entries != backup_entries or primary.disk_guid != backup.disk_guid:
        raise _bad(path, "primary and backup table differ")
    return [_unpack_entry(e) for e in entries if e[:16] != bytes(16)]


def _check(path: Path, size: int, partitions: Sequence[Partition]) -> None:
    free_from, end = FIRST_USABLE_LBA, last_usable_lba(size)
    for part in sorted(partitions, key=lambda p: p.first_lba):
        if not free_from <= part.first_lba <= part.last_lba <= end:
            raise BuildError(
                f"partition {part.name} does not fit on the disk",
                where=str(path),
                detail=f"sectors {part.first_lba} to {part.last_lba}, "
                f"free are {free_from} to {end}",
                hint="ask for a larger disk.size",
            )
        free_from = part.last_lba + 1


def _protective_mbr(sectors: int) -> bytes:
    """The first sector from the end of the boot code on (tables 5-3 and 5-4)."""
    record = _MBR_RECORD.pack(
        0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF)
    )
    return bytes(6) + record + bytes(3 * _MBR_RECORD.size) + b"\x55\xaa"


def _pack_entry(part: Partition) -> bytes:
    name = part.name.encode("utf-16-le")
    if len(name) > 2 * _NAME_UNITS:
        raise BuildError(f"partition name {part.name!r} is longer than {_NAME_UNITS} units")
    return _ENTRY.pack(
        part.type_guid.bytes_le, part.unique_guid.bytes_le,
        part.first_lba, part.last_lba, part.attributes, name,
    )  # fmt: skip


def _unpack_entry(data: bytes) -> Partition:
    type_guid, unique_guid, first, last, attributes, name = _ENTRY.unpack(data[: _ENTRY.size])
    return Partition(
        name=name.decode("utf-16-le", errors="replace").split("\0", 1)[0],
        type_guid=uuid.UUID(bytes_le=type_guid),
        unique_guid=uuid.UUID(bytes_le=unique_guid),
        first_lba=first,
        last_lba=last,
        attributes=attributes,
    )


def _sector(disk: IO[bytes], lba: int, count: int = 1) -> bytes:
    disk.seek(lba * SECTOR)
    return disk.read(count * SECTOR).ljust(count * SECTOR, b"\0")


def _read_copy(path: Path, disk: IO[bytes], lba: int) -> tuple[_Header, list[bytes]]:
    """Header and raw entries of the copy whose header stands at `lba`, checked."""
    place = f"the GPT header in sector {lba}"
    raw = _sector(disk, lba)[: _HEADER.size]
    (signature, _rev, header_size, crc, _zero, my_lba, other, first, last,
     disk_guid, array_lba, count, entry_size, array_crc) = _HEADER.unpack(raw)  # fmt: skip
    if signature != _SIGNATURE or header_size != _HEADER.size or my_lba != lba:
        raise _bad(path, f"{place} is missing")
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:]) != crc:
        raise _bad(path, f"{place} has a wrong checksum")
    if entry_size < ENTRY_SIZE or count * entry_size > 1 << 20:
        raise _bad(path, f"{place} describes an impossible array")
    disk.seek(array_lba * SECTOR)
    array = disk.read(count * entry_size)
    if zlib.crc32(array) != array_crc:
        raise _bad(path, f"the partition array of {place} has a wrong checksum")
    header = _Header(
        my_lba, other, first, last, uuid.UUID(bytes_le=disk_guid), array_lba, array_crc
    )
    return header, [array[i : i + entry_size] for i in range(0, len(array), entry_size)]


def _bad(path: Path, why: str) -> VerifyError:
    return VerifyError("the partition table is damaged or missing", where=str(path), detail=why)
