"""Find out what an image is, and fetch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.registry.client import Client
from imagebuild.registry.layout import Layout
from imagebuild.registry.manifest import Descriptor, ImageConfig
from imagebuild.registry.reference import Reference


@dataclass(frozen=True)
class Resolved:
    """An image of one architecture, pinned: everything below is by digest.

    `target` is what the tag points to: an index, or the manifest itself.
    """

    reference: Reference
    arch: str
    target: Descriptor
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def total_bytes(self) -> int:
        """What has to be there: manifest, configuration and layers, each once."""
        return sum({d.digest: d.size for d in (self.manifest, self.config, *self.layers)}.values())

    def to_json(self) -> dict[str, Any]:
        """A plain value that `from_json` reads."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Resolved:
        """The inverse of `to_json`."""
        raise NotImplementedError


@dataclass(frozen=True)
class PulledImage:
    """An image that is on disk whole. `layers`: a path each, lowest first, as in the manifest."""

    resolved: Resolved
    manifest: bytes
    config: bytes
    image: ImageConfig
    layers: tuple[Path, ...]


#: Told bytes there and bytes in all, in the caller's thread.
Progress = Callable[[int, int], None]


def resolve(
    client: Client, reference: Reference, arch: str, *, layout: Layout | None = None
) -> Resolved:
    """What the reference stands for now, for linux and `arch` (amd64, arm64)."""
    raise NotImplementedError


def pull(
    client: Client | None,
    resolved: Resolved,
    layout: Layout,
    *,
    progress: Progress | None = None,
    offline: bool = False,
) -> PulledImage:
    """Have the image whole on disk; what is missing or damaged is fetched."""
    raise NotImplementedError
