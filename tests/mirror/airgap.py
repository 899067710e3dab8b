"""A source and a target registry, and lists that go from one to the other, for exports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imagebuild.config.mirrorlist import Target
from imagebuild.mirror.items import Item
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.container_images import OCI, Image, attestation, image, index, layer
from tests.registry_server import RegistryServer


@dataclass(frozen=True)
class Sites:
    """Registries that do not know of each other."""

    source: RegistryServer
    target: RegistryServer

    def item(self, repository: str, tag: str = "1", **more: object) -> Item:
        """What a list would have: below the prefix `trove` of a registry that is not there."""
        return Item(
            Reference(self.source.host, repository, tag),
            Reference("registry.invalid:5000", f"trove/{repository}", tag),
            **more,  # type: ignore[arg-type]
        )

    def at_target(self, repository: str, tag: str = "1") -> Reference:
        """Where an import brings it."""
        return Reference(self.target.host, f"trove/{repository}", tag)


LIST_TARGET = Target(registry="registry.invalid:5000", prefix="trove")


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return hashlib.shake_128(seed.encode()).digest(size)


def whole_index(seed: str, size: int = 2000) -> Image:
    """An index of two platforms with an attestation."""
    common = layer({"common": noise(f"common {seed}", size)})
    amd64 = image([common, layer({"a": noise(f"amd64 {seed}", 300)})], kinds=OCI)
    arm64 = image([common, layer({"a": noise(f"arm64 {seed}", 300)})], "arm64", kinds=OCI)
    return index(amd64, arm64, attestation(amd64))


@contextmanager
def client() -> Iterator[Client]:
    """A client without logins."""
    with Client(environ={}) as opened:
        yield opened
