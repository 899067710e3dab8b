"""Manifests, indexes and image configurations: read, checked, and a platform chosen.

Formats: OCI image specification 1.1 (manifest.md, image-index.md, config.md, descriptor.md)
and docker's image manifest version 2, schema 2, which says the same with other media types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Descriptor:
    """What a registry knows a blob or manifest by. `digest` is `sha256:HEX`, `size` in bytes."""

    media_type: str
    digest: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """The form that a manifest has it in."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Manifest:
    """A manifest or index, byte for byte as the registry has it; `digest` is that of `data`."""

    data: bytes
    digest: str
    media_type: str


@dataclass(frozen=True)
class ImageConfig:
    """Of an image's configuration, what matters here. `diff_ids`: of the unpacked layers."""

    architecture: str
    os: str
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]
