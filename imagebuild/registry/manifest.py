"""Manifests, indexes and image configurations: read, checked, and a platform chosen.

Formats: OCI image specification 1.1 (manifest.md, image-index.md, config.md, descriptor.md)
and docker's image manifest version 2, schema 2, which says the same with other media types.
What does not have their form is a ConfigError: the reference names no image that we can use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagebuild.digest import of_bytes
from imagebuild.errors import ConfigError
from imagebuild.files import MIB
from imagebuild.registry.reference import DIGEST

#: What registries take at most (distribution specification, "Pushing Manifests").
LARGEST_MANIFEST = 4 * MIB
#: Of a blob that is read into memory: configurations.
LARGEST_SMALL_BLOB = 8 * MIB

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
INDEXES = (
    f"{_OCI}.index.v1+json",
    f"{_DOCKER}.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    f"{_OCI}.manifest.v1+json",
    f"{_DOCKER}.distribution.manifest.v2+json",
)
#: Asked for so that a registry says what it has: without it some make a schema 1 of it.
SCHEMA_1 = (
    f"{_DOCKER}.distribution.manifest.v1+prettyjws",
    f"{_DOCKER}.distribution.manifest.v1+json",
)
#: Of images; what else has a configuration is an artifact.
IMAGE_CONFIGS = (
    f"{_OCI}.config.v1+json",
    f"{_DOCKER}.container.image.v1+json",
)
_LAYERS = (
    f"{_OCI}.layer.v1.tar",
    f"{_OCI}.layer.v1.tar+gzip",
    f"{_OCI}.layer.v1.tar+zstd",
    f"{_DOCKER}.image.rootfs.diff.tar",
    f"{_DOCKER}.image.rootfs.diff.tar.gzip",
    f"{_DOCKER}.image.rootfs.diff.tar.zstd",
)
#: Variants that every guest of an architecture can run (image-index.md, "Platform Variants").
_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}


@dataclass(frozen=True)
class Descriptor:
    """What a registry knows a blob or manifest by. `digest` is `sha256:HEX`, `size` in bytes."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def from_json(cls, data: object) -> Descriptor:
        """Read the form that manifests have. Raises ValueError: a digest may become a path."""
        if not isinstance(data, dict):
            raise ValueError("a descriptor is not an object")
        media_type, digest, size = data.get("mediaType"), data.get("digest"), data.get("size")
        if not isinstance(media_type, str):
            raise ValueError("a descriptor has no media type")
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise ValueError(f"a descriptor has no sha256 digest: {str(digest)[:100]!r}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"a descriptor has no size: {str(size)[:100]!r}")
        return cls(media_type, digest, size)

    def to_json(self) -> dict[str, Any]:
        """The form that manifests have."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Manifest:
    """A manifest or index, byte for byte as the registry has it; `digest` is that of `data`."""

    data: bytes
    digest: str
    media_type: str

    @property
    def descriptor(self) -> Descriptor:
        """What an index would call it."""
        return Descriptor(self.media_type, self.digest, len(self.data))

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests of several platforms."""
        return self.media_type in INDEXES


@dataclass(frozen=True)
class ImageManifest:
    """What an image is made of; the layers from the lowest up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class ImageConfig:
    """Of an image's configuration, what matters here. `diff_ids`: digests of the plain layers."""

    architecture: str
    variant: str
    os: str
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def platform(self) -> str:
        """As docker writes it: linux/arm64/v8."""
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def read_manifest(data: bytes, served_as: str, where: str) -> Manifest:
    """Give bytes their media type: their own word for it, or what the server said.

    Raises ConfigError for what is no manifest, and for one that could be read in two ways
    (GHSA-77vh-xpmg-72qh: a manifest that is an index, too).
    """
    document = _object(data, "manifest", where)
    own = document.get("mediaType")
    media_type = str(own or served_as.partition(";")[0].strip())
    if document.get("schemaVersion") == 1 or media_type in SCHEMA_1:
        media_type = SCHEMA_1[0]
    elif "manifests" in document and ("layers" in document or "config" in document):
        raise ConfigError("the manifest is an index and an image at once", where=where)
    elif not own and media_type not in (*INDEXES, *MANIFESTS):
        # OCI's `mediaType` is optional, and some servers serve all JSON as application/json.
        if "manifests" in document:
            media_type = INDEXES[0]
        elif "layers" in document and "config" in document:
            media_type = MANIFESTS[0]
    return Manifest(data, f"sha256:{of_bytes(data)}", media_type)


def choose_platform(index: Manifest, arch: str, where: str) -> Descriptor:
    """The manifest for linux and `arch` in an index: the first one that every guest can run.

    Raises ConfigError that lists the platforms there are.
    """
    entries = _object(index.data, "index", where).get("manifests")
    if not isinstance(entries, list):
        raise ConfigError("the index lists no manifests", where=where)
    found = [e for e in entries if isinstance(e, dict) and not _is_attestation(e)]
    images = [e for e in found if e.get("mediaType") in MANIFESTS]
    platforms = [_platform(e) for e in images]
    variants = _VARIANTS.get(arch, ("",))
    for entry, platform in zip(images, platforms, strict=True):
        if platform[:2] == ("linux", arch) and platform[2] in variants:
            return _descriptor(entry, where)
    # An index need not name platforms; of one image alone, its configuration will tell.
    if len(images) == 1 and not any(platforms[0]):
        return _descriptor(images[0], where)
    names = sorted({"/".join(filter(None, p)) or "no platform" for p in platforms})
    raise ConfigError(
        f"there is no image for linux/{arch}",
        where=where,
        detail=f"there are: {', '.join(names) or 'none at all'}",
        hint="take another tag, or build an image of one of these architectures",
    )


def image_manifest(manifest: Manifest, where: str) -> ImageManifest:
    """Configuration and layers. Raises ConfigError for all that docker cannot run."""
    if manifest.media_type in SCHEMA_1:
        raise ConfigError(
            "the image has docker's manifest schema 1, which docker no longer reads",
            where=where,
            hint="pull it with an old docker and push it again, or take a newer tag",
        )
    document = _object(manifest.data, "manifest", where)
    if manifest.media_type not in MANIFESTS:
        raise ConfigError(
            "this is no container image", where=where, detail=f"it is {manifest.media_type!r}"
        )
    config = _descriptor(document.get("config"), where)
    kind = document.get("artifactType") or config.media_type
    if config.media_type not in IMAGE_CONFIGS:
        raise ConfigError(
            "this is no container image",
            where=where,
            detail=f"an artifact of type {str(kind)[:200]!r}",
            hint="signatures, charts and the like share registries with images; check the tag",
        )
    entries = document.get("layers")
    if not isinstance(entries, list):
        raise ConfigError("the manifest lists no layers", where=where)
    layers = tuple(_descriptor(e, where) for e in entries)
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise ConfigError(
                "the image has a layer that a Linux guest cannot use",
                where=where,
                detail=f"{layer.digest} is {layer.media_type[:200]!r}",
            )
    return ImageManifest(config, layers)


def image_config(data: bytes, where: str) -> ImageConfig:
    """Read an image's configuration. Raises ConfigError."""
    document = _object(data, "image configuration", where)
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(
        isinstance(d, str) and DIGEST.fullmatch(d) for d in diff_ids
    ):
        raise ConfigError("the image configuration does not list its layers", where=where)
    section = document.get("config")
    labels = section.get("Labels") if isinstance(section, dict) else None
    return ImageConfig(
        architecture=str(document.get("architecture") or ""),
        variant=str(document.get("variant") or ""),
        os=str(document.get("os") or ""),
        diff_ids=tuple(diff_ids),
        labels={str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {},
    )


def check_image(config: ImageConfig, layers: int, arch: str, where: str) -> None:
    """Whether a guest of `arch` can run it, and its layers are all named. Raises ConfigError."""
    if (config.os, config.architecture) != ("linux", arch):
        raise ConfigError(
            f"there is no image for linux/{arch}",
            where=where,
            detail=f"there is: {config.platform or 'no platform'}",
            hint="take another tag, or build an image of that architecture",
        )
    if len(config.diff_ids) != layers:
        raise ConfigError(
            "manifest and configuration of the image do not fit together",
            where=where,
            detail=f"{layers} layers, {len(config.diff_ids)} diff_ids",
        )


def _object(data: bytes, what: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(f"the {what} is not the JSON that it should be", where=where)
    return document


def _descriptor(data: object, where: str) -> Descriptor:
    try:
        return Descriptor.from_json(data)
    except ValueError as exc:
        raise ConfigError("the manifest is damaged", where=where, detail=str(exc)) from exc


def _platform(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Operating system, architecture, variant; empty where they are not said."""
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return "", "", ""
    system, arch, variant = (str(platform.get(k) or "") for k in ("os", "architecture", "variant"))
    return system, arch, variant


def _is_attestation(entry: dict[str, Any]) -> bool:
    """BuildKit's manifests of provenance and SBOMs, which are no images (attestation-storage.md)"""
    annotations = entry.get("annotations")
    marked = isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations
    return marked or _platform(entry)[:2] == ("unknown", "unknown")
