"""The tasks of the privileged worker (see imagebuild/host/worker.py), by name.

Each takes `emit` and JSON values, and answers with a JSON object. Paths are absolute and
belong to the user's own cache; the worker chowns what the user must be able to read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagebuild.components import Container
from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host import scratch, trial
from imagebuild.host.namespace import remove_tree
from imagebuild.layers import FILE_NAME as LAYER
from imagebuild.layers import read as read_layer
from imagebuild.stages import code, disk, trees, wheelbuild
from imagebuild.stages import describe as describing
from imagebuild.stages.stack import Stack
from imagebuild.store import sealing
from imagebuild.store.objects import TREE
from imagebuild.store.remote import trees as remote_trees
from imagebuild.store.remote.stream import DamagedError


def sweep(*, emit: Emit, root: str) -> dict[str, Any]:  # noqa: ARG001
    """Remove scratch directories that no living build owns."""
    return {"removed": [str(p) for p in scratch.sweep(Path(root))]}


def compose(
    *,
    emit: Emit,
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    elements: Sequence[tuple[str, str]],
    paths: Mapping[str, str],
    below: Sequence[str] | None,
    draft: str,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Run DIB for the base or for a layer (see trees.compose)."""
    hooks = trees.compose(
        name,
        argv,
        environment,
        [(n, Path(p)) for n, p in elements],
        paths,
        below=None if below is None else Stack.of(below),
        draft=Path(draft),
        emit=emit,
        seconds=seconds,
        epoch=epoch,
    )
    return {"hooks": hooks}


def install_code(
    *,
    emit: Emit,
    below: Sequence[str],
    wheel: str,
    sha256: str,
    draft: str,
    scratch_dir: str,
    epoch: int,
    seconds: float | None,
) -> dict[str, Any]:
    """Install the agent's own wheel as a layer (see code.install)."""
    code.install(
        Stack.of(below),
        Path(wheel),
        sha256,
        Path(draft),
        Path(scratch_dir),
        epoch=epoch,
        emit=emit,
        seconds=seconds,
    )
    return {}


def describe(
    *,
    emit: Emit,  # noqa: ARG001
    system: Sequence[str],
    containers: Sequence[str],
    content: Mapping[str, Any],
    made_of: Sequence[Mapping[str, Any]],
    draft: str,
    owner: Sequence[int],
    epoch: int,
) -> dict[str, Any]:
    """Describe the finished filesystem (see describe.describe)."""
    answer = describing.describe(
        Stack.of(system),
        Stack.of(containers),
        content,
        [Container.from_json(dict(c)) for c in made_of],
        Path(draft),
        epoch=epoch,
    )
    for path in (Path(draft), *Path(draft).iterdir()):
        os.chown(path, owner[0], owner[1])
    return answer


def build_wheels(
    *,
    emit: Emit,
    below: Sequence[str],
    scratch_dir: str,
    request: Mapping[str, Any],
    network: Mapping[str, str],
    owner: Sequence[int],
) -> dict[str, Any]:
    """Build wheels in a throw-away copy of a tree (see wheelbuild.build)."""
    wheels = wheelbuild.build(Stack.of(below), Path(scratch_dir), request, network, emit)
    for wheel in wheels:
        os.chown(wheel, owner[0], owner[1])
    return {"wheels": [str(w) for w in wheels]}


def make_disk(
    *,
    emit: Emit,  # noqa: ARG001
    base: str,
    raw: str,
    spec: Mapping[str, Any],
    scratch_dir: str,
    owner: Sequence[int],
) -> dict[str, Any]:
    """Make the disk of the base alone (see disk.make_disk); it then is the user's."""
    disk.make_disk(Stack.of([base]).base, Path(raw), disk.DiskSpec(**spec), Path(scratch_dir))
    os.chown(raw, owner[0], owner[1])
    return {}


