"""What may be removed from the cache, and its removal. A build that lives keeps its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from imagebuild.errors import TemporaryError
from imagebuild.events import Event
from imagebuild.host import scratch
from imagebuild.host.worker import Worker

#: What lies in the cache beside scratch and trees, and is made anew when it is wanted.
_DOWNLOADS = ("sources", "dib", "logs")


def find(cache: Path, *, everything: bool) -> list[Path]:
    """Scratch that no build owns; with `everything` also trees that no build uses, and,
    when no build is running, downloads and logs.
    """
    found = scratch.abandoned(cache / "scratch")
    if not everything:
        return found
    trees = sorted((cache / "trees").glob("*"))
    found += [t for t in trees if not _is_locked(cache, t)]
    running = [p for p in _directories(cache / "scratch") if p not in found]
    if not running:
        found += [cache / name for name in _DOWNLOADS if (cache / name).exists()]
    return found


def remove(cache: Path, found: Sequence[Path]) -> None:
    """Remove what `find` found, as root; a tree that a build took meanwhile stays.

    Raises PreflightError when root rights cannot be had.
    """
    with ExitStack() as held, Worker(_ignore) as worker:
        paths = []
        for path in found:
            if path.parent == cache / "trees":
                lock = cache / "locks" / f"{path.name}.lock"
                try:
                    held.enter_context(scratch.lock(lock, wait=False))
                except TemporaryError:
                    continue
            if path.parent != cache / "scratch":
                paths.append(str(path))
        worker.call("sweep", root=str(cache / "scratch"))
        worker.call("remove", paths=paths)


def _is_locked(cache: Path, tree: Path) -> bool:
    try:
        with scratch.lock(cache / "locks" / f"{tree.name}.lock", wait=False):
            return False
    except TemporaryError:
        return True


def _directories(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def _ignore(event: Event) -> None:
    """Removal has no progress to show."""
