"""Who is uploading: one upload of a build into a project at a time, from this host.

A lock says so on the host; in the cloud a property of the unfinished image names the host,
by a word that was made up once and is kept in the cache.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from imagebuild import digest
from imagebuild.errors import PreflightError, TemporaryError
from imagebuild.store.locks import Access, acquire

_UPLOADER = "uploader"


def uploader(cache: Path) -> str:
    """The word for this host and cache. Raises PreflightError when it cannot be kept."""
    path = _directory(cache) / _UPLOADER
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            draft.write_text(secrets.token_hex(8))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        return path.read_text().strip()
    except OSError as exc:
        raise _unwritable(path, exc) from exc


@contextlib.contextmanager
def held(cache: Path, *key: str, where: str = "") -> Iterator[None]:
    """Hold the lock on an upload, named by the parts of its key; `where` is for people.

    Raises TemporaryError when another process has it.
    """
    path = _directory(cache) / f"{digest.of_value(list(key))[:24]}.lock"
    try:
        descriptor = acquire(path, Access(os.getuid(), os.getgid(), 0o700), wait=False)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    if descriptor is None:
        raise TemporaryError(
            "another process uploads this build to this project", where=where or " ".join(key),
            hint="wait for it to end, then try again",
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _directory(cache: Path) -> Path:
    path = cache / "upload"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    return path


def _unwritable(path: Path, exc: OSError) -> PreflightError:
    return PreflightError(
        "cannot write to the cache", where=str(path), detail=str(exc),
        hint="--cache-dir DIR (IMAGEBUILD_CACHE_DIR) chooses another place",
    )  # fmt: skip
