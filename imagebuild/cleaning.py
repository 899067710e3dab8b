"""What may be removed from the cache, and its removal. A build that lives keeps its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from imagebuild.errors import TemporaryError
from imagebuild.events import Event
from imagebuild.host import scratch
from imagebuild.host.worker import Worker
from imagebuild.store.pruning import prune
from imagebuild.store.store import Store

#: What lies in the cache beside scratch and the store, and is made anew when it is wanted.
_DOWNLOADS = ("sources", "containers", "resolved", "dib", "logs")


def find(cache: Path, *, everything: bool) -> list[Path]:
    """Scratch that no build owns, and trees that an earlier version kept; with `everything`
    also what no build uses of the cache's own store, control planes that nobody runs, and, when
    no build is running, downloads and logs.
    """
    found = scratch.abandoned(cache / "scratch")
    trees = sorted((cache / "trees").glob("*"))
    if everything:
        trees += sorted((cache / "verify").glob("*"))
    found += [t for t in trees if not scratch.is_held(_lock(cache, t))]
    limit = 0 if everything else None
    pruned = prune(Store(cache / "store"), None, limit=limit)
    found += [*(o.path for o in pruned.objects), *pruned.leftovers]
    if everything and all(p in found for p in scratch.directories(cache / "scratch")):
        found += [cache / name for name in _DOWNLOADS if (cache / name).exists()]
    return found


def remove(cache: Path, found: Sequence[Path], *, everything: bool) -> list[Path]:
    """Remove what `find` found, as root; what a build took meanwhile stays.

    Returns what is gone. Raises PreflightError when root rights cannot be had.
    """
    store = cache / "store"
    with ExitStack() as held, Worker(_ignore) as worker:
        paths = []
        for path in found:
            if path.parent in (cache / "scratch", store, store / "drafts"):
                continue  # swept below, under its own lock
            if path.parent in (cache / "trees", cache / "verify"):
                try:
                    held.enter_context(scratch.lock(_lock(cache, path), wait=False))
                except TemporaryError:
                    continue
            paths.append(path)
        swept = worker.call("sweep", root=str(cache / "scratch"))["removed"]
        pruned = prune(Store(store), worker.call, limit=0 if everything else None)
        worker.call("remove", paths=[str(p) for p in paths])
    stored = [*(o.path for o in pruned.objects), *pruned.leftovers]
    return [*map(Path, swept), *stored, *paths]


def _lock(cache: Path, tree: Path) -> Path:
    """The lock file that is held while a tree is used: by an earlier version's build, or by a
    control plane (verify.control.environment).
    """
    return cache / "locks" / f"{tree.name}.lock"


def _ignore(event: Event) -> None:
    """Removal has no progress to show."""
