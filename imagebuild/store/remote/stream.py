"""Compressed streams (zstd, RFC 8878), and files with holes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imagebuild.errors import BuildError
from imagebuild.host.run import need, spawn

BLOCK = 1 << 20
#: What is left out of a file when it is all zeros: the block of the filesystems in question.
_HOLE = 4096
_ZEROS = bytes(_HOLE)
#: Level 3 is as fast here as level 1, and smaller. The same bytes give the same stream.
_LEVEL = "-3"


class DamagedError(Exception):
    """What has come is not what was promised; the text says how."""


class Source:
    """The plain bytes of a stream, no more of them than are asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def copy(self, descriptor: int, size: int) -> None:
        """Write the next `size` bytes to the start of a new file; zeros become holes.

        Raises DamagedError when there are fewer.
        """
        at = 0
        while at < size:
            block = self._file.read(min(BLOCK, size - at))
            if not block:
                raise DamagedError("the stream is shorter than what it should hold")
            _write_sparse(descriptor, block, at)
            at += len(block)
        os.ftruncate(descriptor, size)

    def is_at_end(self) -> bool:
        """Whether there is nothing more."""
        return not self._file.read(1)


def _write_sparse(descriptor: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    start: int | None = None
    for here in range(0, len(block), _HOLE):
        is_empty = view[here : here + _HOLE] == _ZEROS[: len(block) - here]
        if is_empty and start is not None:
            _write(descriptor, view[start:here], at + start)
            start = None
        elif not is_empty and start is None:
            start = here
    if start is not None:
        _write(descriptor, view[start:], at + start)


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


@contextmanager
def packing(out: int) -> Iterator[IO[bytes]]:
    """Where to write what shall be compressed into the open file `out`. Raises BuildError."""
    process = spawn(
        [need("zstd"), "-q", _LEVEL, "-T0", "-c"],
        stdin=subprocess.PIPE,
        stdout=os.dup(out),
        stderr=subprocess.PIPE,
        die_with_parent=True,
    )
    with process, _ending(process):
        assert process.stdin is not None  # noqa: S101
        yield process.stdin
        process.stdin.close()
        if words := _failure(process):
            raise BuildError("an object of the store cannot be packed", detail=words)


@contextmanager
def unpacking(blob: Path) -> Iterator[Source]:
    """The content of a compressed file. Raises DamagedError when there is more than was read,
    or it is no such file.
    """
    descriptor = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # No frame may want more than zstd's usual window, 128 MiB of memory.
        process = spawn(
            [need("zstd"), "-q", "-d", "-c", "--memory=128MB"],
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            die_with_parent=True,
        )
    finally:
        os.close(descriptor)
    with process, _ending(process):
        assert process.stdout is not None  # noqa: S101
        source = Source(process.stdout)
        try:
            yield source
            if not source.is_at_end():
                raise DamagedError("the stream is longer than what it should hold")
        except DamagedError as exc:
            process.stdout.close()
            words = _failure(process)
            raise DamagedError(f"{exc}: {words}" if words else str(exc)) from None
        if words := _failure(process):
            raise DamagedError(words)


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """What is cut off ends its program, too."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _failure(process: subprocess.Popen[bytes]) -> str:
    """What a program that failed said, by itself and not since we ended it; "" when it did not."""
    assert process.stderr is not None  # noqa: S101
    words = process.stderr.read(4096).decode(errors="replace").strip()
    status = process.wait()
    return words or f"zstd ended with status {status}" if status > 0 else ""
