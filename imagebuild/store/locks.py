"""Lock files that many users share and that are removed, too.

flock(2) needs no right to write; the right to set the time of the last use does, so a lock
file gets its mode before it gets its name, whatever the umask.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

#: How often, and after how many seconds, a lock that somebody seems to hold is tried again.
_MOMENTS, _MOMENT = 3, 0.01


@dataclass(frozen=True)
class Access:
    """Owner, group and mode (of directories) of what is made in a store."""

    uid: int
    gid: int
    mode: int

    @property
    def file_mode(self) -> int:
        """The mode of files that others with the same rights may write."""
        return self.mode & 0o666

    def give(self, path: Path | int, mode: int) -> None:
        """Set owner, group and mode of a path or descriptor."""
        info = os.stat(path)  # noqa: PTH116 - a descriptor, too
        if (info.st_uid, info.st_gid) != (self.uid, self.gid):
            os.chown(path, self.uid, self.gid)
        os.chmod(path, mode)  # noqa: PTH101


def acquire(
    path: Path, access: Access | None, *, shared: bool = False, wait: bool = True
) -> int | None:
    """Lock a file; the descriptor that holds the lock.

    None when somebody else holds it and `wait` is false, and when the file is not there
    and is not to be made (no `access`). Raises OSError.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    # A program that another thread is starting has our descriptors for a moment, until it
    # runs: a lock that was let go of may look held.
    patience = _MOMENTS
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if access is None:
                return None
            _make(path, access)
            continue
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            os.close(descriptor)
            if not patience:
                return None
            patience -= 1
            time.sleep(_MOMENT)
            continue
        except BaseException:
            os.close(descriptor)
            raise
        # Who held it may have removed the file, and another may have made a new one.
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def is_held(path: Path, *, shared_too: bool = True) -> bool:
    """Whether somebody holds the lock, shared or (without `shared_too`) exclusively."""
    try:
        descriptor = acquire(path, None, shared=not shared_too, wait=False)
    except PermissionError:
        return True  # not ours to know
    if descriptor is None:
        return path.exists()
    os.close(descriptor)
    return False


def _make(path: Path, access: Access) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        access.give(descriptor, access.file_mode)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
