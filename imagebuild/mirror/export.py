"""Registry → OCI layout, for sites without a network: the engine copies into a directory.

A tar file is made of such a directory, which stands beside it until it is done: who is killed
goes on where they were. The same images make the same file, byte for byte: members sorted, no
times, no owners; it appears under its name when it is whole.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from imagebuild.config.mirrorlist import Target
from imagebuild.errors import PreflightError, TemporaryError, UsageError
from imagebuild.events import Emit
from imagebuild.files import MIB
from imagebuild.mirror.carrying import Carried, carry
from imagebuild.mirror.copier import run_plan
from imagebuild.mirror.items import Item
from imagebuild.mirror.layoutfiles import INDEX
from imagebuild.mirror.layouttarget import LayoutTarget
from imagebuild.mirror.lockfile import Lock
from imagebuild.mirror.planning import MirrorPlan, make_plan
from imagebuild.mirror.result import BAD, Report
from imagebuild.mirror.trees import parts_of
from imagebuild.registry.layout import MARK, NAME, Layout
from imagebuild.registry.manifest import Descriptor, read_manifest

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

_BESIDE = re.compile(r"(?P<repository>.+):sha256-(?P<hex>[0-9a-f]{64})(?:\.[a-z]+)?")
_COMPRESSED = (".gz", ".tgz", ".zst", ".xz", ".bz2")
#: Bytes that are left free on a disk where there is room.
_SPARE = 64 * MIB


@dataclass(frozen=True)
class Exported:
    """What is in the directory or tar file now: `images`, `blobs` and bytes of all of them.

    The report's items are those of the list. `path` is None when nothing could be written.
    """

    report: Report
    path: Path | None
    images: int
    blobs: int
    size: int


def is_tar(place: Path) -> bool:
    """Whether a place means a tar file; else it is a directory. Raises UsageError for what
    cannot be written to without losing something.
    """
    if place.suffix in _COMPRESSED:
        raise UsageError(
            "an export is not compressed again",
            where=f"--output {place}",
            detail="layers are compressed already, and an import reads them from where they lie",
            hint="name it *.tar, or a directory",
        )
    if place.is_dir():
        known = {"oci-layout", "index.json", "blobs", "ingest", "index.lock"}
        if any(p.name not in known and not p.name.startswith(".") for p in place.iterdir()):
            raise UsageError(
                "the directory has something else in it than an export",
                where=f"--output {place}",
                hint="name a new directory, or one that an export has made",
            )
        return False
    if place.exists() and (place.suffix != ".tar" or not place.is_file()):
        raise UsageError(
            "there is a file of this name already, and it is no tar file", where=f"--output {place}"
        )
    if not place.parent.is_dir():
        raise UsageError("there is no such directory", where=f"--output {place}: {place.parent}")
    return place.suffix == ".tar"


def plan_export(
    client: Client,
    items: Sequence[Item],
    target: Target,
    place: Path,
    *,
    lock: Lock | None = None,
) -> MirrorPlan:
    """What an export would fetch; nothing is written. With `lock` the digests are its."""
    carried = carry(items, target)
    root = spool_of(place) if is_tar(place) else place
    with LayoutTarget(Layout(root, "the export"), client, {}) as writer:
        inside = [c.inside for c in carried]
        return make_plan(writer, inside, source=client, lock=lock, count_bytes=True)


def export(
    client: Client,
    items: Sequence[Item],
    target: Target,
    place: Path,
    *,
    lock: Lock | None = None,
    emit: Emit | None = None,
    jobs: int = 4,
) -> Exported:
    """Bring the items into a directory or tar file; one that fails does not stop the others.

    With `lock` the digests are those of the lock file, wherever the source's tags are now.
    What a directory has already stays there, and is read again, so that what its disk has
    damaged is fetched anew. Raises UsageError, PreflightError and TemporaryError when nothing
    can be written there, and RunInterrupted.
    """
    tar = is_tar(place)
    carried = carry(items, target)
    root = spool_of(place) if tar else place
    with _alone(root):
        layout = Layout(root, "the export")
        with LayoutTarget(layout, client, {c.name: c.notes for c in carried}) as writer:
            plan = make_plan(writer, [c.inside for c in carried], source=client, lock=lock)
            report = run_plan(writer, plan, source=client, emit=emit, deep=True, jobs=jobs)
        good = [
            (c, r) for c, r in zip(carried, report.results, strict=True) if r.outcome not in BAD
        ]
        for one, result in good:
            _note(layout, one, result.digest)
        results = tuple(
            dataclasses.replace(r, item=c.item)
            for c, r in zip(carried, report.results, strict=True)
        )
        report = dataclasses.replace(report, results=results)
        content = _content(layout, [c.name for c, _ in good] if tar else None)
        path: Path | None = place
        if tar:
            if good:
                _write_tar(layout, content, place)
                shutil.rmtree(root)
            else:
                path = None
        else:
            _finish(layout)
        blobs = [d for d, is_manifest in content.parts.values() if not is_manifest]
        size = sum(d.size for d, _ in content.parts.values())
        return Exported(report, path, content.images, len(blobs), size)


def spool_of(place: Path) -> Path:
    """The directory beside a tar file that what has come is in until it is whole."""
    return place.with_name(f".{place.name}.parts")


@dataclass(frozen=True)
class _Content:
    """Entries of index.json, and all that they name, by digest: is it a manifest?"""

    entries: tuple[dict[str, Any], ...]
    parts: dict[str, tuple[Descriptor, bool]]
    images: int


def _note(layout: Layout, carried: Carried, digest: str) -> None:
    """Have the entry say what the list says now."""
    data = layout.read(digest)
    if data is not None:
        descriptor = read_manifest(data, "", carried.name).descriptor
        layout.name(carried.name, descriptor, carried.notes)


def _content(layout: Layout, names: Sequence[str] | None) -> _Content:
    """What entries with these names name, and what refers to that; all entries for None."""
    entries = {e["annotations"][NAME]: e for e in _entries(layout)}
    chosen = [n for n in entries if names is None or n in names]
    images = sum(not _BESIDE.fullmatch(n) for n in chosen)
    parts: dict[str, tuple[Descriptor, bool]] = {}
    wanted, kept = list(chosen), []
    while wanted:
        for name in wanted:
            kept.append(name)
            _collect(layout, Descriptor.from_json(entries[name]), parts, name)
        wanted = [
            name
            for name in entries
            if name not in kept
            and (found := _BESIDE.fullmatch(name))
            and f"sha256:{found['hex']}" in parts
        ]
    return _Content(tuple(entries[n] for n in sorted(kept)), parts, images)


def _collect(
    layout: Layout, wanted: Descriptor, parts: dict[str, tuple[Descriptor, bool]], where: str
) -> None:
    data = layout.read(wanted.digest)
    if wanted.digest in parts or data is None:
        return
    manifest = read_manifest(data, wanted.media_type, where)
    parts[manifest.digest] = manifest.descriptor, True
    named = parts_of(manifest, where)
    for child in named.children:
        _collect(layout, child, parts, where)
    for blob in (*named.blobs, *named.foreign):
        if layout.has(blob):
            parts[blob.digest] = blob, False


def _entries(layout: Layout) -> list[dict[str, Any]]:
    """Entries of index.json that have a name: what others have put there has none, perhaps."""
    try:
        found = json.loads((layout.root / INDEX).read_bytes())["manifests"]
        return [e for e in found if isinstance(e.get("annotations", {}).get(NAME), str)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _finish(layout: Layout) -> None:
    """What an import does not need goes, and what is written reaches the disk: people pull it."""
    ingest = layout.root / "ingest"
    if ingest.is_dir() and not any(ingest.iterdir()):
        ingest.rmdir()
    (layout.root / "index.lock").unlink(missing_ok=True)
    os.sync()


def _write_tar(layout: Layout, content: _Content, place: Path) -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": list(content.entries)}).encode()
    total = sum(d.size for d, _ in content.parts.values())
    new = place.with_name(f".{place.name}.new")
    with _writing(place):
        # Where there is no room for both, what is in the tar file leaves the directory.
        frugal = shutil.disk_usage(place.parent).free < total + _SPARE
        try:
            with new.open("wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
                    for digest in sorted(content.parts):
                        path = layout.path(digest)
                        with path.open("rb") as blob:
                            _add(archive, f"blobs/{digest.replace(':', '/')}", blob)
                        if frugal:
                            path.unlink()
                    _add_bytes(archive, INDEX, index)
                    _add_bytes(archive, "oci-layout", MARK)
                file.flush()
                os.fsync(file.fileno())
            new.replace(place)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    archive.addfile(_member(name, os.fstat(file.fileno()).st_size), file)


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    archive.addfile(_member(name, len(data)), io.BytesIO(data))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Make the directory, and hold it: two exports into one tar file would take it from
    each other. flock: the kernel unlocks what is killed.
    """
    with _writing(root):
        root.mkdir(exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TemporaryError(
            "another export writes there just now", where=str(root), hint="wait for it to end"
        ) from None
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise PreflightError(
            "the export cannot be written",
            where=str(exc.filename or path),
            detail=exc.strerror or str(exc),
            hint="make room there, or name another disk" if full else "check who owns it",
        ) from exc
