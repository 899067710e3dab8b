"""Names of the files in an initramfs: cpio archives, one behind the other, mostly compressed.

The form is the kernel's (Documentation/driver-api/early-userspace/buffer-format.rst):
archives of kind "newc", with zeros between them; each may be compressed by itself. Zstandard,
LZ4 and LZO are unpacked by the host's programs.
"""

from __future__ import annotations

import bz2
import lzma
import subprocess
import tempfile
import zlib
from collections.abc import Iterator

from imagebuild.host.run import need, spawn

#: More than this is not unpacked: what a damaged or hostile file claims must not fill memory.
MOST_BYTES = 512 << 20
_MAGICS = (b"070701", b"070702")
_HEADER = 110
_TRAILER = "TRAILER!!!"
#: First bytes: program and package that unpacks it.
_PROGRAMS = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd"),
    b"\x02\x21\x4c\x18": ("lz4", "lz4"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4"),
    b"\x89LZO": ("lzop", "lzop"),
}


def names(data: bytes) -> set[str]:
    """Paths in all archives of an initramfs, without a leading `/` or `./`.

    Raises PreflightError when a program is missing that unpacks it, BuildError when that
    program fails, ValueError when it is no initramfs.
    """
    found: set[str] = set()
    at = 0
    while True:
        while data[at : at + 4] == bytes(4):
            at += 4
        if at >= len(data):
            return found
        if data[at : at + 6] in _MAGICS:
            at = _archive(data, at, found)
            continue
        unpacked = _unpack(data[at:])
        if unpacked[:6] not in _MAGICS:
            raise ValueError("what is compressed is no cpio archive")
        inner = 0
        while inner < len(unpacked):
            while unpacked[inner : inner + 4] == bytes(4):
                inner += 4
            if unpacked[inner : inner + 6] not in _MAGICS:
                break
            inner = _archive(unpacked, inner, found)
        return found


def _archive(data: bytes, at: int, found: set[str]) -> int:
    """Add the names of the archive at `at`; returns where it ends."""
    for name, following in _members(data, at):
        at = following
        if name == _TRAILER:
            return at
        found.add(name.removeprefix("./").lstrip("/"))
    raise ValueError("a cpio archive has no end")


def _members(data: bytes, at: int) -> Iterator[tuple[str, int]]:
    """Name of each member, and where the next one begins."""
    while data[at : at + 6] in _MAGICS:
        fields = data[at + 6 : at + _HEADER]
        size, length = int(fields[48:56], 16), int(fields[88:96], 16)
        start = at + _HEADER
        if not 0 < length <= 4096 or size < 0 or start + length > len(data):
            raise ValueError("a cpio archive is damaged")
        name = data[start : start + length - 1].decode(errors="surrogateescape")
        at = _aligned(_aligned(start + length) + size)
        if at > len(data) + 3:
            raise ValueError("a cpio archive ends too early")
        yield name, at


def _aligned(at: int) -> int:
    return at + 3 & ~3


def _unpack(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return _bounded(zlib.decompressobj(31).decompress(data, MOST_BYTES))
    if data[:6] == b"\xfd7zXZ\0" or data[:3] == b"\x5d\0\0":
        try:
            return _bounded(lzma.LZMADecompressor().decompress(data, MOST_BYTES))
        except lzma.LZMAError as exc:
            raise ValueError(f"it cannot be unpacked: {exc}") from exc
    if data[:3] == b"BZh":
        try:
            return _bounded(bz2.BZ2Decompressor().decompress(data, MOST_BYTES))
        except OSError as exc:
            raise ValueError(f"it cannot be unpacked: {exc}") from exc
    for magic, (tool, package) in _PROGRAMS.items():
        if data.startswith(magic):
            # Zeros may stand behind the last frame: the program complains of them, after it
            # has unpacked all.
            unpacked = _by_program(need(tool, package), data)
            if not unpacked:
                raise ValueError(f"{tool} cannot unpack it")
            return _bounded(unpacked)
    raise ValueError(f"it is of no known kind: it begins with {data[:6].hex()}")


def _by_program(tool: str, data: bytes) -> bytes:
    """What the program makes of it, up to MOST_BYTES; nothing more is taken into memory."""
    with tempfile.TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        process = spawn(
            [tool, "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            die_with_parent=True,
        )  # fmt: skip
        with process:
            found = process.stdout.read(MOST_BYTES) if process.stdout else b""
            process.kill()
    return found


def _bounded(data: bytes) -> bytes:
    if len(data) >= MOST_BYTES:
        raise ValueError(f"it holds more than {MOST_BYTES >> 20} MiB")
    return data
