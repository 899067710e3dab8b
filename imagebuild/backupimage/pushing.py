"""An image into a registry: blobs, then the manifest by its digest, then the tags."""

from __future__ import annotations

import dataclasses
import functools
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from imagebuild.backupimage.image import BackupImage
from imagebuild.errors import PreflightError
from imagebuild.registry.layout import MARK, NAME
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Told bytes that are there and bytes in all.
Progress = Callable[[int, int], None]


def push(
    client: Client, image: BackupImage, targets: Sequence[Reference], progress: Progress
) -> int:
    """Put the image under these names, all of one repository; returns the bytes sent.

    Tags come last: until then nobody can find it. Raises what the client raises.
    """
    where = dataclasses.replace(targets[0], tag="", digest="")
    there, sent = 0, 0
    for blob in sorted(image.blobs, key=lambda b: (-b.size, b.digest)):
        if not client.has_blob(where, blob):
            moved = functools.partial(_moved, progress, there, image.size)
            sent += client.push_blob(where, blob, functools.partial(image.read, blob), moved)
        there += blob.size
        progress(there, image.size)
    client.put_manifest(where.at(image.manifest.digest), image.manifest)
    for target in targets:
        client.put_manifest(dataclasses.replace(target, digest=""), image.manifest)
    return sent


def _moved(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def write_tar(image: BackupImage, names: Sequence[str], target: Path) -> None:
    """The image as a tar archive of an OCI layout (image-layout.md), whole or not at all.

    Raises PreflightError when it cannot be written.
    """
    import json

    entries: list[dict[str, Any]] = [
        image.manifest.descriptor.to_json() | {"annotations": {NAME: name}} for name in names
    ]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
             "manifests": entries}  # fmt: skip
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
            place = Path(file.name)
            try:
                with tarfile.open(fileobj=file, mode="w") as archive:
                    _add(archive, "oci-layout", MARK)
                    _add(archive, "index.json", json.dumps(index).encode())
                    for blob in (image.manifest.descriptor, *image.blobs):
                        entry = tarfile.TarInfo(f"blobs/{blob.digest.replace(':', '/')}")
                        entry.size, entry.mode = blob.size, 0o644
                        with image.path(blob).open("rb") as content:
                            archive.addfile(entry, content)
                place.chmod(0o644)
                place.replace(target)
            except BaseException:
                place.unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise PreflightError(
            "the image cannot be written",
            where=str(target),
            detail=exc.strerror or str(exc),
            hint="make room there, or choose another place with --output",
        ) from exc


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, BytesIO(data))
