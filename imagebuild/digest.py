"""Digests over values and trees: what makes a content id a content id."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from imagebuild.files import open_regular

_PIECE = 1 << 20
_ZEROS = bytes(_PIECE)


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The one JSON form of a value: sorted keys, no spaces, UTF-8.

    A byte of a file name that is no UTF-8, which Python holds as a lone surrogate, counts.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def of_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """sha256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def of_bytes(data: bytes) -> str:
    """sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def of_secret(data: bytes, salt: bytes, length: int) -> str:
    """A digest (hex, `length` bytes) that is slow to make: 16 MiB of memory, some 50 ms.

    It may stand where a password must not: who has it alone cannot try words quickly
    (scrypt, RFC 7914).
    """
    return hashlib.scrypt(data, salt=salt, n=1 << 14, r=8, p=1, dklen=length).hex()


def of_file(path: Path) -> str:
    """sha256 (hex) of a regular file's content, read in pieces; holes are not read.

    Raises OSError.
    """
    return digests_of_file(path, "sha256")["sha256"]


def digests_of_file(path: Path, *algorithms: str) -> dict[str, str]:
    """Several digests (hex) of a file's content, by hashlib's names, from one reading."""
    digests = {name: hashlib.new(name) for name in algorithms}

    def update(block: bytes) -> None:
        for digest in digests.values():
            digest.update(block)

    with open_regular(path) as file:
        for start, end in _data(file.fileno()):
            file.seek(start)
            while start < end and (block := file.read(min(end - start, _PIECE))):
                update(block)
                start += len(block)
            hole = _next_data(file.fileno(), end) - end
            for _ in range(hole // _PIECE):
                update(_ZEROS)
            update(_ZEROS[: hole % _PIECE])
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where there is data in a file, from 0 on: a hole at its start is an empty piece."""
    if (start := _next_data(descriptor, 0)) > 0:
        yield 0, 0
    size = os.fstat(descriptor).st_size
    while start < size:
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
        start = _next_data(descriptor, end)


def _next_data(descriptor: int, offset: int) -> int:
    """The next offset with data (lseek(2), SEEK_DATA); the file's size when none follows."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return os.fstat(descriptor).st_size
        raise


def of_directory(directory: Path) -> str:
    """sha256 (hex) over the relative path, type, mode and content of everything below.

    Python's byte code is left out: it comes and goes by itself. Times and owners do not
    count: they do not survive a checkout. Raises OSError for what cannot be read, and for
    what is neither file, directory nor link.
    """
    digest = hashlib.sha256()
    for path in sorted(_below(directory)):
        relative = path.relative_to(directory)
        if "__pycache__" in relative.parts or path.suffix == ".pyc":
            continue
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            entry = ["link", str(relative), str(path.readlink())]
        elif stat.S_ISDIR(info.st_mode):
            entry = ["dir", str(relative), ""]
        else:
            # A checkout keeps the executable bit and no other.
            kind = "exec" if info.st_mode & stat.S_IXUSR else "file"
            entry = [kind, str(relative), of_file(path)]
        digest.update(canonical(entry) + b"\n")
    return digest.hexdigest()


def _below(directory: Path) -> Iterator[Path]:
    # Not rglob, which passes over a directory that may not be read: what it hides would
    # get into a build without a trace in its id.
    for here, directories, files in os.walk(directory, onerror=_raise):
        yield from (Path(here, name) for name in (*directories, *files))


def _raise(error: OSError) -> NoReturn:
    raise error
