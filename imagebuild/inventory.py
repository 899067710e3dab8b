"""What a root filesystem consists of: one entry a file, and a digest over all of them.

Written beside each image as `rootfs.jsonl.gz`, so that two builds can be compared, and
space accounted for, without opening an image. The digest covers all that ends up in the
filesystem: names, types, modes, owners, times, extended attributes, contents.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.digest import canonical, of_file, of_secret
from imagebuild.errors import ConfigError

#: Name of the file in an artifact.
FILE_NAME = "rootfs.jsonl.gz"

#: No password is longer, in bytes.
_SMALL = 1 << 16

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
        return {k: v for k, v in dataclasses.asdict(self).items() if v not in ("", {})}


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
    for path in _paths(os.fsencode(tree)):
        yield _entry(tree, path, seen)


def _paths(top: bytes) -> Iterator[bytes]:
    """Paths relative to `top` (b"" is itself), each directory before what is in it."""
    pending = [b""]
    while pending:
        relative = pending.pop()
        yield relative
        full = top + relative
        if stat.S_ISDIR(os.lstat(full).st_mode):
            with os.scandir(full) as names:
                pending += sorted((relative + b"/" + n.name for n in names), reverse=True)


def _entry(tree: Path, relative: bytes, seen: dict[tuple[int, int], str]) -> Entry:
    full = os.fsencode(tree) + relative
    info = os.lstat(full)
    path = os.fsdecode(relative) or "/"
    kind = _KINDS[stat.S_IFMT(info.st_mode)]
    data = same_as = ""
    if kind == "file":
        if info.st_nlink > 1:
            same_as = seen.setdefault((info.st_dev, info.st_ino), path)
        data = _content_digest(Path(os.fsdecode(full)), info)
    elif kind == "link":
        data = os.fsdecode(os.readlink(full))  # noqa: PTH115 - bytes
    elif kind in ("char", "block"):
        data = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size if kind == "file" else 0,
        mtime=int(info.st_mtime),
        data=data,
        same_as="" if same_as == path else same_as,
        xattrs=_xattrs(full),
    )


def _content_digest(path: Path, info: os.stat_result) -> str:
    # It may be a password: who has the inventory alone shall not try words quickly.
    if info.st_mode & 0o077 == 0 and 0 < info.st_size <= _SMALL:
        return f"scrypt:{of_secret(path.read_bytes(), b'imagebuild inventory', 32)}"
    return of_file(path)


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
            text = line(entry)
            digest.update(text)
            file.write(text)
            count += 1
            total += entry.size if not entry.same_as else 0
    return Summary(digest.hexdigest(), count, total)


def line(entry: Entry) -> bytes:
    """An entry as it is stored."""
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
