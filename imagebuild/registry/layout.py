"""Blobs on disk, by digest, in the form of an OCI image layout (image-layout.md, version 1.0).

What is in `blobs/` was whole and right when it got there; whoever uses a blob makes sure that
it still is (`is_whole`, `read`). A blob that comes in pieces is written below `ingest/` under a
lock of its own, and renamed when its digest is right: who is killed leaves a piece that the
next run continues, and of two who want the same blob, one fetches it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from imagebuild.digest import of_file
from imagebuild.errors import PreflightError
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import DIGEST, Reference

_BLOCK = 1 << 20
#: Seconds between two looks at a lock that somebody else holds.
_PERIOD = 0.1
#: The annotation of an index.json's entry that holds a name (annotations.md).
NAME = "org.opencontainers.image.ref.name"
#: What the file `oci-layout` says (image-layout.md).
MARK = b'{"imageLayoutVersion":"1.0.0"}'


class StoppedError(Exception):
    """The thread was told to stop; nobody needs to read this."""


class DamagedError(Exception):
    """What was written does not have the digest that was promised; it is gone."""


class Ingest:
    """A blob that is coming in: `size` bytes are there. Append the rest with `write`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0
        while block := file.read(_BLOCK):
            self._sha256.update(block)
            self.size += len(block)

    def write(self, block: bytes) -> None:
        """Append bytes."""
        self._file.write(block)
        self._sha256.update(block)
        self.size += len(block)

    @property
    def digest(self) -> str:
        """Of what is there so far."""
        return f"sha256:{self._sha256.hexdigest()}"


class Layout:
    """A directory of blobs that several threads and processes may use at once.

    It is made when it is first written to; errors call it `what`. What writes raises
    PreflightError when the disk does not let it.
    """

    def __init__(self, root: Path, what: str = "the store of container layers") -> None:
        self.root = root
        self._what = what

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be. Raises ValueError for what is no digest."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is no digest")
        return self.root / "blobs" / digest.replace(":", "/")

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there, as its size says. Quick; see `is_whole`."""
        try:
            return self.path(blob.digest).stat().st_size == blob.size
        except OSError:
            return False

    def is_whole(self, blob: Descriptor) -> bool:
        """Whether the blob is there and not damaged: reads all of it."""
        try:
            return self.has(blob) and f"sha256:{of_file(self.path(blob.digest))}" == blob.digest
        except OSError:
            return False

    def read(self, digest: str) -> bytes | None:
        """A small blob; None when it is not there, or damaged."""
        try:
            data = self.path(digest).read_bytes()
        except OSError:
            return None
        return data if _digest(data) == digest else None

    def write(self, data: bytes) -> str:
        """Keep a small blob; returns its digest."""
        digest = _digest(data)
        if self.read(digest) is None:
            with self._writing():
                _replace(self.path(digest), data)
        return digest

    @contextlib.contextmanager
    def ingest(self, blob: Descriptor, stop: threading.Event) -> Iterator[Ingest | None]:
        """Bring a blob in, or go on with a piece of it that an earlier run has left.

        None when somebody else has brought it while we waited for their lock. At the end of
        the block the blob is in its place, or DamagedError says that its digest is wrong; an
        exception in the block leaves the piece for the next one. Raises StoppedError when
        `stop` is set while it waits.
        """
        piece = self.root / "ingest" / self.path(blob.digest).name
        with self._writing():
            file = _lock(piece, stop)
        # A full disk may be told as late as when the file is closed.
        with self._writing(), file:
            if self.is_whole(blob):
                piece.unlink(missing_ok=True)
                yield None
                return
            if os.fstat(file.fileno()).st_size > blob.size:
                file.truncate(0)
            ingest = Ingest(file)
            yield ingest
            file.flush()
            if ingest.digest != blob.digest:
                piece.unlink()
                raise DamagedError
            place = self.path(blob.digest)
            place.parent.mkdir(parents=True, exist_ok=True)
            piece.replace(place)

    def remember(self, reference: Reference, target: Descriptor) -> None:
        """Keep in index.json what a name stands for, in place of what it stood for."""
        self.name(str(reference), target)

    def recall(self, reference: Reference) -> Descriptor | None:
        """What a name stood for when it was last remembered; None: it never was."""
        return self.named(str(reference))

    def name(
        self, name: str, target: Descriptor, annotations: Mapping[str, str] | None = None
    ) -> None:
        """Keep in index.json what a name stands for, with annotations of its own.

        Entries are sorted by name, so that the same images make the same file.
        """
        entry = target.to_json() | {"annotations": {NAME: name} | dict(annotations or {})}
        with self._writing(), _lock(self.root / "index.lock", threading.Event()):
            others = [e for e in self._index() if _name(e) != name]
            entries = sorted([*others, entry], key=lambda e: str(_name(e)))
            index = {"schemaVersion": 2, "manifests": entries}
            _replace(self.root / "oci-layout", MARK)
            _replace(self.root / "index.json", json.dumps(index).encode())

    def named(self, name: str) -> Descriptor | None:
        """What a name of index.json stands for."""
        for entry in self._index():
            if _name(entry) == name:
                with contextlib.suppress(ValueError):
                    return Descriptor.from_json(entry)
        return None

    def _index(self) -> list[Any]:
        try:
            manifests = json.loads((self.root / "index.json").read_bytes())["manifests"]
        except (OSError, ValueError, LookupError, TypeError):
            return []
        return manifests if isinstance(manifests, list) else []

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise PreflightError(
                f"{self._what} cannot be written",
                where=str(exc.filename or self.root),
                detail=exc.strerror or str(exc),
                hint="make room on that disk"
                if exc.errno in (errno.ENOSPC, errno.EDQUOT)
                else "check who owns the directory",
            ) from exc


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _name(entry: object) -> object:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return annotations.get(NAME) if isinstance(annotations, dict) else None


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _lock(path: Path, stop: threading.Event) -> IO[bytes]:
    """Open a file for reading and writing, alone. flock: the kernel unlocks what is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while not stop.is_set():
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it may have moved the file to its place.
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except BlockingIOError:
            stop.wait(_PERIOD)
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()
    raise StoppedError
