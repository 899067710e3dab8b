"""Older artifacts of a pipeline's cells go.

Of artifacts that share a link (`trove-guest-OS-RELEASE-ARCH`), so many stay for each cell that
builds one of that name. Whatever is, or may be, in use stays besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from imagebuild.claims import partial_of
from imagebuild.pipeline import artifacts
from imagebuild.pipeline.outcome import CellReport

_NAME = re.compile(r"(?P<link>trove-guest-.+)-[0-9a-f]{8}")


def prune(
    images: Path, cells: Sequence[CellReport], keep: int, *, since: float, spare: Iterable[Path]
) -> list[Path]:
    """Remove the oldest artifacts but `keep` a cell; returns what went.

    What stays besides: what a link, a cell of any pipeline (`artifacts`: jobs of its own may yet
    publish it) or one of `spare` leads to, what a build is replacing, and what is newer than
    `since` (seconds since 1970). Nothing is raised: what cannot be removed stays for the next
    night.
    """
    _sweep(images)
    built = [Path(c.artifact) for c in cells if c.artifact and Path(c.artifact).parent == images]
    links = Counter(m["link"] for p in built if (m := _NAME.fullmatch(p.name)))
    kept = {p.resolve() for p in (*spare, *built)}
    with contextlib.suppress(OSError):
        kept |= {p.resolve() for p in images.iterdir() if p.is_symlink()}
    kept |= {p.resolve() for p in artifacts.pointed(images)}
    gone = []
    for link, number in links.items():
        found = [(_age(p), p) for p in images.glob(f"{link}-*") if _is_artifact(p, link)]
        for age, path in sorted(found, reverse=True)[number * keep :]:
            if path.resolve() in kept or age >= since or partial_of(path).exists():
                continue
            with contextlib.suppress(OSError):
                _remove(path)
                gone.append(path)
    return gone


def _is_artifact(path: Path, link: str) -> bool:
    found = _NAME.fullmatch(path.name)
    is_ours = found is not None and found["link"] == link and not path.is_symlink()
    if not is_ours:
        return False
    try:
        document = json.loads((path / "manifest.json").read_text())
        return bool(document["name"] == path.name)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return (path / "manifest.json").stat().st_mtime
    return 0.0


def _remove(path: Path) -> None:
    """In one step out of sight, then for good."""
    hidden = path.with_name(f".{path.name}.removed-{os.getpid()}")
    path.rename(hidden)
    shutil.rmtree(hidden)


def _sweep(images: Path) -> None:
    """What a run that was killed has not removed to the end."""
    for left in images.glob(".trove-guest-*.removed-*"):
        shutil.rmtree(left, ignore_errors=True)
