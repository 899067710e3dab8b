"""What qemu-img makes anew in each VMDK and VHD file: replaced by what the build decides.

Both formats carry an identity, and VHD the time of its making, so two conversions of one
disk would differ. Layouts: VMware, "Virtual Disk Format 5.0" (sparse extent header,
descriptor); Microsoft, "Virtual Hard Disk Image Format Specification" (hard disk footer).
"""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
from pathlib import Path

from imagebuild.errors import BuildError

_SECTOR = 512

#: VHD counts seconds from 2000-01-01 00:00 UTC.
_VHD_EPOCH = 946_684_800


def settle_vmdk(path: Path, name: str, seed: str) -> None:
    """Give a VMDK file (one sparse extent) a content id from `seed`, and its own `name`.

    qemu-img writes the name that the file had while it was written. Raises BuildError.
    """
    with path.open("r+b") as file:
        header = file.read(_SECTOR)
        if header[:4] != b"KDMV":
            raise BuildError("this is no VMDK file with one sparse extent", where=str(path))
        offset, size = struct.unpack_from("<QQ", header, 28)
        file.seek(offset * _SECTOR)
        text = file.read(size * _SECTOR).rstrip(b"\0")
        # CID ffffffff stands for "no parent".
        cid = int.from_bytes(_digest(seed, "vmdk-cid")[:4], "big") % 0xFFFFFFFE
        text, ids = re.subn(rb"(?m)^CID=[0-9a-f]{1,8}$", b"CID=%08x" % cid, text)
        quoted = b'\\1"' + name.encode() + b'"'
        text, names = re.subn(rb'(?m)^(RW \d+ SPARSE )"[^"\n]*"', quoted, text)
        if (ids, names) != (1, 1) or len(text) > size * _SECTOR:
            raise BuildError("the descriptor of a VMDK file is not as expected", where=str(path))
        file.seek(offset * _SECTOR)
        file.write(text.ljust(size * _SECTOR, b"\0"))


def settle_vhd(path: Path, seed: str, epoch: int) -> None:
    """Give a dynamic VHD file an id from `seed`, and `epoch` (seconds) as its time.

    Raises BuildError.
    """
    with path.open("r+b") as file:
        file.seek(-_SECTOR, 2)
        footer = bytearray(file.read(_SECTOR))
        if footer[:8] != b"conectix":
            raise BuildError("this is no VHD file", where=str(path))
        struct.pack_into(">I", footer, 24, max(epoch - _VHD_EPOCH, 0))
        footer[68:84] = uuid.UUID(bytes=_digest(seed, "vhd-id")[:16], version=4).bytes
        struct.pack_into(">I", footer, 64, 0)
        struct.pack_into(">I", footer, 64, ~sum(footer) & 0xFFFFFFFF)
        file.seek(-_SECTOR, 2)
        file.write(footer)
        # A dynamic disk begins with a copy of its footer.
        file.seek(0)
        if file.read(8) == b"conectix":
            file.seek(0)
            file.write(footer)


def _digest(seed: str, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
