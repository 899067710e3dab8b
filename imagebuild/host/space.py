"""Full disks: noticed while a build runs, and explained by what lies on them.

A program that meets a full disk says so in its own words, or in none, and what it wrote
is gone a moment later. So a thread looks at the free space while the build runs, and
takes down what was there when it ran out.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from imagebuild.errors import ImagebuildError, PreflightError

#: What programs say when a filesystem is full (strerror of ENOSPC and EDQUOT; apt).
_SAID = re.compile(
    r"No space left on device|Disk quota exceeded|You don't have enough free space", re.IGNORECASE
)

#: Less than this counts as full, in bytes: a program that wants a block more than there is
#: leaves the rest free.
FULL = 8 << 20

#: A survey is taken below this: between here and full lies the time that it takes.
_LOW = 256 << 20

_PERIOD = 0.5  # seconds


@dataclass(frozen=True)
class Survey:
    """One filesystem, and what a build's own directories take of it. Sizes in bytes."""

    place: Path
    mount: Path
    size: int
    free: int
    users: tuple[tuple[str, int], ...]

    def describe(self) -> str:
        """One line a user, the largest first."""
        known = sum(size for _, size in self.users)
        rest = max(self.size - self.free - known, 0)
        rows = [*self.users, ("everything else on it", rest)]
        rows.sort(key=lambda row: -row[1])
        return "\n".join(f"{_human(size):>9}  {name}" for name, size in rows if size)


def says_full(error: BaseException) -> bool:
    """Whether an error is, or quotes, that of a full disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, ImagebuildError):
        return bool(_SAID.search(f"{error.what}\n{error.detail}"))
    return False


def survey(place: Path, users: Mapping[str, Path]) -> Survey:
    """Measure the filesystem of `place` and those of `users` (name → path) that lie on it."""
    at = existing(place)
    status = os.statvfs(at)
    device = at.stat().st_dev
    found = []
    for name, path in users.items():
        try:
            if path.lstat().st_dev == device:
                found.append((name, _disk_usage(path)))
        except OSError:
            continue  # not there, or gone meanwhile
    return Survey(
        place=place,
        mount=_mount_point(at),
        size=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        users=tuple(found),
    )


class SpaceWatch:
    """Watches the filesystems of some directories. Use as a context manager around a build.

    `users` are the directories that a build fills, by the names that people read.
    """

    def __init__(self, places: Sequence[Path], users: Mapping[str, Path]) -> None:
        self._places = _one_a_filesystem(places)
        self._users = users
        self._stop = threading.Event()
        self._surveys: dict[Path, Survey] = {}
        self._full: set[Path] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SpaceWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def explain(self, error: BaseException) -> PreflightError | None:
        """The error to raise instead, when a full disk is behind this one; else None."""
        self._look()
        if not (says_full(error) or self._full):
            return None
        full = [p for p in self._places if p in self._full]
        # Where the disk has been freed again before anybody looked: the least free one.
        place = full[0] if full else min(self._places, key=_free)
        report = self._surveys.get(place) or survey(place, self._users)
        lines = [f"{report.mount}, {_human(report.size)}, holds:", report.describe()]
        if isinstance(error, ImagebuildError):
            lines += ["it failed with:", error.what, *error.detail.splitlines()[-5:]]
        else:
            lines.append(str(error))
        return PreflightError(
            "the disk is full" if full else "there was no space left on a disk",
            where=f"the filesystem of {place}",
            detail="\n".join(lines),
            hint="free some space there (imagebuild clean --all empties the cache), or choose "
            "another place with --cache-dir, --images-dir or -o",
        )

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        for place in self._places:
            free = _free(place)
            if free < FULL:
                self._full.add(place)
            known = self._surveys.get(place)
            # A later survey replaces one that was taken with more space left.
            if free < _LOW and (known is None or free < known.free // 2):
                self._surveys[place] = survey(place, self._users)


def _one_a_filesystem(places: Sequence[Path]) -> list[Path]:
    found: dict[int, Path] = {}
    for place in places:
        found.setdefault(existing(place).stat().st_dev, place)
    return list(found.values())


def existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _free(place: Path) -> int:
    try:
        status = os.statvfs(existing(place))
    except OSError:
        return 1 << 62
    return status.f_bavail * status.f_frsize


def _mount_point(path: Path) -> Path:
    path = path.resolve()
    while not path.is_mount():
        path = path.parent
    return path


def _disk_usage(path: Path) -> int:
    """Bytes on disk of a file or of everything below a directory; what cannot be read is 0."""
    total = 0
    pending = [os.fspath(path)]
    seen: set[tuple[int, int]] = set()
    while pending:
        name = pending.pop()
        try:
            info = os.lstat(name)
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
            if stat.S_ISDIR(info.st_mode):
                with os.scandir(name) as entries:
                    pending += [e.path for e in entries]
        except OSError:
            continue  # closed to us, or gone meanwhile
    return total


def _human(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 29 else f"{size / (1 << 20):.0f} MiB"
