"""One run of a cell at a time: a lock for each, held by the process and gone with it.

Runs of different cells of a pipeline, an engine's jobs on one host say, are not in each other's
way; what has a cell in common is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import PreflightError, TemporaryError

#: Below REPORTS/NAME. The files stay: removing one would let two hold "the" lock.
DIRECTORY = ".locks"


@contextmanager
def held(
    reports: Path, pipeline: str, cell_ids: Sequence[str], on_wait: Callable[[str], None] | None
) -> Iterator[None]:
    """Hold the locks of these cells.

    Somebody else's is waited for when `on_wait` is given (it is called with a sentence first),
    else it raises TemporaryError. Raises PreflightError where no lock can be made.
    """
    place = reports / pipeline / DIRECTORY
    with contextlib.ExitStack() as stack:
        # In one order, so that two that wait for each other's cells cannot be.
        for cell_id in sorted(cell_ids):
            descriptor = _open(place, cell_id)
            stack.callback(os.close, descriptor)
            _lock(descriptor, pipeline, cell_id, on_wait)
        yield


def _open(place: Path, cell_id: str) -> int:
    try:
        place.mkdir(parents=True, exist_ok=True)
        return os.open(place / f"{cell_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise PreflightError(
            "reports cannot be written there",
            where=str(place),
            detail=exc.strerror or str(exc),
            hint="--reports DIR chooses another directory",
        ) from exc


def _lock(
    descriptor: int, pipeline: str, cell_id: str, on_wait: Callable[[str], None] | None
) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        text = f"the pipeline {pipeline} is running (process {pid or 'unknown'})"
        if on_wait is None:
            raise TemporaryError(
                text, where=cell_id, hint="wait for it to end and try again, or say --wait"
            ) from exc
        on_wait(f"{text}: waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
