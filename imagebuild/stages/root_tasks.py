"""The tasks of the privileged worker (see imagebuild/host/worker.py), by name.

Each takes `emit` and JSON values, and answers with a JSON object. Paths are absolute and
belong to the user's own cache; the worker chowns what the user must be able to read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagebuild.events import Emit
from imagebuild.host import scratch, trial
from imagebuild.host.namespace import remove_tree
from imagebuild.stages import trees, wheelbuild


def sweep(*, emit: Emit, root: str) -> dict[str, Any]:  # noqa: ARG001
    """Remove scratch directories that no living build owns."""
    return {"removed": [str(p) for p in scratch.sweep(Path(root))]}


def compose(
    *,
    emit: Emit,
    stage: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    elements: Sequence[tuple[str, str]],
    paths: Mapping[str, str],
    seconds: float | None,
    content: Mapping[str, Any] | None = None,
    owner: Sequence[int] = (0, 0),
    epoch: int,
) -> dict[str, Any]:
    """Run DIB for a stage and put the tree into the store (see trees.compose)."""
    return trees.compose(
        stage,
        argv,
        environment,
        [(n, Path(p)) for n, p in elements],
        paths,
        emit=emit,
        seconds=seconds,
        content=content,
        owner=(owner[0], owner[1]),
        epoch=epoch,
    )


def build_wheels(
    *,
    emit: Emit,
    tree: str,
    scratch_dir: str,
    request: Mapping[str, Any],
    network: Mapping[str, str],
    owner: Sequence[int],
) -> dict[str, Any]:
    """Build wheels in a throw-away copy of a tree (see wheelbuild.build)."""
    wheels = wheelbuild.build(Path(tree), Path(scratch_dir), request, network, emit)
    for wheel in wheels:
        os.chown(wheel, owner[0], owner[1])
    return {"wheels": [str(w) for w in wheels]}


def make_disk(
    *,
    emit: Emit,  # noqa: ARG001
    tree: str,
    raw: str,
    spec: Mapping[str, Any],
    scratch_dir: str,
    owner: Sequence[int],
) -> dict[str, Any]:
    """Assemble the disk (see disk.make_disk); the raw file then belongs to the user."""
    from imagebuild.stages import disk

    report = disk.make_disk(Path(tree), Path(raw), disk.DiskSpec(**spec), Path(scratch_dir))
    os.chown(raw, owner[0], owner[1])
    return {"content_bytes": report.content_bytes, "free_bytes": report.free_bytes}


def load_container(
    *,
    emit: Emit,  # noqa: ARG001
    lower: Sequence[str],
    before: str | None,
    image: Mapping[str, Any],
    out: str,
    scratch_dir: str,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Have a tree's own docker load a container (see containers.load)."""
    from imagebuild.stages import containers
    from imagebuild.stages.imagetar import LocalImage

    return containers.load(
        [Path(p) for p in lower],
        Path(before) if before else None,
        LocalImage.from_json(dict(image)),
        Path(out),
        scratch=Path(scratch_dir),
        seconds=seconds,
        epoch=epoch,
    )


def remove(*, emit: Emit, paths: Sequence[str]) -> dict[str, Any]:  # noqa: ARG001
    """Remove trees of root's, given by absolute path, from store or scratch."""
    for path in paths:
        remove_tree(Path(path))
    return {}


def try_host(*, emit: Emit, directory: str) -> dict[str, Any]:  # noqa: ARG001
    """What root can do in `directory`, and with overlayfs: "" each, or why not (see trial)."""
    return {"files": trial.try_files(Path(directory)), "overlay": trial.try_overlay()}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "sweep": sweep,
    "compose": compose,
    "build_wheels": build_wheels,
    "make_disk": make_disk,
    "load_container": load_container,
    "remove": remove,
    "try_host": try_host,
}
