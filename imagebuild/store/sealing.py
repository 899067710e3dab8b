"""Root's side of the store: an object is closed, checked, removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def seal(
    draft: Path,
    store: Path,
    document: Mapping[str, Any],
    owner: tuple[int, int],
    mode: int,
) -> dict[str, Any]:
    """Turn the directory `draft` into an object of `store` (see Store.seal); its document.

    `document` holds kind, id, image, inputs and facts; `mode` is that of directories that
    users of the store may write in. Everything but the tree's content then belongs to
    `owner`. The object appears under its name in one step, whole; a damaged one that was
    there is gone. Raises BuildError.
    """
    raise NotImplementedError


def look(path: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the names and sizes of an object's parts, in plain words."""
    raise NotImplementedError


def check(path: Path, *, deep: bool = False) -> list[str]:
    """What is damaged in the object at `path`, in plain words; nothing when it is whole.

    Files are read whole each time. A tree is read whole with `deep`, and when a look at its
    entries does not match its seal; otherwise that look is all. Where the
    whole tree is right, the seal is renewed. A tree needs root's rights.
    """
    raise NotImplementedError


def discard(paths: Sequence[Path]) -> None:
    """Remove objects. Their names are free at once, and nothing half-removed is ever seen."""
    raise NotImplementedError
