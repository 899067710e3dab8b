"""What leaves a store: what was longest unused, and what dead builds left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imagebuild.host import scratch
from imagebuild.store import locks
from imagebuild.store.objects import Object
from imagebuild.store.store import Call, Store

#: A file that is about to become a lock, or was, has done so after this many seconds.
_SETTLED = 3600


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: objects, and leftovers: directories that are none."""

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
    found = Pruned(_spare(store, limit, older_than), _leftovers(store))
    if call is None:
        return found
    with ExitStack() as held:
        gone = [o for o in found.objects if seize(store, o.path.name, held)]
        broken = [p for p in found.leftovers if p.parent == store.root]
        broken = [p for p in broken if seize(store, p.name, held)]
        if paths := [o.path for o in gone] + broken:
            call("discard_objects", paths=[str(p) for p in paths])
    swept = [p for p in found.leftovers if p.parent == store.drafts]
    if swept:
        call("sweep", root=str(store.drafts))
    _sweep_locks(store)
    return Pruned(gone, [*broken, *swept])


def _spare(store: Store, limit: int | None, older_than: float | None) -> list[Object]:
    """The objects that are to go, and that nobody holds."""
    found = store.objects()
    total = sum(o.size for o in found)
    before = None if older_than is None else time.time() - older_than
    chosen = []
    for one in found:
        is_too_much = limit is not None and total > limit
        is_old = before is not None and one.used < before
        if (is_too_much or is_old) and not store.is_held(one.key):
            chosen.append(one)
            total -= one.size
    return chosen


def _leftovers(store: Store) -> list[Path]:
    """Objects that cannot be read, and drafts that nobody works at."""
    known = {o.path for o in store.objects()}
    broken = [p for p in store.directories() if p not in known and not _is_held(store, p.name)]
    drafts = scratch.directories(store.drafts)
    return broken + [d for d in drafts if not locks.is_held(d.with_name(f"{d.name}.lock"))]


def _lock_paths(store: Store, name: str) -> tuple[Path, Path]:
    # In the order in which a build takes them.
    return store.root / "locks" / f"{name}.make", store.root / "locks" / f"{name}.use"


def _is_held(store: Store, name: str) -> bool:
    return any(locks.is_held(p) for p in _lock_paths(store, name))


def seize(store: Store, name: str, held: ExitStack) -> bool:
    """Hold both locks of an object until `held` ends, when they are removed; False when a
    build has one.
    """
    with ExitStack() as ours:
        for path in _lock_paths(store, name):
            descriptor = locks.acquire(path, store.access, wait=False)
            if descriptor is None:
                return False
            ours.callback(os.close, descriptor)
            ours.callback(path.unlink, missing_ok=True)  # before it is let go of
        held.enter_context(ours.pop_all())
    return True


def _sweep_locks(store: Store) -> None:
    """Remove lock files of what is not there, when nobody holds them."""
    files = list(_files(store.root / "locks"))
    hidden = [p for p in files if p.name.startswith(".")]
    for name in sorted({p.stem for p in files if p not in hidden}):
        if not (store.root / name).exists():
            with ExitStack() as held:
                seize(store, name, held)
    for path in (*hidden, *_files(store.drafts)):
        with contextlib.suppress(OSError):
            is_settled = time.time() - path.stat().st_mtime > _SETTLED
            if is_settled and not path.with_suffix("").exists() and not locks.is_held(path):
                path.unlink()


def _files(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from (p for p in directory.iterdir() if p.is_file())
