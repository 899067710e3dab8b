"""The registry's side of the network: manifests and blobs, over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from imagebuild.events import Emit
from imagebuild.registry.manifest import Descriptor, Manifest
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings


class Client:
    """Speaks to registries; may be used by several threads at once. Close it, or use `with`."""

    def __init__(
        self,
        registries: Iterable[RegistrySettings] = (),
        *,
        environ: Mapping[str, str] = os.environ,
        emit: Emit | None = None,
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest stands for, None when there is none: costs no pull quota."""
        raise NotImplementedError

    def get_manifest(self, reference: Reference) -> Manifest:
        """The manifest, by digest when the reference has one. Its digest has been checked."""
        raise NotImplementedError

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob, checked."""
        raise NotImplementedError

    def open_blob(self, reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes from `start` on; a cut connection is continued."""
        raise NotImplementedError
