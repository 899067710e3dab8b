"""A layout on disk in the place of a registry, so that the same engine copies from it and to it.

Names of the registry `oci-layout`, which no network has, mean the layout: its repository is
the full name that an image has elsewhere (`docker.io/library/mysql`). All other names go to
the client that this one is made of. Referrers stand under the tags that registries without
their API have (distribution specification 1.1, "Referrers Tag Schema"), as regclient has it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from imagebuild.errors import BuildError, ConfigError
from imagebuild.files import MIB
from imagebuild.mirror.layoutfiles import LayoutFiles, entries_of, open_layout
from imagebuild.registry.client import Client
from imagebuild.registry.layout import DamagedError, Layout
from imagebuild.registry.manifest import INDEXES, Descriptor, Manifest, read_manifest
from imagebuild.registry.reference import Reference

#: The name of the registry that is a layout.
LAYOUT = "oci-layout"
#: What registries take at most (distribution specification, "Pushing Manifests").
_LARGEST_MANIFEST = 4 * MIB


def in_layout(reference: Reference) -> Reference:
    """What an image of a registry is called in a layout."""
    return dataclasses.replace(reference, registry=LAYOUT, repository=reference.name)


def name_of(reference: Reference) -> str:
    """What index.json calls a reference: the image's full name, without our registry."""
    return f"{reference.repository}:{reference.tag}"


class _LayoutClient(Client):
    """What both directions share: everything but the layout goes to another client."""

    def __init__(self, client: Client) -> None:  # pylint: disable=super-init-not-called
        self._client = client

    def close(self) -> None:
        self._client.close()

    @property
    def quotas(self) -> tuple[tuple[str, int, int], ...]:
        return self._client.quotas

    @property
    def request_counts(self) -> dict[str, int]:
        return self._client.request_counts

    def tags(self, reference: Reference) -> list[str]:
        return self._client.tags(reference)

    def delete_manifest(self, reference: Reference) -> bool:
        return self._client.delete_manifest(reference)

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        if reference.registry != LAYOUT:
            return self._client.head_manifest(reference)
        if not reference.digest:
            return self._named(name_of(reference))
        data = self._manifest(reference.digest)
        return read_manifest(data, "", str(reference)).descriptor if data else None

    def get_manifest(self, reference: Reference) -> Manifest:
        if reference.registry != LAYOUT:
            return self._client.get_manifest(reference)
        digest = reference.digest
        if not digest:
            named = self._named(name_of(reference))
            digest = named.digest if named else ""
        data = self._manifest(digest) if digest else None
        if data is None:
            raise self._missing("a manifest", digest or name_of(reference))
        return read_manifest(data, "", str(reference))

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        if reference.registry != LAYOUT:
            return self._client.get_blob(reference, blob)
        return b"".join(self.open_blob(reference, blob))

    def mount_blob(self, reference: Reference, blob: Descriptor, source: str) -> bool:
        if LAYOUT in (reference.registry, source.partition("/")[0]):
            return False
        return self._client.mount_blob(reference, blob, source)

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        if reference.registry != LAYOUT:
            return self._client.referrers(reference)
        tag = reference.digest.replace(":", "-")
        named = self._named(name_of(dataclasses.replace(reference, tag=tag)))
        if named is None or named.media_type not in INDEXES:
            return ()
        manifest = self.get_manifest(reference.at(named.digest))
        try:
            entries = json.loads(manifest.data)["manifests"]
            return tuple(Descriptor.from_json(e) for e in entries)
        except (ValueError, LookupError, TypeError) as exc:
            raise ConfigError(
                "the list of what refers to an image is damaged",
                where=str(reference),
                detail=str(exc)[:300],
            ) from exc

    def _named(self, name: str) -> Descriptor | None:
        raise NotImplementedError

    def _manifest(self, digest: str) -> bytes | None:
        """A manifest's bytes, None when it is not there. Raises BuildError for a damaged one."""
        raise NotImplementedError

    def _missing(self, what: str, name: str) -> ConfigError:
        raise NotImplementedError


