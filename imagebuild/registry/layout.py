"""Blobs on disk, by digest, in the form of an OCI image layout."""

from __future__ import annotations

from pathlib import Path


class Layout:
    """A directory of blobs that several threads and processes may use at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self.root / "blobs" / digest.replace(":", "/")
