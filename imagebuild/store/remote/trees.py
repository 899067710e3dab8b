"""Root's side: a tree into a stream of its files' contents, and back.

The inventory of a tree says all of it but the bytes: names, kinds, owners, modes, times,
attributes, links. The stream holds those alone: each file with something in it, once, in the
inventory's order. There is nothing in a stream that could name a path, make a device or set
a mode, and it ends where the inventory says.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from imagebuild.errors import BuildError
from imagebuild.inventory import Entry
from imagebuild.store.objects import INVENTORY, TREE
from imagebuild.store.remote.stream import BLOCK, DamagedError, Source, packing, unpacking

#: No line of an inventory is longer: a path of 4 KiB, attributes of 64 KiB in hex.
_LONGEST_LINE = 1 << 20
#: Of all lines, and of a gzip file that is read into nothing.
_MOST_LINES = 10_000_000
#: Devices that a guest's tree has (devices.txt): memory's harmless ones, terminals. 0:0 is a
#: layer's whiteout. No other is made here: a disk's would be this machine's.
_DEVICES = frozenset({"0:0", "1:3", "1:5", "1:7", "1:8", "1:9", "1:11", "5:0", "5:1", "5:2"})
_NODES = {"char": stat.S_IFCHR, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
_KINDS = frozenset({"file", "dir", "link", *_NODES})
_TEXTS = ("path", "kind", "data", "same_as")
_NUMBERS = {"mode": 0o7777, "uid": 2**32 - 2, "gid": 2**32 - 2, "size": 1 << 60, "mtime": 1 << 40}


def pack(directory: Path, out: Path, owner: tuple[int, int]) -> None:
    """Write the stream of an object's tree into the new file `out`, which nobody but `owner` may
    read. Raises BuildError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(out, flags, 0o600)
    try:
        os.fchown(descriptor, *owner)
        with packing(descriptor) as stream:
            for entry in entries(directory / INVENTORY):
                if entry.kind == "file" and entry.size and not entry.same_as:
                    _send(directory / TREE, entry, stream)
    except DamagedError as exc:
        raise BuildError(
            "an object of the store cannot be packed", where=str(directory), detail=str(exc)
        ) from None
    finally:
        os.close(descriptor)


