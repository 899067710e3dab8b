"""A layout on disk in the place of the registry that a run writes to.

To the engine it is a client, and every reference an entry of index.json by its full name.
What refers to an image stands under the tags that registries without the referrers API have
(distribution specification 1.1, "Referrers Tag Schema"), as regclient has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from imagebuild.errors import BuildError, ConfigError
from imagebuild.mirror.layoutsource import listed
from imagebuild.registry.client import Client
from imagebuild.registry.layout import DamagedError, Layout
from imagebuild.registry.manifest import INDEXES, Descriptor, Manifest, read_manifest
from imagebuild.registry.reference import Reference


class LayoutTarget(Client):
    """Writes images into a layout, and reads there what an earlier run has left.

    `source` is the client that the images come by: what it has asked is what the run asked.
    `notes`: annotations of index.json's entries, by name.
    """

    def __init__(
        self, layout: Layout, source: Client, notes: Mapping[str, Mapping[str, str]]
    ) -> None:
        super().__init__(environ={})
        self._layout = layout
        self._source = source
        self._notes = notes
        self._stop = threading.Event()
        #: Digests of blobs that have been read whole.
        self._whole: set[str] = set()

    def close(self) -> None:
        self._stop.set()
        super().close()

    @property
    def quotas(self) -> tuple[tuple[str, int, int], ...]:
        return self._source.quotas

    @property
    def request_counts(self) -> dict[str, int]:
        return self._source.request_counts

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        data = self._data(reference)
        return read_manifest(data, "", str(reference)).descriptor if data is not None else None

    def get_manifest(self, reference: Reference) -> Manifest:
        data = self._data(reference)
        if data is None:
            raise ConfigError(
                "the export lacks a manifest", where=f"{self._layout.root}: {reference}"
            )
        return read_manifest(data, "", str(reference))

    def has_blob(self, _reference: Reference, blob: Descriptor) -> bool:
        """Whether the blob is there: it is read, once in a run."""
        if blob.digest in self._whole or self._layout.is_whole(blob):
            self._whole.add(blob.digest)
            return True
        return False

    def mount_blob(self, _reference: Reference, _blob: Descriptor, _source: str) -> bool:
        """A layout has all its blobs in one place: there is nothing to mount."""
        return False

    def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Bring a blob in, from where an earlier run has left it. Returns bytes that came."""
        came = 0
        # A second time: a piece that an earlier run left may be what was damaged.
        for _ in range(2):
            try:
                with self._layout.ingest(blob, self._stop) as ingest:
                    if ingest is not None:
                        for block in read(ingest.size):
                            ingest.write(block)
                            came += len(block)
                            if progress:
                                progress(ingest.size)
            except DamagedError:
                continue
            self._whole.add(blob.digest)
            return came
        raise BuildError(
            "a blob is not what its digest says",
            where=f"{reference.name}@{blob.digest}",
            detail="twice, its bytes had another digest; nothing of it is kept",
            hint="where it comes from, or on the way, it has been damaged",
        )

    def put_manifest(self, reference: Reference, manifest: Manifest) -> bool:
        self._layout.write(manifest.data)
        if not reference.digest:
            name = str(reference)
            self._layout.name(name, manifest.descriptor, self._notes.get(name))
        return False

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        tag = reference.digest.replace(":", "-")
        named = self._layout.named(f"{reference.name}:{tag}")
        if named is None or named.media_type not in INDEXES:
            return ()
        data = self._layout.read(named.digest)
        manifest = read_manifest(data, "", str(reference)) if data is not None else None
        return listed(manifest, str(reference)) if manifest else ()

    def _data(self, reference: Reference) -> bytes | None:
        """A manifest's bytes, None when it is not there, or damaged."""
        digest = reference.digest
        if not digest:
            named = self._layout.named(str(reference))
            digest = named.digest if named else ""
        return self._layout.read(digest) if digest else None