class ReadingClient(_LayoutClient):
    """Reads images from a layout that was carried here; every byte is hashed on its way."""

    def __init__(self, client: Client, files: LayoutFiles) -> None:
        super().__init__(client)
        self._files = files
        self._names = {e.name: e.descriptor for e in reversed(entries_of(files)) if e.name}

    def has_blob(self, reference: Reference, blob: Descriptor) -> bool:
        if reference.registry != LAYOUT:
            return self._client.has_blob(reference, blob)
        return self._files.size(blob.digest) == blob.size

    def open_blob(self, reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        if reference.registry != LAYOUT:
            yield from self._client.open_blob(reference, blob, start)
            return
        size = self._files.size(blob.digest)
        if size is None:
            raise self._missing("a blob", blob.digest)
        if size != blob.size:
            raise self._damaged(blob.digest, f"it has {size} bytes, and {blob.size} are promised")
        sha256 = hashlib.sha256()
        for block in self._files.read(blob.digest, 0):
            sha256.update(block)
            skipped, start = min(start, len(block)), max(start - len(block), 0)
            if len(block) > skipped:
                yield block[skipped:]
        digest = f"sha256:{sha256.hexdigest()}"
        if digest != blob.digest:
            raise self._damaged(blob.digest, f"its bytes are {digest}")

    def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        return self._client.push_blob(reference, blob, read, progress)

    def put_manifest(self, reference: Reference, manifest: Manifest) -> bool:
        return self._client.put_manifest(reference, manifest)

    def _named(self, name: str) -> Descriptor | None:
        return self._names.get(name)

    def _manifest(self, digest: str) -> bytes | None:
        size = self._files.size(digest)
        if size is None:
            return None
        if size > _LARGEST_MANIFEST:
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


class WritingClient(_LayoutClient):
    """Writes images into a layout, and reads there what an earlier run has left.

    `notes`: annotations of index.json's entries, by name.
    """

    def __init__(
        self, client: Client, layout: Layout, notes: Mapping[str, Mapping[str, str]]
    ) -> None:
        super().__init__(client)
        self._layout = layout
        self._notes = notes
        self._stop = threading.Event()
        #: Digests of blobs that have been read whole.
        self._whole: set[str] = set()

    def close(self) -> None:
        self._stop.set()
        super().close()

    def has_blob(self, reference: Reference, blob: Descriptor) -> bool:
        if reference.registry != LAYOUT:
            return self._client.has_blob(reference, blob)
        if blob.digest in self._whole or self._layout.is_whole(blob):
            self._whole.add(blob.digest)
            return True
        return False

    def open_blob(self, reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        if reference.registry != LAYOUT:
            yield from self._client.open_blob(reference, blob, start)
            return
        raise self._missing("what nobody reads from it", blob.digest)

    def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        if reference.registry != LAYOUT:
            return self._client.push_blob(reference, blob, read, progress)
        sent = 0
        # A second time: a piece that an earlier run left may be what was damaged.
        for _ in range(2):
            try:
                with self._layout.ingest(blob, self._stop) as ingest:
                    if ingest is None:
                        break
                    for block in read(ingest.size):
                        ingest.write(block)
                        sent += len(block)
                        if progress:
                            progress(ingest.size)
            except DamagedError:
                continue
            break
        else:
            raise BuildError(
                "a blob is not what its digest says",
                where=f"{reference.repository}@{blob.digest}",
                detail="twice, its bytes had another digest; nothing of it is kept",
                hint="where it comes from, or on the way, it has been damaged",
            )
        self._whole.add(blob.digest)
        return sent

    def put_manifest(self, reference: Reference, manifest: Manifest) -> bool:
        if reference.registry != LAYOUT:
            return self._client.put_manifest(reference, manifest)
        self._layout.write(manifest.data)
        if not reference.digest:
            name = name_of(reference)
            self._layout.name(name, manifest.descriptor, self._notes.get(name))
        return False

    def _named(self, name: str) -> Descriptor | None:
        return self._layout.named(name)

    def _manifest(self, digest: str) -> bytes | None:
        return self._layout.read(digest)

    def _missing(self, what: str, name: str) -> ConfigError:
        return ConfigError(f"the export lacks {what}", where=f"{self._layout.root}: {name}")


def read_layout(client: Client, path: Path) -> tuple[ReadingClient, LayoutFiles]:
    """A client that reads a layout; the caller closes the files."""
    files = open_layout(path)
    try:
        return ReadingClient(client, files), files
    except BaseException:
        files.close()
        raise
