"""A finished tree, with its layers, as a place to work in: what is written lands elsewhere.

For the privileged worker: the mounts live in its private namespace and die with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import run

# A layer holds plain files only: nothing that refers to the one below it.
_OPTIONS = "redirect_dir=off,metacopy=off,index=off"


@contextmanager
def overlay(lower: Sequence[Path], place: Path) -> Iterator[tuple[Path, Path]]:
    """Mount trees over each other, the topmost first, with /proc and /dev in them.

    Yields (root, upper): whatever is changed below `root` is found in `upper`, as
    overlayfs.rst has it. `place` is a new directory, removed at the end with all in it: who
    wants to keep the upper directory moves it away before. It lies in memory when the
    filesystem of `place` cannot carry one (a container's own root). Raises BuildError.
    """
    place.mkdir(parents=True)
    try:
        root, upper = _mount(lower, place)
        run(["mount", "-t", "proc", "proc", root / "proc"])
        run(["mount", "--bind", "/dev", root / "dev"])
        yield root, upper
    finally:
        remove_tree(place)  # unmounts first


@contextmanager
def view(lower: Sequence[Path], place: Path) -> Iterator[Path]:
    """Trees over each other, the topmost first, to read; as `overlay`, without a change."""
    if len(lower) == 1:
        yield lower[0]
        return
    place.mkdir(parents=True)
    try:
        _overlay(f"lowerdir={_joined(lower)}", place)
        yield place
    finally:
        remove_tree(place)


def _mount(lower: Sequence[Path], place: Path) -> tuple[Path, Path]:
    try:
        return _try(lower, place)
    except BuildError:
        run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", place])
        return _try(lower, place)


def _try(lower: Sequence[Path], place: Path) -> tuple[Path, Path]:
    root, upper, work = (place / n for n in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir(exist_ok=True)
    _overlay(f"lowerdir={_joined(lower)},upperdir={upper},workdir={work}", root)
    return root, upper


def _joined(lower: Sequence[Path]) -> str:
    return ":".join(map(str, lower))


def _overlay(options: str, place: Path) -> None:
    run(
        ["mount", "-t", "overlay", "overlay", "-o", f"{options},{_OPTIONS}", place],
        what="cannot lay the trees of the build over each other",
    )
