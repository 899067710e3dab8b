"""A container image as the stream that `docker load` takes, made from the blobs on disk.

Nothing is written: the archive exists only between us and the engine. There are two forms.
The classic stores (overlay2) read `manifest.json` (docker-archive; moby, tarexport/load.go)
and unpack gzip by themselves, zstd only since Docker 23. containerd's image store prefers an
OCI layout (containerd, images/archive/importer.go) and keeps manifest and layers as they are,
so that a later pull finds each of them by its digest.
"""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError
from imagebuild.host.run import need, spawn
from imagebuild.registry.manifest import Descriptor

_BLOCK = 1 << 20


@dataclass(frozen=True)
class LocalImage:
    """An image whose blobs are in an OCI layout, `layout`; `name` is the full name with its tag.

    `diff_ids` are the digests of the unpacked layers, as the configuration has them.
    """

    name: str
    layout: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain value that `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LocalImage:
        """The inverse of `to_json`."""
        return cls(
            name=data["name"],
            layout=data["layout"],
            manifest=Descriptor(**data["manifest"]),
            config=Descriptor(**data["config"]),
            layers=tuple(Descriptor(**d) for d in data["layers"]),
            diff_ids=tuple(data["diff_ids"]),
        )

    def path(self, blob: Descriptor) -> Path:
        """Where a blob is."""
        return Path(self.layout, "blobs", *blob.digest.split(":"))


def oci_stream(image: LocalImage) -> Iterator[bytes]:
    """An OCI layout (image-layout.md of the specification) with this one image."""
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": image.manifest.media_type,
                "digest": image.manifest.digest,
                "size": image.manifest.size,
                "annotations": {
                    # containerd takes the first for the image's name, other readers the second.
                    "io.containerd.image.name": image.name,
                    "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
                },
            }
        ],
    }
    yield from _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield from _member("index.json", json.dumps(index).encode())
    blobs = {b.digest: b for b in (image.manifest, image.config, *image.layers)}
    for blob in blobs.values():
        yield from _file("blobs/" + blob.digest.replace(":", "/"), image.path(blob))
    yield from _end()


def docker_stream(image: LocalImage, scratch: Path) -> Iterator[bytes]:
    """A docker-archive with this one image. `scratch` is a directory for one unpacked layer."""
    names = {b.digest: b.digest.replace(":", "/") for b in (image.config, *image.layers)}
    manifest = [
        {
            "Config": names[image.config.digest],
            "RepoTags": [image.name],
            "Layers": [names[layer.digest] for layer in image.layers],
        }
    ]
    yield from _member("manifest.json", json.dumps(manifest).encode())
    yield from _file(names[image.config.digest], image.path(image.config))
    for layer in dict.fromkeys(image.layers):
        path = image.path(layer)
        if layer.media_type.endswith("zstd"):
            path = _unpacked(path, scratch)
        yield from _file(names[layer.digest], path)
    yield from _end()


def _unpacked(layer: Path, scratch: Path) -> Path:
    # A member's size stands before it, so it has to be known: hence a file.
    target = scratch / "layer.tar"
    with target.open("wb") as file:
        process = spawn([need("zstd"), "-dc", "--", layer], stdout=file, die_with_parent=True)
        if process.wait():
            raise BuildError("cannot unpack a container's layer", where=str(layer))
    return target


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data)) + data + _padding(len(data))


def _file(name: str, path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield _header(name, size)
    left = size
    with path.open("rb") as file:
        while block := file.read(min(_BLOCK, left)):
            left -= len(block)
            yield block
    if left:
        raise BuildError("a container's layer became shorter while it was read", where=str(path))
    yield _padding(size)


def _end() -> Iterator[bytes]:
    yield bytes(2 * tarfile.BLOCKSIZE)
