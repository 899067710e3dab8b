"""Tiny container images, as docker and BuildKit make them, for registries of tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.registry_server import RegistryServer

DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer with these files: the same bytes each time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0)


@dataclass(frozen=True)
class Image:
    """A manifest and the blobs that it names; of an index, the manifests that it names."""

    manifest: bytes
    media_type: str
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()
    platform: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    @property
    def entry(self) -> dict[str, Any]:
        """How an index names it."""
        named = descriptor(self.manifest, self.media_type)
        if self.platform:
            named["platform"] = dict(self.platform)
        if self.annotations:
            named["annotations"] = dict(self.annotations)
        return named

    def push(self, server: RegistryServer, repository: str, *tags: str) -> None:
        """Put all of it into a registry."""
        for child in self.children:
            child.push(server, repository)
        for blob in self.blobs:
            server.blob(repository, blob)
        for tag in tags or (self.digest,):
            server.manifest(repository, tag, self.manifest, self.media_type)


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": sha256(data)}


def image(
    layers: Sequence[bytes],
    arch: str = "amd64",
    *,
    variant: str = "",
    kinds: Mapping[str, str] = DOCKER,
    labels: Mapping[str, str] | None = None,
    **config: object,
) -> Image:
    """An image of one platform; `config` replaces keys of its configuration."""
    platform = {"os": "linux", "architecture": arch} | ({"variant": variant} if variant else {})
    document = platform | {
        "config": {"Labels": dict(labels or {})},
        "rootfs": {"type": "layers", "diff_ids": [sha256(gzip.decompress(x)) for x in layers]},
    }
    settings = json.dumps(document | config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": kinds["manifest"],
        "config": descriptor(settings, kinds["config"]),
        "layers": [descriptor(x, kinds["layer"]) for x in layers],
    }
    return Image(
        json.dumps(manifest, indent=3).encode(), kinds["manifest"], (settings, *layers),
        platform=platform,
    )  # fmt: skip


def attestation(of: Image) -> Image:
    """What BuildKit puts beside an image: provenance, for the platform unknown/unknown."""
    statement = json.dumps({"subject": of.digest}).encode()
    settings = b"{}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "config": descriptor(settings, OCI["config"]),
        "layers": [descriptor(statement, "application/vnd.in-toto+json")],
    }
    return Image(
        json.dumps(manifest).encode(), OCI["manifest"], (settings, statement),
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of.digest,
        },
    )  # fmt: skip


def index(*images: Image, kinds: Mapping[str, str] = OCI) -> Image:
    """An index over images, in this order."""
    document = {
        "schemaVersion": 2,
        "mediaType": kinds["index"],
        "manifests": [i.entry for i in images],
    }
    return Image(json.dumps(document).encode(), kinds["index"], children=images)


def artifact(of: Image | None, kind: str, data: bytes, **annotations: str) -> Image:
    """What refers to an image, as ORAS and cosign make it: an empty configuration, a `subject`."""
    empty = b"{}"
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "artifactType": kind,
        "config": descriptor(empty, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(data, kind)],
        "annotations": annotations,
    }
    if of:
        manifest["subject"] = descriptor(of.manifest, of.media_type)
    return Image(json.dumps(manifest).encode(), OCI["manifest"], (empty, data))


def noise(seed: int, size: int) -> bytes:
    """A layer that does not compress; the same bytes for the same seed."""
    return layer({f"noise-{seed}": random.Random(seed).randbytes(size)})  # noqa: S311 - content
