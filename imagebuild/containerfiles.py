"""The few files of a container image that say what is in it, read from its layers as they are.

Nothing is unpacked and no right is needed. Layers are applied as the OCI image specification
says (layer.md): later ones replace and remove what earlier ones brought.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import need, spawn

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
#: No file that lists packages is larger, in bytes.
_LARGEST = 256 << 20
_ZSTD = bytes.fromhex("28b52ffd")


def read(layers: Sequence[Path], wanted: re.Pattern[str]) -> dict[str, bytes]:
    """`{path: content}` of the image's regular files whose path matches `wanted` as a whole.

    Paths have no slash at the beginning; `layers` are tar archives, plain or compressed, the
    lowest first. Raises BuildError for a layer that is damaged.
    """
    found: dict[str, bytes] = {}
    for layer in layers:
        try:
            with _open(layer) as archive:
                _apply(archive, wanted, found)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as exc:
            raise BuildError(
                "cannot read a container's layer", where=str(layer), detail=str(exc)
            ) from exc
    return found


@contextmanager
def _open(layer: Path) -> Iterator[tarfile.TarFile]:
    """A layer as a stream of entries."""
    with layer.open("rb") as file:
        magic = file.read(4)
    if magic != _ZSTD:
        # tarfile finds out gzip, bzip2 and xz by itself.
        with tarfile.open(layer, "r|*") as archive:
            yield archive
        return
    process = spawn(
        [need("zstd"), "-dc", "--", layer], stdout=subprocess.PIPE, die_with_parent=True
    )
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        yield archive
        if process.stdout:
            while process.stdout.read(1 << 20):
                pass  # so that it does not end by a signal
    if process.returncode:
        raise OSError(f"zstd ended with status {process.returncode}")


def _apply(archive: tarfile.TarFile, wanted: re.Pattern[str], found: dict[str, bytes]) -> None:
    below = set(found)  # what earlier layers brought: whiteouts are about nothing else
    directories = {d for path in found for d in _parents(path)}
    for entry in archive:
        path = posixpath.normpath(posixpath.join("/", entry.name)).lstrip("/")
        directory, name = posixpath.split(path)
        if name == _OPAQUE:
            _remove(found, below, directory, itself=False)
        elif name.startswith(_WHITEOUT):
            _remove(found, below, posixpath.join(directory, name[len(_WHITEOUT) :]))
        elif not entry.isdir():
            if path in directories:
                _remove(found, below, path)
            found.pop(path, None)
            below.discard(path)
            if not wanted.fullmatch(path):
                continue
            if entry.islnk():
                target = posixpath.normpath(posixpath.join("/", entry.linkname)).lstrip("/")
                if target in found:
                    found[path] = found[target]
            elif entry.isfile() and entry.size <= _LARGEST and (file := archive.extractfile(entry)):
                found[path] = file.read()


def _parents(path: str) -> Iterator[str]:
    """The directories that a path is in."""
    while path := posixpath.dirname(path):
        yield path


def _remove(found: dict[str, bytes], below: set[str], path: str, *, itself: bool = True) -> None:
    prefix = f"{path}/" if path else ""
    for name in [n for n in below if n.startswith(prefix) or (itself and n == path)]:
        below.discard(name)
        found.pop(name, None)
