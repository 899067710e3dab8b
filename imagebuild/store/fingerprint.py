"""Digests of an object's parts: of files, fast, and of what the kernel says of a tree."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imagebuild.files import open_regular

_BLOCK = 1 << 20
#: So many blocks are one piece of work for a thread.
_PIECE = 16
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def of_file(path: Path) -> str:
    """A digest (hex) of a file's content: the sha256 of the sha256 of each MiB of it.

    Unlike sha256 it is made by all processors at once, and a hole costs nothing; content
    alone counts, not where the holes are. Raises OSError.
    """
    with open_regular(path) as file, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        whole = hashlib.sha256()
        for piece in pool.map(
            lambda start: _piece(descriptor, start, size), range(0, size, _BLOCK * _PIECE)
        ):
            whole.update(piece)
    return whole.hexdigest()


_ZERO = hashlib.sha256(bytes(_BLOCK)).digest()


def _piece(descriptor: int, start: int, size: int) -> bytes:
    digests = []
    room = memoryview(bytearray(_BLOCK))  # made once: fresh memory costs as much as the hashing
    for at in range(start, min(start + _BLOCK * _PIECE, size), _BLOCK):
        length = min(_BLOCK, size - at)
        if length == _BLOCK and _is_hole(descriptor, at):
            digests.append(_ZERO)
            continue
        got = 0
        while got < length and (count := os.preadv(descriptor, [room[got:length]], at + got)):
            got += count
        digests.append(hashlib.sha256(room[:got]).digest())
    return b"".join(digests)


def _is_hole(descriptor: int, at: int) -> bool:
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA) >= at + _BLOCK
    except OSError as exc:
        return exc.errno == errno.ENXIO  # no data to the end


@dataclass(frozen=True)
class Stats:
    """What a look at all entries of a tree says.

    `digest` changes with every write to any file of the tree: none can leave its ctime
    alone. `newest` is the newest ctime, in ns; `allocated` the bytes on disk, hard links once:
    they may still change when the kernel writes what it holds back.
    """

    digest: str
    newest: int
    allocated: int


def of_tree(tree: Path) -> Stats:
    """Look at all entries of a tree, without reading a file. Raises OSError."""
    digest = hashlib.sha256()
    newest = blocks = 0
    links: set[tuple[int, int]] = set()
    for name, s in _entries(os.fsencode(tree)):
        digest.update(
            b"%b\0%o %d %d %d %d %d %d %d\n" % (
                name, s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_ctime_ns,
                s.st_ino, s.st_rdev,
            )
        )  # fmt: skip
        newest = max(newest, s.st_ctime_ns)
        if s.st_nlink > 1 and not stat.S_ISDIR(s.st_mode):
            inode = (s.st_dev, s.st_ino)
            if inode in links:
                continue
            links.add(inode)
        blocks += s.st_blocks
    return Stats(digest.hexdigest(), newest, blocks * 512)


def _entries(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Paths and what lstat(2) says of them; the entries of each directory sorted by name."""
    yield b"", os.lstat(top)
    pending = [top]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as names:
            found = sorted((n.name, n) for n in names)
        for name, entry in found:
            yield name, (info := entry.stat(follow_symlinks=False))
            if stat.S_ISDIR(info.st_mode):
                pending.append(directory + b"/" + name)


def boot_id() -> str:
    """The id of the kernel's boot (proc(5)): what was written before may have been lost with it."""
    return _BOOT_ID.read_text().strip()
