"""A layer put on top of the root filesystem of a disk image, without a mount or root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagebuild.inventory import Entry


def apply(
    image: Path,
    offset: int,
    entries: Sequence[Entry],
    removed: Sequence[str],
    content: Path,
    *,
    epoch: int,
    work: Path,
) -> None:
    """Change the ext4 at `offset` of the file `image` as the layer says.

    `removed` are absolute paths that vanish with all below them. `entries` are paths that
    are new or changed, parents before children; the bytes of files lie at the same relative
    path below `content`, which is only read. A directory that is already there keeps what
    is in it. `work` is an existing directory for temporary files. When it fails, `image` is
    of no use any more. Raises ext4.NoRoomError, BuildError.
    """
    raise NotImplementedError
