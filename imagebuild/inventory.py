"""What a root filesystem consists of: one entry a file, and a digest over all of them.

Written beside each image as `rootfs.jsonl.gz`, so that two builds can be compared, and
space accounted for, without opening an image. The digest covers all that ends up in the
filesystem: names, types, modes, owners, times, extended attributes, contents.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from imagebuild.digest import canonical, of_secret
from imagebuild.errors import ConfigError

_A = TypeVar("_A")
_B = TypeVar("_B")

#: Name of the file in an artifact.
FILE_NAME = "rootfs.jsonl.gz"

#: No password is longer, in bytes.
_SMALL = 1 << 16

#: So many files are one piece of work for a thread, so many bytes one read.
_BATCH = 512
_PIECE = 1 << 20

_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFCHR: "char",
    stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One name in a root filesystem.

    `path` begins with a slash; bytes that are no UTF-8 are escaped as Python's
    `surrogateescape` does, then written as `\\udcXX`. `mode` holds permission bits alone,
    `size` bytes of content, `mtime` whole seconds. `data` is the sha256 of a file (`scrypt:`
    and a digest that is slow to make, of one that its owner alone may read), the target of a
    link, `MAJOR:MINOR` of a device; `same_as` the first path of a hard link;
    `xattrs` hex values by name.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    data: str = ""
    same_as: str = ""
    xattrs: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The entry as it is stored: empty fields left out."""
        return {k: v for k, v in vars(self).items() if v not in ("", {})}


@dataclass(frozen=True)
class Summary:
    """An inventory in short: the digest of all entries, their number, bytes of files."""

    sha256: str
    entries: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """The manifest's part `rootfs`."""
        return dataclasses.asdict(self)


def walk(tree: Path) -> Iterator[Entry]:
    """Every entry of `tree`, itself first, each directory before its entries, those sorted by
    name. Links are not followed.
    """
    seen: dict[tuple[int, int], str] = {}
    top = os.fsencode(tree)
    for batch in _ahead(lambda paths: [_entry(top, p) for p in paths], _batches(_paths(top))):
        for entry, inode in batch:
            first = seen.setdefault(inode, entry.path) if inode else entry.path
            yield entry if first == entry.path else dataclasses.replace(entry, same_as=first)


def _batches(paths: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(itertools.islice(paths, _BATCH)):
        yield batch


def _ahead(function: Callable[[_A], _B], items: Iterable[_A]) -> Iterator[_B]:
    """`map` by threads, a few items ahead of the reader. What takes the time, reading and
    hashing, lets other threads run meanwhile.
    """
    threads = os.cpu_count() or 1
    running: deque[Future[_B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _paths(top: bytes) -> Iterator[bytes]:
    """Paths relative to `top` (b"" is itself), each directory before what is in it."""
    pending = [(b"", True)]
    while pending:
        relative, is_directory = pending.pop()
        yield relative
        if is_directory:
            with os.scandir(top + relative) as names:
                pending += sorted(
                    ((relative + b"/" + n.name, n.is_dir(follow_symlinks=False)) for n in names),
                    reverse=True,
                )


def _entry(top: bytes, relative: bytes) -> tuple[Entry, tuple[int, int] | None]:
    """The entry of a path, and its inode when it has more names."""
    full = top + relative
    info = os.lstat(full)
    kind = _KINDS[stat.S_IFMT(info.st_mode)]
    data = ""
    if kind == "file":
        data = _content_digest(full, info)
    elif kind == "link":
        data = os.fsdecode(os.readlink(full))  # noqa: PTH115 - bytes
    elif kind in ("char", "block"):
        data = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    entry = Entry(
        path=os.fsdecode(relative) or "/",
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size if kind == "file" else 0,
        mtime=int(info.st_mtime),
        data=data,
        xattrs=_xattrs(full),
    )
    is_linked = kind == "file" and info.st_nlink > 1
    return entry, (info.st_dev, info.st_ino) if is_linked else None


def _content_digest(full: bytes, info: os.stat_result) -> str:
    descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, _PIECE)
        # It may be a password: who has the inventory alone shall not try words quickly.
        if info.st_mode & 0o077 == 0 and 0 < info.st_size <= _SMALL:
            return f"scrypt:{of_secret(data, b'imagebuild inventory', 32)}"
        digest = hashlib.sha256(data)
        while len(data) == _PIECE:  # a file has no short reads but at its end
            data = os.read(descriptor, _PIECE)
            digest.update(data)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _xattrs(full: bytes) -> dict[str, str]:
    return {
        name: os.getxattr(full, name, follow_symlinks=False).hex()
        for name in sorted(os.listxattr(full, follow_symlinks=False))
        # The build host's labels are its own.
        if name != "security.selinux"
    }


def write(entries: Iterable[Entry], path: Path) -> Summary:
    """Write an inventory, and sum it up. The same entries give the same bytes."""
    digest = hashlib.sha256()
    count = total = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for entry in entries:
            written = line(entry)
            digest.update(written)
            file.write(written)
            count += 1
            total += entry.size if not entry.same_as else 0
    return Summary(digest.hexdigest(), count, total)


def line(entry: Entry) -> bytes:
    """An entry as a line of the file. The digest of a Summary is the sha256 of all lines."""
    try:
        return canonical(entry.to_json()) + b"\n"
    except UnicodeEncodeError:  # a name that is no UTF-8
        text = json.dumps(entry.to_json(), sort_keys=True, separators=(",", ":"))
        return text.encode() + b"\n"


def read(path: Path) -> list[Entry]:
    """The entries of a stored inventory. Raises ConfigError when it is damaged or not there."""
    try:
        with gzip.open(path, "rb") as file:
            return [Entry(**json.loads(line)) for line in file]
    except (OSError, EOFError, ValueError, TypeError) as exc:
        raise ConfigError(
            "cannot read the inventory of a root filesystem",
            where=str(path),
            detail=str(exc),
            hint="artifacts of older versions have none: build anew",
        ) from exc


def clamp_times(tree: Path, epoch: int) -> int:
    """Move modification times after `epoch` (seconds) back to it; returns how many.

    What a build writes would carry the build's own time. Packages' files are older than the
    archive's Release file, from which the epoch comes, and stay as they are.
    """
    changed = 0
    for relative in _paths(os.fsencode(tree)):
        full = os.fsencode(tree) + relative
        if os.lstat(full).st_mtime > epoch:
            os.utime(full, (epoch, epoch), follow_symlinks=False)
            changed += 1
    return changed
