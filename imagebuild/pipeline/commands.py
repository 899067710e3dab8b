"""Cell and phase → command lines of this tool. Pure.

The command line of a phase says all of it: run by hand, it does the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.config.pipeline import Publish, VersionToPromote
from imagebuild.pipeline.cells import ImageCell, MirrorCell, Places


@dataclass(frozen=True)
class Command:
    """`argv` after `imagebuild`; `target` tells commands of one phase apart. `seconds`: limit."""

    argv: tuple[str, ...]
    target: str = ""
    seconds: float | None = None


def mirror(cell: MirrorCell, places: Places) -> Command:
    """`mirror sync`."""
    raise NotImplementedError


def build(cell: ImageCell, places: Places) -> Command:
    """`build`."""
    raise NotImplementedError


def verify(cell: ImageCell, places: Places, artifact: str) -> Command:
    """`verify`."""
    raise NotImplementedError


def upload(cell: ImageCell, publish: Publish, places: Places, artifact: str) -> Command:
    """`upload`: as a candidate where there are versions to promote."""
    raise NotImplementedError


def register(publish: Publish, version: VersionToPromote, image: str) -> Command:
    """`datastore create`."""
    raise NotImplementedError


def promote(publish: Publish, version: VersionToPromote, image: str) -> Command:
    """`datastore promote`."""
    raise NotImplementedError


def retire(publish: Publish, datastore: str) -> Command:
    """`datastore retire`."""
    raise NotImplementedError