def _send(tree: Path, entry: Entry, stream: IO[bytes]) -> None:
    path = _inside(tree, entry.path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        left = entry.size
        while left and (block := file.read(min(left, BLOCK))):
            stream.write(block)
            left -= len(block)
        if left or file.read(1):
            raise DamagedError(f"{TREE}{entry.path} has changed")


def unpack(blob: Path, directory: Path) -> None:
    """Make `tree` in an object's directory, of the stream in `blob` and the inventory in it.

    What it then holds is to be compared with the inventory: of the bytes, only the number is
    checked here. Raises DamagedError; what has been made by then stays.
    """
    tree = directory / TREE
    with unpacking(blob) as source:
        maker = _Maker(tree, source)
        for entry in entries(directory / INVENTORY):
            maker.make(entry)
        maker.finish()


def entries(path: Path) -> Iterator[Entry]:
    """The entries of an inventory that somebody else may have written. Raises DamagedError.

    A directory comes before what is in it, and no path twice.
    """
    directories: set[str] = set()
    others: set[str] = set()
    files: set[str] = set()
    try:
        with gzip.open(path, "rb") as file:
            for number in range(_MOST_LINES):
                line = file.readline(_LONGEST_LINE)
                if not line:
                    break
                if not line.endswith(b"\n"):
                    raise DamagedError("a line of the inventory has no end")
                entry = _entry(line)
                _check_place(entry, directories, others, is_first=number == 0)
                if entry.same_as and entry.same_as not in files:
                    raise DamagedError(f"{_shown(entry.path)} is a link to what is not there")
                (directories if entry.kind == "dir" else others).add(entry.path)
                if entry.kind == "file" and not entry.same_as:
                    files.add(entry.path)
                yield entry
            else:
                raise DamagedError("the inventory has too many lines")
    except (OSError, EOFError) as exc:
        if isinstance(exc, OSError) and exc.errno:
            raise
        raise DamagedError(f"the inventory cannot be read: {exc}") from None
    if not directories:
        raise DamagedError("the inventory is empty")


def _entry(line: bytes) -> Entry:
    try:
        entry = Entry(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as exc:
        raise DamagedError(f"a line of the inventory cannot be read: {exc}"[:300]) from None
    known = dataclasses.asdict(entry)
    for name in _TEXTS:
        if not isinstance(known[name], str):
            raise DamagedError(f"the inventory has no {name} where there should be one")
        _bytes(known[name])
    for name, most in _NUMBERS.items():
        value = known[name]
        if type(value) is not int or not (-most if name == "mtime" else 0) <= value <= most:
            raise DamagedError(f"{_shown(entry.path)}: its {name} is {str(value)[:50]}")
    if entry.kind not in _KINDS or (entry.kind == "char" and entry.data not in _DEVICES):
        what = f"a {entry.kind} {entry.data}".rstrip()
        raise DamagedError(f"{_shown(entry.path)} is {what}, which no guest's tree has")
    if (entry.same_as or entry.size) and entry.kind != "file":
        raise DamagedError(f"{_shown(entry.path)} is no file")
    if entry.kind == "link" and not entry.data:
        raise DamagedError(f"{_shown(entry.path)} leads nowhere")
    _attributes(entry)
    return entry


def _check_place(entry: Entry, directories: set[str], others: set[str], *, is_first: bool) -> None:
    """That a path lies below directories of the tree, never behind a link, and is new."""
    path = entry.path
    if is_first:
        if (path, entry.kind) != ("/", "dir"):
            raise DamagedError("the inventory does not begin with the directory /")
        return
    parent, slash, name = path.rpartition("/")
    is_name = slash and name not in ("", ".", "..") and len(_bytes(name)) <= 255
    if not is_name or (parent or "/") not in directories:
        raise DamagedError(f"{_shown(path)} is no path below a directory of the tree")
    if path in directories or path in others:
        raise DamagedError(f"{_shown(path)} is there twice")


def _attributes(entry: Entry) -> dict[str, bytes]:
    attributes = cast("dict[Any, Any]", entry.xattrs)
    try:
        found = {_bytes(name).decode("ascii"): bytes.fromhex(v) for name, v in attributes.items()}
    except (AttributeError, TypeError, ValueError):
        raise DamagedError(f"{_shown(entry.path)}: its attributes cannot be read") from None
    return found


def _bytes(text: str) -> bytes:
    """A name as the kernel takes it."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise DamagedError("a name in the inventory is none") from None
    if b"\0" in encoded:
        raise DamagedError("a name in the inventory is none")
    return encoded


def _shown(path: object) -> str:
    return f"{TREE}{str(path)[:200]!a}"


def _inside(tree: Path, path: str) -> bytes:
    return os.fsencode(tree) + (b"" if path == "/" else os.fsencode(path))


class _Maker:
    """Makes the entries of a tree, each where there was nothing."""

    def __init__(self, tree: Path, source: Source) -> None:
        self._tree = tree
        self._source = source
        self._directories: list[Entry] = []

    def make(self, entry: Entry) -> None:
        """Make an entry. Raises OSError."""
        path = _inside(self._tree, entry.path)
        if entry.kind == "dir":
            os.mkdir(path, 0o700)  # noqa: PTH102 - bytes
            self._directories.append(entry)
            return
        if entry.same_as:
            os.link(_inside(self._tree, entry.same_as), path, follow_symlinks=False)
            return
        if entry.kind == "file":
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                self._source.copy(descriptor, entry.size)
            finally:
                os.close(descriptor)
        elif entry.kind == "link":
            os.symlink(os.fsencode(entry.data), path)  # noqa: PTH211 - bytes
        else:
            major, _, minor = (entry.data or "0:0").partition(":")
            os.mknod(path, _NODES[entry.kind] | 0o600, os.makedev(int(major), int(minor)))
        _describe(path, entry)

    def finish(self) -> None:
        """What is made in a directory changes its time, and its mode might forbid it."""
        for entry in reversed(self._directories):
            _describe(_inside(self._tree, entry.path), entry)


def _describe(path: bytes, entry: Entry) -> None:
    # In this order: a new owner takes setuid bits and capabilities away.
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind != "link":
        os.chmod(path, entry.mode)  # noqa: PTH101 - bytes
    for name, value in _attributes(entry).items():
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
