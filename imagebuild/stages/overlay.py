"""A finished tree, with its layers, as a place to work in: what is written lands elsewhere.

For the privileged worker: the mounts live in its private namespace and die with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.namespace import mounts_below, remove_tree
from imagebuild.host.run import run

# A layer holds plain files only: nothing that refers to the one below it.
_PLAIN = "redirect_dir=off,metacopy=off,index=off"
# A directory of the layers below is moved in one step, by a note in the upper directory.
_MOVING = "redirect_dir=on,metacopy=off,index=off"


@contextmanager
def overlay(lower: Sequence[Path], place: Path) -> Iterator[tuple[Path, Path]]:
    """Mount trees over each other, the topmost first, with /proc and /dev in them.

    Yields (root, upper): whatever is changed below `root` is found in `upper`, as
    overlayfs.rst has it, once `close` was called. `place` is a new directory, removed at the
    end with all in it: who wants to keep the upper directory moves it away before. It lies in
    memory when the filesystem of `place` cannot carry one (a container's own root). Raises
    BuildError.
    """
    with _mounted(lower, place, _PLAIN) as (root, upper):
        run(["mount", "-t", "proc", "proc", root / "proc"])
        run(["mount", "--bind", "/dev", root / "dev"])
        yield root, upper


@contextmanager
def workshop(objects: Sequence[Path], place: Path) -> Iterator[tuple[Path, Path]]:
    """The same for directories that hold trees: a tree below `root` can be moved at no cost."""
    with _mounted(objects, place, _MOVING) as mounted:
        yield mounted


@contextmanager
def view(lower: Sequence[Path], place: Path) -> Iterator[Path]:
    """Trees over each other, the topmost first, to read; as `overlay`, without a change."""
    if len(lower) == 1:
        yield lower[0]
        return
    place.mkdir(parents=True)
    try:
        _overlay(f"lowerdir={_joined(lower)},{_PLAIN}", place)
        yield place
    finally:
        remove_tree(place)


def close(root: Path) -> None:
    """Unmount what `overlay` or `workshop` gave: its upper directory then holds all changes."""
    for point in mounts_below(root):
        run(["umount", point], what="a process of the build still uses its tree")


@contextmanager
def _mounted(lower: Sequence[Path], place: Path, options: str) -> Iterator[tuple[Path, Path]]:
    place.mkdir(parents=True)
    try:
        try:
            mounted = _mount(lower, place, options)
        except BuildError:
            run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", place])
            mounted = _mount(lower, place, options)
        yield mounted
    finally:
        remove_tree(place)  # unmounts first


def _mount(lower: Sequence[Path], place: Path, options: str) -> tuple[Path, Path]:
    root, upper, work = (place / n for n in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir(exist_ok=True)
    layers = f"lowerdir={_joined(lower)},upperdir={upper},workdir={work},{options}"
    try:
        # Linux 5.10. A build that is cut off is not used: no file need be on the disk before
        # the next one is written, and what else is being written need not be waited for.
        _overlay(f"{layers},volatile", root)
    except BuildError:
        _overlay(layers, root)
    return root, upper


def _joined(lower: Sequence[Path]) -> str:
    return ":".join(map(str, lower))


def _overlay(options: str, place: Path) -> None:
    run(
        ["mount", "-t", "overlay", "overlay", "-o", options, place],
        what="cannot lay the trees of the build over each other",
    )
