"""Scratch space: one directory a build, below one root, owned by a lock.

A directory whose lock nobody holds belongs to a build that is dead; the next build
sweeps it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import PreflightError, TemporaryError
from imagebuild.host.namespace import remove_tree


@contextmanager
def lock(path: Path, *, shared: bool = False, wait: bool = True, what: str = "") -> Iterator[int]:
    """Hold a lock file (flock: released by the kernel when the process ends, however it does).

    Raises TemporaryError when somebody else holds it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TemporaryError(
                f"another build is busy with {what or path.name}",
                where=str(path),
                hint="wait for it to end, then try again",
            ) from exc
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file, shared or not."""
    try:
        with lock(path, wait=False):
            return False
    except TemporaryError:
        return True


def share(descriptor: int) -> None:
    """Turn an exclusive lock (the value of `lock`) into a shared one."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextmanager
def directory(root: Path, name: str) -> Iterator[Path]:
    """A new scratch directory for this build, `root/NAME-RANDOM`, locked while in use.

    It is not removed here: parts of it may belong to root (the worker's `sweep` does).
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PreflightError(
            "cannot make the scratch directory",
            where=str(root),
            detail=str(exc),
            hint="--cache-dir DIR (IMAGEBUILD_CACHE_DIR) chooses another place",
        ) from exc
    path = root / f"{name}-{secrets.token_hex(4)}"
    # The lock is beside the directory and taken first: a sweep never sees it unlocked.
    lock_file = root / f"{path.name}.lock"
    with lock(lock_file):
        path.mkdir()
        yield path


def abandoned(root: Path) -> list[Path]:
    """The scratch directories below `root` that no process holds the lock of."""
    return [p for p in directories(root) if not is_held(root / f"{p.name}.lock")]


def directories(root: Path) -> list[Path]:
    """The scratch directories below `root`, those of living builds included."""
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def sweep(root: Path) -> list[Path]:
    """Remove the directories that `abandoned` names."""
    removed = []
    for path in abandoned(root):
        lock_file = root / f"{path.name}.lock"
        with contextlib.suppress(TemporaryError), lock(lock_file, wait=False):
            remove_tree(path)
            lock_file.unlink(missing_ok=True)
            removed.append(path)
    return removed
