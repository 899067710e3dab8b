"""Digests over values and trees: what makes a content id a content id."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The one JSON form of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def of_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """sha256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def of_bytes(data: bytes) -> str:
    """sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """sha256 (hex) of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def of_directory(directory: Path) -> str:
    """sha256 (hex) over the relative path, type, mode and content of everything below.

    Python's byte code is left out: it comes and goes by itself. Times and owners do not
    count: they do not survive a checkout.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if "__pycache__" in relative.parts or path.suffix == ".pyc":
            continue
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            entry = ["link", str(relative), str(path.readlink())]
        elif stat.S_ISDIR(info.st_mode):
            entry = ["dir", str(relative), ""]
        else:
            # A checkout keeps the executable bit and no other.
            kind = "exec" if info.st_mode & stat.S_IXUSR else "file"
            entry = [kind, str(relative), of_file(path)]
        digest.update(canonical(entry) + b"\n")
    return digest.hexdigest()
