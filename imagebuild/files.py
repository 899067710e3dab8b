"""Files that people name: read when they are files, refused when reading them could block.

Opening a named pipe waits for a writer, reading a device may never end. What is read here
is an ordinary file, or a pipe that the caller's shell has opened for us.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

KIB = 1024
MIB = KIB**2

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: Where Linux shows an open pipe that has no name: /dev/stdin, /dev/fd/63 (`<(command)`).
_OPEN_PIPE = re.compile(r"/proc/[0-9]+/fd/pipe:\[[0-9]+\]")
_DESCRIPTOR = re.compile(r"/dev/stdin|/dev/fd/[0-9]+|/proc/(self|[0-9]+)/fd/[0-9]+")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError; EINVAL for another kind of file."""
    # First without opening it: a device may do something when it is opened.
    _check(path.stat(), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(info: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        text = f"it is {_KINDS.get(kind, 'something else')}, not a regular file"
        raise OSError(errno.EINVAL, text, str(path))


def is_descriptor(path: Path) -> bool:
    """Whether the path names a file that is open already, by its descriptor."""
    return _DESCRIPTOR.fullmatch(os.path.normpath(path)) is not None


def is_open_pipe(path: Path) -> bool:
    """Whether the path leads to a pipe without a name, as /dev/stdin or /dev/fd/N may."""
    return _OPEN_PIPE.fullmatch(os.path.realpath(path)) is not None


def read_limited(path: Path, limit: int, *, pipe: bool = False) -> bytes:
    """The content of a regular file of at most `limit` bytes; with `pipe` also of an open pipe.

    Raises OSError; EFBIG when there is more.
    """
    with path.open("rb") if pipe and is_open_pipe(path) else open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit // KIB} KiB", str(path))
    return data


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but False, not an error, for a path that cannot be looked at."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's raises for a name that is too long


def is_directory(path: Path) -> bool:
    """Like `Path.is_dir`, but False, not an error, for a path that cannot be looked at."""
    return os.path.isdir(path)  # noqa: PTH112
