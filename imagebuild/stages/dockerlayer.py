"""A preloaded container as a layer: what docker's store has more than before it was loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from imagebuild import inventory, layers
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import run
from imagebuild.stages import containers
from imagebuild.stages.engine import DIRECTORIES
from imagebuild.stages.imagetar import LocalImage
from imagebuild.stages.stack import Stack
from imagebuild.store.objects import TREE


def load(
    below: Stack,
    image: LocalImage,
    draft: Path,
    scratch: Path,
    *,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Load a container on top of `below`, the base and the containers before; the layer goes to
    `draft`.

    Unlike the agent's layers it is no overlay's: docker's own layers hold whiteouts, which are
    files like any other here. Returns what containers.load returns. Raises BuildError.
    """
    work = scratch / "container"
    work.mkdir()
    try:
        before = _earlier(below, work / "before")
        out, inner = work / "out", work / "scratch"
        inner.mkdir()
        report = containers.load(
            [below.base], before, image, out, scratch=inner, seconds=seconds, epoch=epoch
        )
        old = [e for e in below.entries() if _is_docker(e.path)]
        layer = layers.difference(old, (e for e in inventory.walk(out) if _is_docker(e.path)))
        layers.take(out, layer, draft / TREE, below.entries())
        layers.write(layer, draft / layers.FILE_NAME)
    finally:
        remove_tree(work)
    return report


def _earlier(below: Stack, place: Path) -> Path | None:
    """Docker's store as the containers before left it; None without any."""
    found = below.layers()
    if not found:
        return None
    place.mkdir()
    for layer, files in found:
        gone = [place / p[1:] for p in layer.removed]
        for path in gone:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        run(["cp", "--archive", "--reflink=auto", "--", f"{files}/.", place])
        present = {place / e.path[1:] for e in layer.entries}
        for path in gone:
            if path not in present:
                path.unlink()  # the whiteout that stands for it
    return place


def _is_docker(path: str) -> bool:
    return any(path == f"/{d}" or path.startswith(f"/{d}/") for d in DIRECTORIES)
