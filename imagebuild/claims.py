"""Claims on outputs: who writes an artifact or a file holds the only claim on its place.

The claim is a lock (flock) on the hidden file or directory beside the place in which the
output is put together. It works between builds with different caches, goes with the
process that holds it, however that ends, and leaves nothing behind: the output is
renamed, or what is unfinished is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import ImagebuildError, PreflightError, TemporaryError


def partial_of(output: Path) -> Path:
    """Where `output` is put together: hidden, beside it, on the same filesystem."""
    return output.parent / f".{output.name}.partial"


def sweep(directory: Path, pattern: str) -> list[Path]:
    """Remove what killed builds left of outputs in `directory` whose names match `pattern`.

    What somebody holds a claim on stays. Returns what is gone.
    """
    removed = []
    for partial in sorted(directory.glob(f".{pattern}.partial")):
        with contextlib.suppress(ImagebuildError, OSError):
            descriptor = _lock(partial, partial.is_dir(), partial, None)
            try:
                _remove(partial)
                removed.append(partial)
            finally:
                os.close(descriptor)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def claim_directory(output: Path, *, on_wait: Callable[[], None] | None) -> Iterator[Path]:
    """Claim the place of an artifact; yields the empty directory to fill and rename.

    Somebody else's claim is waited for when `on_wait` is given (it is called first), else
    it raises TemporaryError. Raises PreflightError when nothing can be written there.
    """
    with _claim(output, directory=True, on_wait=on_wait) as partial:
        # What a killed build left.
        for stale in partial.iterdir():
            _remove(stale)
        yield partial


@contextmanager
def claim_file(output: Path, *, on_wait: Callable[[], None] | None) -> Iterator[Path]:
    """Claim the place of a file; yields the empty file to write and rename."""
    with _claim(output, directory=False, on_wait=on_wait) as partial:
        yield partial


@contextmanager
def _claim(output: Path, *, directory: bool, on_wait: Callable[[], None] | None) -> Iterator[Path]:
    partial = partial_of(output)
    with _parents(output.parent):
        descriptor = _lock(partial, directory, output, on_wait)
        try:
            yield partial
        finally:
            # Renamed by now, or unfinished. Removed while the lock is held.
            if _is_at(descriptor, partial):
                _remove(partial)
            os.close(descriptor)


@contextmanager
def _parents(directory: Path) -> Iterator[None]:
    """Make a directory; remove what was made for nothing."""
    made = []
    at = directory
    while not at.exists():
        made.append(at)
        at = at.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _cannot_write(directory, exc) from exc
    try:
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # the output is in it
                path.rmdir()


def _lock(partial: Path, directory: bool, output: Path, on_wait: Callable[[], None] | None) -> int:
    """The locked descriptor of `partial`, which is made where it is not there."""
    while True:
        descriptor = _open(partial, directory)
        if descriptor is None:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if on_wait is None:
                os.close(descriptor)
                raise TemporaryError(
                    "another build is writing there",
                    where=str(output),
                    hint="wait for it to end and try again, or say --wait",
                ) from exc
            on_wait()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
        # Who held it before has renamed or removed it meanwhile?
        if _is_at(descriptor, partial):
            return descriptor
        os.close(descriptor)


def _open(partial: Path, directory: bool) -> int | None:
    """A descriptor; None when somebody removed the directory under our hands."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if not directory:
            return os.open(partial, flags | os.O_RDWR | os.O_CREAT, 0o644)
        partial.mkdir(exist_ok=True)
        return os.open(partial, flags | os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        if not partial.parent.is_dir():
            raise
        return None
    except OSError as exc:
        raise _cannot_write(partial, exc) from exc


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _cannot_write(path: Path, exc: OSError) -> PreflightError:
    return PreflightError(
        "cannot write there",
        where=str(path),
        detail=str(exc),
        hint="choose another place with -o, --artifacts or --images-dir",
    )
