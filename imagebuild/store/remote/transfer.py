"""One object of the store to the remote, or back."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.digest import of_bytes, of_file
from imagebuild.errors import BuildError, ConfigError, TemporaryError
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference
from imagebuild.store import objects
from imagebuild.store.objects import DOCUMENT, TREE, Key, Object
from imagebuild.store.remote import form
from imagebuild.store.remote.form import Parcel, Part
from imagebuild.store.remote.stream import BLOCK, DamagedError, packing, unpacking
from imagebuild.store.store import Call

if TYPE_CHECKING:
    from imagebuild.registry.client import Client


@dataclass(frozen=True)
class Pulled:
    """What has come: an object's facts, and the bytes that were fetched."""

    facts: Mapping[str, Any]
    bytes: int


@dataclass(frozen=True)
class Pushed:
    """What has gone: bytes sent of those that the object has there; `was_there`: nothing had to
    be done.
    """

    sent: int
    bytes: int
    was_there: bool = False


@dataclass(frozen=True)
class Remote:
    """A repository of objects. May be used by several threads at once."""

    client: Client
    repository: Reference

    def tag(self, key: Key) -> Reference:
        """What an object is called there."""
        return dataclasses.replace(self.repository, tag=key.name)

    def has(self, key: Key) -> bool:
        """Whether an object of that name is there: one HEAD. Raises what the client raises."""
        return self.client.head_manifest(self.tag(key)) is not None

    def pull(
        self,
        key: Key,
        inputs: object,
        draft: Path,
        spool: Path,
        call: Call,
        deadline: float | None = None,
    ) -> Pulled | None:
        """Bring the object of a key into the empty directory `draft`, each part checked; None
        when it is not there.

        `inputs` are what it must have been made of; `spool` is an empty directory for what has
        come packed; `call` is the worker's, for trees. Raises DamagedError for an object that
        is not what it should be, BuildError when there is no room for it, TemporaryError at
        `deadline` (`time.monotonic()`), and what the client raises. What is in `draft` and
        `spool` then is of no use.
        """
        tag = self.tag(key)
        found = self.client.head_manifest(tag)
        if found is None:
            return None
        with _of_the_object("its manifest"):
            manifest = self.client.get_manifest(tag.at(found.digest))
        parcel = form.read_parcel(manifest)
        with _of_the_object(DOCUMENT):
            (draft / DOCUMENT).write_bytes(self.client.get_blob(tag, parcel.config))
        try:
            document = objects.read_document(draft)
        except (ValueError, RecursionError) as exc:
            raise DamagedError(str(exc)[:300]) from None
        parcel = form.check(parcel, document, key, inputs)
        _check_room(draft, parcel)
        for part in sorted(parcel.parts, key=lambda p: p.name == TREE):
            self._fetch(tag, part, draft, spool, call, deadline)
        if damage := call("check_object", path=str(draft), deep=True)["damage"]:
            raise DamagedError("; ".join(damage[:3]))
        return Pulled(document["facts"], parcel.bytes)

    def _fetch(
        self,
        tag: Reference,
        part: Part,
        draft: Path,
        spool: Path,
        call: Call,
        deadline: float | None,
    ) -> None:
        is_plain = part.blob.media_type == form.PLAIN
        blob = (draft if is_plain else spool) / part.name
        with _of_the_object(part.name):
            self._download(tag, part, blob, deadline)
        if is_plain:
            return
        if part.name == TREE:
            answer = call("unpack_tree", blob=str(blob), directory=str(draft))
            if answer["damage"]:
                raise DamagedError(answer["damage"])
        else:
            with unpacking(blob) as source, _new(draft / part.name) as descriptor:
                source.copy(descriptor, part.size)
        blob.unlink()

    def _download(self, tag: Reference, part: Part, path: Path, deadline: float | None) -> None:
        digest = hashlib.sha256()
        with _new(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
            for block in self.client.open_blob(tag, part.blob):
                file.write(block)
                digest.update(block)
                if deadline is not None and time.monotonic() > deadline:
                    raise TemporaryError("the build's limit has come", where=str(tag))
        if f"sha256:{digest.hexdigest()}" != part.blob.digest:
            raise DamagedError(f"{part.name} is not what its digest says")

    def push(
        self, found: Object, spool: Path, call: Call, owner: tuple[int, int], *, anew: bool = False
    ) -> Pushed:
        """Bring an object of the store there, its name last; with `anew` in place of one that is
        no good.

        `spool` is an empty directory for what goes packed; `call` is the worker's, `owner` who
        reads what it packs. The object must be held. Raises what the client raises, and
        BuildError.
        """
        tag = self.tag(found.key)
        if not anew and self.client.head_manifest(tag) is not None:
            return Pushed(0, 0, was_there=True)
        document = objects.read_document(found.path)
        sent = 0
        parts = []
        for name, size in sorted(form.unpacked_sizes(document).items()):
            kind = form.media_type(name, size)
            path = found.path / name
            if kind != form.PLAIN:
                path = spool / name
                _pack(found, name, path, call, owner)
            blob = Descriptor(kind, f"sha256:{of_file(path)}", path.stat().st_size)
            parts.append(Part(name, blob, size))
            sent += self._send(tag, blob, path, anew=anew)
            if kind != form.PLAIN:
                path.unlink()
        data = (found.path / DOCUMENT).read_bytes()
        config = Descriptor(form.CONFIG, f"sha256:{of_bytes(data)}", len(data))
        sent += self._send(tag, config, found.path / DOCUMENT, anew=anew)
        parcel = Parcel(config, tuple(parts))
        self.client.put_manifest(tag, form.write(found.key, document, parcel))
        return Pushed(sent, parcel.bytes)

    def _send(self, tag: Reference, blob: Descriptor, path: Path, *, anew: bool) -> int:
        if not anew and self.client.has_blob(tag, blob):
            return 0
        return self.client.push_blob(tag, blob, lambda start: _read(path, start))


@contextmanager
def _of_the_object(part: str) -> Iterator[None]:
    """What the client finds wrong with an answer is wrong with the object: a digest, a length, a
    blob that is not there.
    """
    try:
        yield
    except (BuildError, ConfigError) as exc:
        raise DamagedError(f"{part}: {exc.what}: {exc.detail}"[:300]) from None


def _check_room(draft: Path, parcel: Parcel) -> None:
    """Stop before a disk is filled. What has holes takes less than its size: it is not counted."""
    whole = sum(p.size for p in parcel.parts if p.name == TREE or p.blob.media_type == form.PLAIN)
    packed = max((p.blob.size for p in parcel.parts if p.blob.media_type != form.PLAIN), default=0)
    room = os.statvfs(draft)
    if whole + packed > room.f_bavail * room.f_frsize:
        raise BuildError(
            "there is no room for an object of the store's remote",
            where=str(draft),
            detail=f"{whole + packed} bytes are needed",
        )


def _pack(found: Object, name: str, path: Path, call: Call, owner: tuple[int, int]) -> None:
    if name == TREE:
        call("pack_tree", directory=str(found.path), out=str(path), owner=list(owner))
        return
    with (
        _new(path) as descriptor,
        (found.path / name).open("rb") as file,
        packing(descriptor) as stream,
    ):
        while block := file.read(BLOCK):
            stream.write(block)


@contextmanager
def _new(path: Path) -> Iterator[int]:
    """A new file that its owner alone may read, as a descriptor."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK):
            yield block
