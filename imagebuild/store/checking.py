"""All objects of a store, read and compared with their digests."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.store import locks
from imagebuild.store.pruning import seize
from imagebuild.store.store import Call, Store


@dataclass(frozen=True)
class Result:
    """What the check of one object found: nothing, when it is whole.

    `skipped`: a build is making it.
    """

    path: Path
    damage: tuple[str, ...] = ()
    skipped: bool = False
    removed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "path": str(self.path), "damage": list(self.damage)}


def verify(store: Store, call: Call, *, remove: bool = False) -> Iterator[Result]:
    """Check every object, all of its contents; with `remove`, a damaged one that no build uses
    is removed. `call` is the worker's.
    """
    for path in store.directories():
        # Nobody removes it meanwhile, and it is no half-made one's place.
        lock = store.root / "locks" / f"{path.name}.make"
        descriptor = locks.acquire(lock, store.access, wait=False)
        if descriptor is None:
            yield Result(path, skipped=True)
            continue
        try:
            if not path.exists():
                continue
            damage = tuple(call("check_object", path=str(path), deep=True)["damage"])
        finally:
            os.close(descriptor)
        if not damage or not remove:
            yield Result(path, damage)
            continue
        with ExitStack() as held:
            is_ours = seize(store, path.name, held)
            if is_ours:
                call("discard_objects", paths=[str(path)])
        yield Result(path, damage, removed=is_ours)
