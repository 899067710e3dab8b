"""What the superblock of an ext4 says of the filesystem as a whole.

Offsets and bits: Documentation/filesystems/ext4/super.rst of the kernel.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from imagebuild.verify.ext4 import Ext4

_COMPAT = {0x1000: "orphan_file"}
_INCOMPAT = {0x2000: "metadata_csum_seed", 0x4000: "large_dir", 0x10000: "encrypt",
             0x20000: "casefold"}  # fmt: skip
_RO_COMPAT = {0x8000: "verity", 0x10000: "orphan_present"}


@dataclass(frozen=True)
class Superblock:
    """Label, UUID, what is free (blocks of `block_size` bytes), features younger than Linux 4.4."""

    label: str
    uuid: str
    block_size: int
    blocks: int
    free_blocks: int
    inodes: int
    free_inodes: int
    young_features: tuple[str, ...]


def read_superblock(fs: Ext4) -> Superblock:
    """The superblock of an open filesystem. Raises VerifyError."""
    data = fs.bytes_at(1024, 1024)
    (inodes,) = struct.unpack_from("<I", data, 0x0)
    free_low, free_inodes = struct.unpack_from("<II", data, 0xC)
    compat, incompat, ro_compat = struct.unpack_from("<III", data, 0x5C)
    high = struct.unpack_from("<I", data, 0x158)[0] if incompat & 0x80 else 0
    pairs = ((compat, _COMPAT), (incompat, _INCOMPAT), (ro_compat, _RO_COMPAT))
    return Superblock(
        label=data[0x78:0x88].split(b"\0")[0].decode(errors="replace"),
        uuid=str(uuid.UUID(bytes=data[0x68:0x78])),
        block_size=fs.block_size,
        blocks=fs.blocks,
        free_blocks=free_low | high << 32,
        inodes=inodes,
        free_inodes=free_inodes,
        young_features=tuple(n for bits, names in pairs for b, n in names.items() if bits & b),
    )
