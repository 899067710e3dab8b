"""Find out what an image is, and have it on disk.

`resolve` asks what a name stands for, once; from then on all goes by digest, so that a tag
that moves meanwhile cannot mix two images. `pull` fetches what is not in the layout yet.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.errors import PreflightError
from imagebuild.registry.layout import DamagedError, Layout, StoppedError
from imagebuild.registry.manifest import (
    Descriptor,
    ImageConfig,
    Manifest,
    check_image,
    choose_platform,
    image_config,
    image_manifest,
    read_manifest,
)
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    # requests takes its time, and a plan with a `Resolved` in it needs none of it.
    from imagebuild.registry.client import Client

#: Blobs that are fetched at a time: more would not be faster, and lose more when cut off.
_AT_ONCE = 4
#: Seconds for threads to notice that they are to stop; a silent server holds one up longer.
_PATIENCE = 1.0


@dataclass(frozen=True)
class Resolved:
    """An image of one architecture, pinned. Layers from the lowest up.

    `target` is what the name stands for, which tags move: an index, or `manifest` itself.
    """

    reference: Reference
    arch: str
    target: Descriptor
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Configuration and layers, each once, the biggest first."""
        unique = {d.digest: d for d in (self.config, *self.layers)}
        return tuple(sorted(unique.values(), key=lambda d: (-d.size, d.digest)))

    @property
    def total_bytes(self) -> int:
        """Of `blobs`: what a pull into an empty layout fetches."""
        return sum(d.size for d in self.blobs)

    def to_json(self) -> dict[str, Any]:
        """A plain value that `from_json` reads."""
        return {
            "reference": str(self.reference),
            "arch": self.arch,
            "target": self.target.to_json(),
            "manifest": self.manifest.to_json(),
            "config": self.config.to_json(),
            "layers": [d.to_json() for d in self.layers],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Resolved:
        """The inverse of `to_json`. Raises KeyError, ValueError or ConfigError."""
        target, manifest, config = (
            Descriptor.from_json(data[key]) for key in ("target", "manifest", "config")
        )
        return cls(
            Reference.parse(data["reference"]),
            str(data["arch"]),
            target,
            manifest,
            config,
            tuple(Descriptor.from_json(d) for d in data["layers"]),
        )


@dataclass(frozen=True)
class PulledImage:
    """An image that is on disk whole.

    `manifest` and `config` are byte for byte the registry's, `image` is what `config` says,
    `layers` a path each, lowest first, as in the manifest (one may stand there twice).
    """

    resolved: Resolved
    manifest: bytes
    config: bytes
    image: ImageConfig
    layers: tuple[Path, ...]


#: Told bytes that are there and bytes in all, in the caller's thread.
Progress = Callable[[int, int], None]


def resolve(
    client: Client | None,
    reference: Reference,
    arch: str,
    *,
    layout: Layout | None = None,
) -> Resolved:
    """What a name stands for now, for linux and `arch` (amd64, arm64).

    With a layout, manifests are read from there and kept there: for an image that has not
    changed, the registry is asked for one HEAD. Without a client (offline), the name stands
    for what it last stood for. Raises ConfigError when there is no such image, or none for
    this architecture, or it is no image; PreflightError when offline and the layout has not
    all of it; and what the client raises.
    """
    where = str(reference)
    digest = reference.digest or _ask_for_digest(client, reference, layout)
    target = _manifest(client, reference, digest, layout)
    manifest = target
    if target.is_index:
        child = choose_platform(target, arch, where)
        manifest = _manifest(client, reference, child.digest, layout)
    parts = image_manifest(manifest, where)
    config = layout.read(parts.config.digest) if layout else None
    if config is None:
        if client is None:
            raise _not_there(reference, [parts.config])
        config = client.get_blob(reference, parts.config)
        if layout:
            layout.write(config)
    check_image(image_config(config, where), len(parts.layers), arch, where)
    if layout and client:
        layout.remember(reference, target.descriptor)
    return Resolved(
        reference, arch, target.descriptor, manifest.descriptor, parts.config, parts.layers
    )


def pull(
    client: Client | None,
    resolved: Resolved,
    layout: Layout,
    *,
    progress: Progress | None = None,
) -> PulledImage:
    """Have the image whole in the layout: what is missing or damaged is fetched.

    The biggest blobs first, a few at a time, each once, however many processes want it.
    Without a client (offline) nothing is fetched: PreflightError names what is missing.
    Raises BuildError when the registry sends wrong bytes, and what the client raises.
    """
    manifest = _manifest(client, resolved.reference, resolved.manifest.digest, layout)
    _Fetch(client, resolved, layout).run(progress)
    config = layout.read(resolved.config.digest)
    if config is None:
        raise _not_there(resolved.reference, [resolved.config])
    where = str(resolved.reference)
    image = image_config(config, where)
    check_image(image, len(resolved.layers), resolved.arch, where)
    paths = tuple(layout.path(d.digest) for d in resolved.layers)
    return PulledImage(resolved, manifest.data, config, image, paths)


def _ask_for_digest(client: Client | None, reference: Reference, layout: Layout | None) -> str:
    if client is None:
        known = layout.recall(reference) if layout else None
        if known is None:
            raise PreflightError(
                "it is not known what the name of an image stands for",
                where=str(reference),
                detail="it has not been asked for on this host, and --offline forbids to ask",
                hint="run once without --offline, or name the image by its digest",
            )
        return known.digest
    found = client.head_manifest(reference)
    # For a tag that is not there, GET says so in the registry's own words.
    return found.digest if found else client.get_manifest(reference).digest


def _manifest(
    client: Client | None, reference: Reference, digest: str, layout: Layout | None
) -> Manifest:
    data = layout.read(digest) if layout else None
    if data is not None:
        return read_manifest(data, "", str(reference))
    if client is None:
        raise _not_there(reference, [Descriptor("manifest", digest, 0)])
    manifest = client.get_manifest(reference.at(digest))
    if layout:
        layout.write(manifest.data)
    return manifest


def _not_there(reference: Reference, missing: Iterable[Descriptor]) -> PreflightError:
    return PreflightError(
        "parts of a container image are not on this host",
        where=str(reference),
        detail="\n".join(f"{d.digest} ({d.media_type}, {d.size} bytes)" for d in missing),
        hint="run once without --offline",
    )


class _Fetch:
    """One pull: threads fetch, the caller's own thread hears of it and waits.

    The threads do not keep the tool alive (`daemon`): after Ctrl-C nobody waits for a server
    that says nothing.
    """

    def __init__(self, client: Client | None, resolved: Resolved, layout: Layout) -> None:
        self._client = client
        self._resolved = resolved
        self._layout = layout
        self._stop = threading.Event()
        self._jobs: queue.SimpleQueue[Descriptor] = queue.SimpleQueue()
        #: Bytes that are there of a blob; an error; None: a thread has ended.
        self._news: queue.SimpleQueue[tuple[str, int] | Exception | None] = queue.SimpleQueue()
        self._missing: list[Descriptor] = []

    def run(self, progress: Progress | None) -> None:
        """Raises the first error of a thread, the others having been stopped."""
        blobs = self._resolved.blobs
        for blob in blobs:
            self._jobs.put(blob)
        threads = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(min(_AT_ONCE, len(blobs)))
        ]
        there: dict[str, int] = {}
        try:
            for thread in threads:
                thread.start()
            ended = 0
            while ended < len(threads):
                news = self._news.get()
                if isinstance(news, Exception):
                    raise news
                if news is None:
                    ended += 1
                else:
                    there[news[0]] = news[1]
                    if progress:
                        progress(sum(there.values()), self._resolved.total_bytes)
        finally:
            self._stop.set()
            for thread in threads:
                if thread.is_alive():
                    thread.join(_PATIENCE)
        if self._missing:
            raise _not_there(self._resolved.reference, self._missing)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                blob = self._jobs.get_nowait()
                if self._layout.is_whole(blob):
                    self._news.put((blob.digest, blob.size))
                elif self._client is None:
                    self._missing.append(blob)
                else:
                    self._fetch(self._client, blob)
        except queue.Empty:
            self._news.put(None)
        except StoppedError:
            pass
        except Exception as exc:  # noqa: BLE001 - the caller's thread raises it
            self._news.put(exc)

    def _fetch(self, client: Client, blob: Descriptor) -> None:
        from imagebuild.registry.problems import wrong_content

        reference = self._resolved.reference
        # A second time: a piece that an earlier run left may be what was damaged.
        for _ in range(2):
            try:
                with self._layout.ingest(blob, self._stop) as ingest:
                    if ingest:
                        self._news.put((blob.digest, ingest.size))
                        for block in client.open_blob(reference, blob, ingest.size):
                            ingest.write(block)
                            self._news.put((blob.digest, ingest.size))
                            if self._stop.is_set():
                                raise StoppedError
            except DamagedError:
                continue
            self._news.put((blob.digest, blob.size))
            return
        raise wrong_content(reference, blob.digest, "twice, the bytes had another digest")
