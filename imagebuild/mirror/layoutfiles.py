"""An OCI image layout to read from, a directory or a tar file (image-layout.md, version 1.0).

It comes from elsewhere, by a disk that people carry: nothing in it is believed. Names lead
nowhere but into it, files are as large as the medium has bytes for, and what a blob's bytes
are is known when they have been hashed. A tar file is read where it lies: nothing is unpacked.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from imagebuild.errors import ConfigError, PreflightError
from imagebuild.files import MIB, open_regular
from imagebuild.registry.layout import NAME
from imagebuild.registry.manifest import Descriptor

INDEX = "index.json"
_MARK = "oci-layout"
_LARGEST_INDEX = 16 * MIB
#: Of a header that only holds a longer name or size (pax, GNU).
_LARGEST_HEADER = MIB
_MOST_MEMBERS = 1_000_000
_BLOCK = 1 << 20
#: Of a header's numbers: any file's size has fewer.
_DIGITS = re.compile(r"[0-9]{1,20}")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_COMPRESSED = {b"\x1f\x8b": "gzip -d", b"\x28\xb5\x2f\xfd": "zstd -d", b"BZh": "bzip2 -d",
               b"\xfd7zXZ": "xz -d"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """An entry of index.json. `name` is "" where it has none."""

    descriptor: Descriptor
    name: str
    annotations: dict[str, str]


class LayoutFiles(Protocol):
    """The files of a layout. Several threads may read at once. Methods raise ConfigError for
    what is damaged and PreflightError for what the host cannot read.
    """

    path: Path

    def small(self, name: str, limit: int) -> bytes | None:
        """All of a file, None when there is none."""
        ...

    def size(self, digest: str) -> int | None:
        """How many bytes a blob has, None when it is not there."""
        ...

    def read(self, digest: str, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes, not checked."""
        ...

    def blobs(self) -> list[str]:
        """The digests of all blobs, sorted."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_layout(path: Path) -> LayoutFiles:
    """A directory or an uncompressed tar file. Raises ConfigError when it is no layout."""
    try:
        files: LayoutFiles = _Directory(path) if path.is_dir() else _Tar(path)
    except FileNotFoundError as exc:
        raise ConfigError(
            "there is no such directory or file",
            where=str(path),
            hint="`imagebuild mirror export` makes one",
        ) from exc
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    try:
        mark = files.small(_MARK, MIB)
        if mark is None or files.small(INDEX, _LARGEST_INDEX) is None:
            docker = files.small("manifest.json", _LARGEST_INDEX) is not None
            raise ConfigError(
                "this is no OCI image layout",
                where=str(path),
                detail=f"there is no {_MARK if mark is None else INDEX} in it",
                hint="`docker save` writes another form: push the image to a registry, and export "
                "it from there"
                if docker
                else "`imagebuild mirror export` makes one, and `skopeo copy … oci:DIRECTORY`",
            )
        _check_mark(mark, path)
    except BaseException:
        files.close()
        raise
    return files


def entries_of(files: LayoutFiles) -> tuple[Entry, ...]:
    """What index.json lists, in its order. Raises ConfigError for a damaged one."""
    where = f"{files.path}: {INDEX}"
    data = files.small(INDEX, _LARGEST_INDEX)
    try:
        manifests = json.loads(data or b"")["manifests"]
        return tuple(_entry(e) for e in manifests)
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise ConfigError(
            "the list of images is damaged", where=where, detail=str(exc)[:300],
            hint="copy the export again from where it was made",
        ) from exc  # fmt: skip


def _entry(data: Any) -> Entry:  # noqa: ANN401 - any JSON
    descriptor = Descriptor.from_json(data)
    found = data.get("annotations")
    annotations = {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    return Entry(descriptor, annotations.get(NAME, ""), annotations)


def _check_mark(data: bytes, path: Path) -> None:
    try:
        version = str(json.loads(data)["imageLayoutVersion"])
    except (ValueError, LookupError, TypeError, RecursionError):
        version = ""
    if not version.startswith("1."):
        raise ConfigError(
            "the OCI image layout is of a version that nobody knows",
            where=f"{path}: {_MARK}",
            detail=f"imageLayoutVersion {version!r}; 1.0.0 is what can be read",
        )


class _Directory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = path / "blobs" / "sha256"

    def small(self, name: str, limit: int) -> bytes | None:
        try:
            with open_regular(self.path / name) as file:
                return _limited(file, limit, self.path / name)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _unreadable(self.path / name, exc) from exc

    def size(self, digest: str) -> int | None:
        try:
            found = self._place(digest).stat()
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, digest: str, start: int = 0) -> Iterator[bytes]:
        place = self._place(digest)
        try:
            with open_regular(place) as file:
                file.seek(start)
                while block := file.read(_BLOCK):
                    yield block
        except OSError as exc:
            raise _unreadable(place, exc) from exc

    def blobs(self) -> list[str]:
        try:
            names = os.listdir(self._root)  # noqa: PTH208 - names alone
        except OSError:
            return []
        return sorted(f"sha256:{n}" for n in names if _BLOB.fullmatch(f"blobs/sha256/{n}"))

    def close(self) -> None:
        pass

    def _place(self, digest: str) -> Path:
        return self._root / digest.removeprefix("sha256:")


class _Tar:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path)
        self._lock = threading.Lock()
        try:
            self._end = os.fstat(self._file.fileno()).st_size
            #: Where each file begins, and its size.
            self._places = dict(self._scan())
        except BaseException:
            self._file.close()
            raise

    def small(self, name: str, limit: int) -> bytes | None:
        if name not in self._places:
            return None
        start, size = self._places[name]
        if size > limit:
            raise self._bad(f"{name} has {size} bytes")
        return self._at(start, size)

    def size(self, digest: str) -> int | None:
        found = self._places.get(_name(digest))
        return found[1] if found else None

    def read(self, digest: str, start: int = 0) -> Iterator[bytes]:
        first, size = self._places[_name(digest)]
        for at in range(first + start, first + size, _BLOCK):
            yield self._at(at, min(_BLOCK, first + size - at))

    def blobs(self) -> list[str]:
        found = (_BLOB.fullmatch(name) for name in self._places)
        return sorted(f"sha256:{m[1]}" for m in found if m)

    def close(self) -> None:
        self._file.close()

    def _at(self, start: int, size: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), size, start)
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc

    def _scan(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Files of the archive. tarfile reads headers here, but never what they announce: it
        would hold as much memory as a header says that a name has bytes.
        """
        begin = self._at(0, 8)
        for magic, program in _COMPRESSED.items():
            if begin.startswith(magic):
                raise ConfigError(
                    "the tar file is compressed", where=str(self.path),
                    detail="blobs are compressed already, and are read from where they lie",
                    hint=f"unpack it first: {program} {self.path}",
                )  # fmt: skip
        at, seen = 0, set()
        longer: dict[str, str] = {}
        for _ in range(_MOST_MEMBERS):
            header = self._at(at, tarfile.BLOCKSIZE)
            if header and not header.strip(b"\0"):
                return
            try:
                member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.HeaderError as exc:
                whole = at and len(header) == 0
                raise self._bad(
                    "it ends without the end of an archive" if whole else f"byte {at}: {exc}"
                ) from exc
            size = int(longer.get("size") or member.size)
            start = at + tarfile.BLOCKSIZE
            if size < 0 or start + size > self._end:
                raise self._bad(f"{member.name!r} is to have {size} bytes, and they are not there")
            at = start + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
                longer = self._longer(member, start, size)
                continue
            name = longer.get("path") or member.name
            longer = {}
            name = name.removeprefix("./").rstrip("/")
            if member.isdir():
                continue
            self._check(member, name)
            if name in seen:
                raise self._bad(f"{name!r} is in it twice")
            seen.add(name)
            yield name, (start, size)
        raise self._bad(f"it has more than {_MOST_MEMBERS} files")

    def _longer(self, member: tarfile.TarInfo, start: int, size: int) -> dict[str, str]:
        """What a header says of the next one: a name or a size that does not fit into it."""
        if size > _LARGEST_HEADER:
            raise self._bad(f"a header of {size} bytes")
        data = self._at(start, size)
        if member.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": _text(data.rstrip(b"\0"))}
        if member.type == tarfile.XGLTYPE:
            return {}
        found: dict[str, str] = {}
        while data:
            # It counts bytes, and a user's name may have others than ASCII.
            length, _, rest = data.partition(b" ")
            if not _DIGITS.fullmatch(_text(length)) or not 0 < int(length) <= len(data):
                raise self._bad("a header that is not in the form of pax")
            key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
            found[_text(key)] = _text(value)
            data = data[int(length) :]
        if not _DIGITS.fullmatch(found.get("size", "0")) or any(
            k.startswith("GNU.sparse") for k in found
        ):
            raise self._bad("a file with holes in it")
        return found

    def _check(self, member: tarfile.TarInfo, name: str) -> None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            kind = "a link" if member.islnk() or member.issym() else "no ordinary file"
            raise self._bad(f"{name!r} is {kind}")
        if name.startswith("/") or ".." in name.split("/"):
            raise self._bad(f"{name!r} would lead out of it")

    def _bad(self, detail: str) -> ConfigError:
        return ConfigError(
            "the tar file is damaged, or not what it should be",
            where=str(self.path),
            detail=detail,
            hint="copy the export again from where it was made",
        )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _limited(file: IO[bytes], limit: int, path: Path) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigError("the file is too large for what it is", where=str(path))
    return data


def _unreadable(path: Path, exc: OSError) -> PreflightError:
    return PreflightError(
        "the export cannot be read", where=str(path), detail=exc.strerror or str(exc)
    )
