"""A base tree and the layers over it, as they lie in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuild import inventory, layers
from imagebuild.inventory import Entry
from imagebuild.layers import Layer
from imagebuild.stages.overlay import view
from imagebuild.store.objects import INVENTORY, TREE


@dataclass(frozen=True)
class Stack:
    """Objects of the store, the base first, then the layers in the order they are applied."""

    objects: tuple[Path, ...]

    @classmethod
    def of(cls, objects: Sequence[str | Path]) -> Stack:
        """The stack of these directories."""
        return cls(tuple(map(Path, objects)))

    @property
    def base(self) -> Path:
        """The base tree."""
        return self.objects[0] / TREE

    @property
    def trees(self) -> list[Path]:
        """The directories with files, the topmost first, as an overlay's `lowerdir` has them."""
        return [o / TREE for o in reversed(self.objects)]

    def layers(self) -> list[tuple[Layer, Path]]:
        """Each layer with the directory of its files, in order."""
        return [(layers.read(o / layers.FILE_NAME), o / TREE) for o in self.objects[1:]]

    def entries(self) -> list[Entry]:
        """The inventory of all of them as one tree."""
        base = inventory.read(self.objects[0] / INVENTORY)
        return layers.merge(base, *(layer for layer, _ in self.layers()))

    @contextmanager
    def seen(self, place: Path) -> Iterator[Path]:
        """All of them as one tree, to read; `place` is a new directory."""
        with view(self.trees, place) as tree:
            yield tree
