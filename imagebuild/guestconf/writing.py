"""Rendered files → a directory: never over a file of somebody else's, each as a whole."""

from __future__ import annotations

import contextlib
import enum
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import ConfigError, PreflightError
from imagebuild.files import MIB, read_limited
from imagebuild.guestconf.layouts import MARK, RenderedFile


class Change(enum.Enum):
    """What writing does, or would do, to a file."""

    NEW = "new"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Written:
    """One file, and what became of it."""

    path: Path
    change: Change


def plan_writing(files: Sequence[RenderedFile], directory: Path) -> tuple[Written, ...]:
    """What `write` would do. Raises ConfigError for a file that is there and is not ours,
    PreflightError for one that cannot be read.
    """
    found = []
    for file in files:
        path = directory / file.path
        old = _read(path)
        if old is None:
            change = Change.NEW
        elif old == file.text.encode() and not (file.secret and path.stat().st_mode & 0o077):
            change = Change.UNCHANGED
        elif old.startswith(MARK.encode()):
            change = Change.REPLACED
        else:
            raise ConfigError(
                "there is a file of that name, and it is not ours",
                where=str(path),
                hint="write into another directory (--output), and merge the two",
            )
        found.append(Written(path, change))
    return tuple(found)


def write(files: Sequence[RenderedFile], directory: Path) -> tuple[Written, ...]:
    """Write the files: first all of them beside their places, then each is renamed.

    What holds a secret can be read by its owner alone. Raises as `plan_writing`, and
    PreflightError where nothing can be written; then no file was touched.
    """
    planned = plan_writing(files, directory)
    drafts: list[tuple[Path, Path]] = []
    try:
        for file, wanted in zip(files, planned, strict=True):
            if wanted.change is not Change.UNCHANGED:
                drafts.append((_draft(file, wanted.path), wanted.path))
        for draft, path in drafts:
            draft.replace(path)
    except OSError as exc:
        raise PreflightError(
            "the files cannot be written",
            where=str(exc.filename or directory),
            detail=exc.strerror or str(exc),
            hint="choose a directory that you may write to (--output)",
        ) from exc
    finally:
        for draft, _ in drafts:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
    return planned


def _draft(file: RenderedFile, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        draft.chmod(0o600 if file.secret else 0o644)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _read(path: Path) -> bytes | None:
    try:
        return read_limited(path, MIB)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise PreflightError(
            "a file that is there cannot be read",
            where=str(path),
            detail=exc.strerror or str(exc),
            hint="choose another directory (--output)",
        ) from exc
