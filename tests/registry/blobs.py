"""A blob that the tests send, and a client that does not wait for long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imagebuild.registry.client import Client
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.settings import RegistrySettings
from tests.container_images import image, layer, sha256
from tests.unit.registry_fake import noise

#: Larger than what sockets hold, so that a fault meets the middle of it.
DATA = noise(4_000_000)
TINY = image([layer({"hello": b"hello"})])


def blob_of(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", sha256(data), len(data))


BLOB = blob_of(DATA)


def connect(host: str, *, emit: Any = None, **settings: Any) -> Client:  # noqa: ANN401
    """Speaks to a registry without TLS, unless the settings say otherwise."""
    registry = RegistrySettings(host, **({"plain_http": "ca" not in settings} | settings))
    return Client([registry], environ={"HOME": "/nonexistent"}, emit=emit, first_wait=0.01)


class Reader:
    """Gives a blob's bytes, as often as it is asked; `times` says how often that was."""

    def __init__(self, data: bytes = DATA, block: int = 65_536) -> None:
        self.data = data
        self.block = block
        self.times = 0

    def __call__(self, start: int) -> Iterator[bytes]:
        self.times += 1
        for at in range(start, len(self.data), self.block):
            yield self.data[at : at + self.block]


def push_blobs(client: Client, reference: Any, *blobs: bytes) -> None:  # noqa: ANN401
    for data in blobs:
        client.push_blob(reference, blob_of(data), Reader(data))
