"""Scratch of one machine: overlay, variables, sockets. What a killed run leaves is swept."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host import scratch

PREFIX = "verify-"


@dataclass
class Place:
    """A directory of this run. `lock`: the descriptor that says so; who inherits it keeps the
    directory from being swept. With `keep` it stays when the block ends.
    """

    path: Path
    lock: int
    keep: bool = False


@contextlib.contextmanager
def place(root: Path) -> Iterator[Place]:
    """A new directory below `root` (that of all scratch), removed at the end.

    It is closed to others: a root shell of the guest is in it. Raises PreflightError when it
    cannot be made.
    """
    sweep(root)
    path = root / f"{PREFIX}{secrets.token_hex(4)}"
    lock_file = root / f"{path.name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with scratch.lock(lock_file) as descriptor:
            path.mkdir(mode=0o700)
            made = Place(path, descriptor)
            try:
                yield made
            finally:
                if not made.keep:
                    shutil.rmtree(path, ignore_errors=True)
                    lock_file.unlink(missing_ok=True)
    except PermissionError as exc:
        raise PreflightError(
            "cannot make the scratch directory",
            where=str(root),
            detail=str(exc),
            hint="--cache-dir DIR (IMAGEBUILD_CACHE_DIR) chooses another place",
        ) from exc


def sweep(root: Path) -> list[Path]:
    """Remove the directories of runs that are dead; returns those that are gone."""
    removed = []
    for path in scratch.abandoned(root):
        # Another user's stays: `imagebuild clean` removes it with root's rights.
        if path.name.startswith(PREFIX):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                (root / f"{path.name}.lock").unlink(missing_ok=True)
                removed.append(path)
    return removed