def add_layers(
    *,
    emit: Emit,
    layers: Sequence[str],
    raw: str,
    spec: Mapping[str, Any],
    scratch_dir: str,
) -> dict[str, Any]:
    """Add layers, objects of the store, to a disk (see disk.add_layer)."""
    for place in map(Path, layers):
        with _step(emit, "layer", place.name.partition("-")[0]):
            disk.add_layer(
                Path(raw),
                read_layer(place / LAYER),
                place / TREE,
                disk.DiskSpec(**spec),
                Path(scratch_dir),
            )
    return {}


@contextmanager
def _step(emit: Emit, phase: str, name: str) -> Iterator[None]:
    emit(StepStarted("disk", phase, name))
    started = time.monotonic()
    yield
    emit(StepFinished("disk", phase, name, round(time.monotonic() - started, 2)))


def load_container(
    *,
    emit: Emit,  # noqa: ARG001
    below: Sequence[str],
    image: Mapping[str, Any],
    draft: str,
    scratch_dir: str,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Have the base's own docker load a container, as a layer (see dockerlayer.load)."""
    from imagebuild.stages import dockerlayer
    from imagebuild.stages.imagetar import LocalImage

    return dockerlayer.load(
        Stack.of(below),
        LocalImage.from_json(dict(image)),
        Path(draft),
        Path(scratch_dir),
        seconds=seconds,
        epoch=epoch,
    )


def remove(*, emit: Emit, paths: Sequence[str]) -> dict[str, Any]:  # noqa: ARG001
    """Remove trees of root's, given by absolute path, from store or scratch."""
    for path in paths:
        remove_tree(Path(path))
    return {}


def seal_object(
    *,
    emit: Emit,  # noqa: ARG001
    draft: str,
    store: str,
    document: Mapping[str, Any],
    owner: Sequence[int],
    mode: int,
) -> dict[str, Any]:
    """Put a finished directory into the store (see sealing.seal)."""
    return sealing.seal(Path(draft), Path(store), document, (owner[0], owner[1]), mode)


def check_object(*, emit: Emit, path: str, deep: bool) -> dict[str, Any]:  # noqa: ARG001
    """What is damaged in an object of the store (see sealing.check)."""
    return {"damage": sealing.check(Path(path), deep=deep)}


def discard_objects(*, emit: Emit, paths: Sequence[str]) -> dict[str, Any]:  # noqa: ARG001
    """Remove objects from the store (see sealing.discard)."""
    sealing.discard([Path(p) for p in paths])
    return {}


def pack_tree(
    *,
    emit: Emit,  # noqa: ARG001
    directory: str,
    out: str,
    owner: Sequence[int],
) -> dict[str, Any]:
    """Pack the tree of an object into a file of the user's (see remote.trees.pack)."""
    remote_trees.pack(Path(directory), Path(out), (owner[0], owner[1]))
    return {}


def unpack_tree(*, emit: Emit, blob: str, directory: str) -> dict[str, Any]:  # noqa: ARG001
    """Make the tree of an object from such a file (see remote.trees.unpack); `damage` says what
    is wrong with it, or "".
    """
    try:
        remote_trees.unpack(Path(blob), Path(directory))
    except DamagedError as exc:
        return {"damage": str(exc)}
    return {"damage": ""}


def try_host(*, emit: Emit, directory: str) -> dict[str, Any]:  # noqa: ARG001
    """What root can do in `directory`, and with overlayfs: "" each, or why not (see trial)."""
    return {"files": trial.try_files(Path(directory)), "overlay": trial.try_overlay()}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "sweep": sweep,
    "compose": compose,
    "install_code": install_code,
    "describe": describe,
    "build_wheels": build_wheels,
    "make_disk": make_disk,
    "add_layers": add_layers,
    "load_container": load_container,
    "remove": remove,
    "seal_object": seal_object,
    "check_object": check_object,
    "discard_objects": discard_objects,
    "pack_tree": pack_tree,
    "unpack_tree": unpack_tree,
    "try_host": try_host,
}
