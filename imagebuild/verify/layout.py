"""Where the partitions of a disk are, and which of them is the root filesystem.

Our own images have a GPT with the root last; those of others may have a table of the older
kind (an MBR), the root in another place, or no table at all.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuild.stages import disk, gpt
from imagebuild.stages.gpt import SECTOR, Partition
from imagebuild.verify.ext4 import UnsupportedError

_NO_GUID = uuid.UUID(int=0)
_EXT_MAGIC = b"\x53\xef"
_EXT_MAGIC_AT = 1024 + 0x38


@dataclass(frozen=True)
class Layout:
    """`kind` is "gpt", "mbr" or "none" (a filesystem without a table).

    The partitions of an MBR have zeros in place of GUIDs.
    """

    kind: str
    partitions: tuple[Partition, ...]
    root: Partition

    def of_type(self, guid: uuid.UUID) -> Partition | None:
        """The first partition of that type."""
        return next((p for p in self.partitions if p.type_guid == guid), None)


def read_layout(raw: Path) -> Layout:
    """The layout of a raw disk image.

    The root is the partition whose type says so (Discoverable Partitions Specification),
    else the largest with an ext filesystem. Raises VerifyError when the table is damaged,
    UnsupportedError when no partition can be the root.
    """
    with raw.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        first = file.read(2 * SECTOR)
    if _is_ext(raw, 0):
        whole = Partition("", _NO_GUID, _NO_GUID, 0, max(size // SECTOR - 1, 0))
        return Layout("none", (whole,), whole)
    is_mbr = first[510:512] == b"\x55\xaa" and first[512:520] != b"EFI PART"
    if is_mbr and first[446 + 4] not in (0, 0xEE):
        kind, partitions = "mbr", _mbr(first)
    else:
        kind, partitions = "gpt", gpt.read(raw)
    return Layout(kind, tuple(partitions), _root(raw, partitions))


def _mbr(first: bytes) -> list[Partition]:
    found = []
    for at in range(446, 510, 16):
        kind, start, count = first[at + 4], *struct.unpack_from("<II", first, at + 8)
        if kind and count:
            found.append(Partition("", _NO_GUID, _NO_GUID, start, start + count - 1))
    return found


def _root(raw: Path, partitions: Sequence[Partition]) -> Partition:
    named = [p for p in partitions if p.type_guid in disk.TYPE_ROOT.values()]
    found = named or [p for p in partitions if _is_ext(raw, p.offset)]
    if not found:
        raise UnsupportedError(
            "the disk has no root filesystem", where=str(raw),
            detail="no partition has the type of one, or holds an ext filesystem",
        )  # fmt: skip
    return max(found, key=lambda p: p.size)


def _is_ext(raw: Path, offset: int) -> bool:
    with raw.open("rb") as file:
        file.seek(offset + _EXT_MAGIC_AT)
        return file.read(2) == _EXT_MAGIC
