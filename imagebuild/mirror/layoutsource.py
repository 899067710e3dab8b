"""A layout that was carried here, as a source of images: every byte is hashed on its way.

References mean entries of index.json by their full names; what refers to an image stands
under the tags that registries without the referrers API have (distribution specification 1.1,
"Referrers Tag Schema"), as regclient has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from imagebuild.errors import BuildError, ConfigError
from imagebuild.mirror.layoutfiles import LayoutFiles, entries_of
from imagebuild.registry.manifest import (
    INDEXES,
    LARGEST_MANIFEST,
    LARGEST_SMALL_BLOB,
    Descriptor,
    Manifest,
    read_manifest,
)
from imagebuild.registry.reference import Reference


class LayoutSource:
    """Reads images from a layout: a `Source` (source.py), and `has_blob`.

    Methods raise ConfigError for what is not there and BuildError for what is damaged.
    """

    def __init__(self, files: LayoutFiles) -> None:
        self._files = files
        self._names = {e.name: e.descriptor for e in reversed(entries_of(files)) if e.name}

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        """What a name or digest stands for, None when there is none."""
        digest = self._digest(reference)
        data = self._manifest(digest) if digest else None
        return read_manifest(data, "", str(reference)).descriptor if data is not None else None

    def get_manifest(self, reference: Reference) -> Manifest:
        """The manifest or index."""
        digest = self._digest(reference)
        data = self._manifest(digest) if digest else None
        if data is None:
            raise self._missing("a manifest", digest or str(reference))
        return read_manifest(data, "", str(reference))

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob."""
        if blob.size > LARGEST_SMALL_BLOB:
            raise self._damaged(
                blob.digest, f"{blob.size} bytes are too many for {blob.media_type}"
            )
        return b"".join(self.open_blob(reference, blob))

    def has_blob(self, _reference: Reference, blob: Descriptor) -> bool:
        """Whether the blob is there, with its size."""
        return self._files.size(blob.digest) == blob.size

    def open_blob(self, _reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes from `start` on; that they were wrong is told when all have been read."""
        size = self._files.size(blob.digest)
        if size is None:
            raise self._missing("a blob", blob.digest)
        if size != blob.size:
            raise self._damaged(blob.digest, f"it has {size} bytes, and {blob.size} are promised")
        sha256 = hashlib.sha256()
        for block in self._files.read(blob.digest):
            sha256.update(block)
            skipped, start = min(start, len(block)), max(start - len(block), 0)
            if len(block) > skipped:
                yield block[skipped:]
        digest = f"sha256:{sha256.hexdigest()}"
        if digest != blob.digest:
            raise self._damaged(blob.digest, f"its bytes are {digest}")

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        """Manifests that refer to the reference's digest."""
        tag = reference.digest.replace(":", "-")
        named = self._names.get(f"{reference.name}:{tag}")
        if named is None or named.media_type not in INDEXES:
            return ()
        manifest = self.get_manifest(reference.at(named.digest))
        return listed(manifest, str(reference))

    def _digest(self, reference: Reference) -> str:
        if reference.digest:
            return reference.digest
        named = self._names.get(str(reference))
        return named.digest if named else ""

    def _manifest(self, digest: str) -> bytes | None:
        size = self._files.size(digest)
        if size is None:
            return None
        if size > LARGEST_MANIFEST:
            raise self._damaged(digest, f"{size} bytes are no manifest")
        data = b"".join(self._files.read(digest))
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != digest:
            raise self._damaged(digest, f"its bytes are {found}")
        return data

    def _missing(self, what: str, name: str) -> ConfigError:
        return ConfigError(
            f"the export lacks {what}",
            where=f"{self._files.path}: {name}",
            hint="copy it again from where it was made, or export it again",
        )

    def _damaged(self, digest: str, detail: str) -> BuildError:
        return BuildError(
            "a blob of the export is damaged",
            where=f"{self._files.path}: blobs/{digest.replace(':', '/')}",
            detail=f"{detail}; its images get no tags",
            hint="copy it again from where it was made, or export it again",
        )


def listed(manifest: Manifest, where: str) -> tuple[Descriptor, ...]:
    """What an index of referrers lists. Raises ConfigError for a damaged one."""
    try:
        entries = json.loads(manifest.data)["manifests"]
        return tuple(Descriptor.from_json(e) for e in entries)
    except (ValueError, LookupError, TypeError) as exc:
        raise ConfigError(
            "the list of what refers to an image is damaged", where=where, detail=str(exc)[:300]
        ) from exc
