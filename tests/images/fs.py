"""The root filesystem inside a raw disk image, as the image tests ask for it."""

from __future__ import annotations

from pathlib import Path

from imagebuild.verify.tree import Node, Tree


class ImageFs:
    """The product's own view of an image, with answers that suit an assert."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.tree = Tree(raw)
        self.partitions = self.tree.partitions

    @property
    def device(self) -> str:
        """The filesystem as e2fsprogs' programs name it."""
        return f"{self.raw}?offset={self.tree.offset}"

    def exists(self, path: str) -> bool:
        """Whether the path is there (a last link is not followed)."""
        return self.tree.exists(path)

    def read(self, path: str) -> str:
        """Content of a file; AssertionError when it is not there."""
        assert self.tree.resolve(path), f"{path} is not in the image"
        return self.tree.read_bytes(path).decode()

    def read_bytes(self, path: str) -> bytes:
        """Content of a file, as it is."""
        return self.tree.read_bytes(path)

    def listing(self, path: str) -> dict[str, Node]:
        """Entries of a directory by name; empty when it is not there."""
        return self.tree.listing(path)

    def names(self, path: str) -> set[str]:
        """Names in a directory."""
        return self.tree.names(path)

    def link(self, path: str) -> str:
        """Target of a symbolic link."""
        node = self.tree.get(path)
        assert node is not None, f"{path} is not in the image"
        assert node.is_link, f"{path} is no symbolic link"
        return node.link

    def extract(self, path: str, directory: Path) -> Path:
        """Copy a directory out of the image; returns the copy."""
        return self.tree.extract(path, directory)
