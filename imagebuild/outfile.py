"""Text files that others read while they are written anew: whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from imagebuild.errors import PreflightError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def put(path: Path, text: str) -> None:
    """Write a file that others read, whole or not at all. Raises PreflightError."""
    try:
        place = path.resolve()
        with tempfile.NamedTemporaryFile(
            "w", dir=place.parent, prefix=f".{place.name}-", delete=False, encoding="utf-8"
        ) as file:
            try:
                file.write(text)
                # node_exporter is another user.
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                Path(file.name).replace(place)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        hint = "make room there, or choose another place" if exc.errno in _FULL else ""
        raise _unwritable(path, exc.strerror or str(exc), hint) from exc


def check_place(path: Path, hint: str = "") -> None:
    """Raise PreflightError for a file that could not be written, before anything is done."""
    detail = ""
    directory = path.resolve().parent
    if path.is_dir():
        detail = "it is a directory"
    elif not directory.is_dir():
        detail = f"there is no directory {directory}"
    elif not os.access(directory, os.W_OK | os.X_OK):
        detail = f"{directory} is not ours to write to"
    if detail:
        raise _unwritable(path, detail, hint)


def _unwritable(path: Path, detail: str, hint: str = "") -> PreflightError:
    return PreflightError(
        "a file cannot be written",
        where=str(path),
        detail=detail,
        hint=hint or "its directory must be there, and ours to write to",
    )
