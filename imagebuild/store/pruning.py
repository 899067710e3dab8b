"""What leaves a store: what was longest unused, and what dead builds left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuild.store.objects import Object
from imagebuild.store.store import Call, Store


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: objects, and leftovers that are none."""

    objects: Sequence[Object]
    leftovers: Sequence[Path]


def prune(
    store: Store,
    call: Call | None,
    *,
    limit: int | None = None,
    older_than: float | None = None,
) -> Pruned:
    """Remove objects, the one longest unused first, until the store takes no more than `limit`
    bytes (None: no limit; 0: all); also those unused for `older_than` seconds; and leftovers.

    What a build holds stays. `call` is the worker's, and used only when there is something to
    remove; without it nothing is removed. Pass `store.limit` for the store's own limit.
    """
    raise NotImplementedError
