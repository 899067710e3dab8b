"""Where images are copied from: a registry, or an OCI layout that was carried here.

The registry's client is a `Source` as it is; imagebuild/mirror/layoutsource.py makes one of a
directory or tar file. What copies (planning, copier) takes a source beside the client that it
writes with, and need not know which it is:

    make_plan(client, items, source=LayoutSource(…))
    run_plan(client, plan, source=LayoutSource(…))

Without one, the client reads, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from imagebuild.registry.manifest import Descriptor, Manifest
from imagebuild.registry.reference import Reference


class Source(Protocol):
    """What images are read from. The methods are those of `registry.client.Client`, and raise
    what those raise: ConfigError for what is not there, BuildError for what is damaged.

    Several threads may use it at once.
    """

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest stands for, None when there is none."""
        ...

    def get_manifest(self, reference: Reference) -> Manifest:
        """The manifest or index, its digest checked."""
        ...

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob, its digest checked."""
        ...

    def open_blob(self, reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes from `start` on; the caller checks the digest."""
        ...

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        """Manifests that refer to the reference's digest."""
        ...
