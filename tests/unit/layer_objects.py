"""Trees and layers as the store has them, made by hand; the worker puts them together."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from imagebuild import inventory, layers
from imagebuild.inventory import Entry
from imagebuild.stages.stack import Stack
from imagebuild.store.objects import INVENTORY, TREE

TIME = 1_600_000_000


def write(tree: Path, files: Mapping[str, str]) -> None:
    """Files by path; `-> ` begins the target of a link, a name with a slash at its end is a
    directory's.
    """
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)


def base_object(place: Path, files: Mapping[str, str]) -> Path:
    """The object of a base."""
    tree = place / TREE
    tree.mkdir(parents=True, exist_ok=True)
    write(tree, {"proc/": "", "dev/": "", "etc/imagebuild/": "", **files})
    inventory.clamp_times(tree, TIME)
    inventory.write(inventory.walk(tree), place / INVENTORY)
    return place


def layer_object(
    place: Path, below: Stack, files: Mapping[str, str], removed: tuple[str, ...] = ()
) -> Path:
    """The object of a layer: files that are new or changed, paths that vanish."""
    whole = place.with_name(f"{place.name}-whole")
    subprocess.run(["cp", "-a", f"{below.base}/.", whole], check=True)
    for layer, directory in below.layers():
        subprocess.run(["cp", "-a", f"{directory}/.", whole], check=True)
        assert layer.removed == ()
    for path in removed:
        (whole / path[1:]).unlink()
    write(whole, files)
    inventory.clamp_times(whole, TIME)
    old = below.entries()
    layer = layers.difference(old, inventory.walk(whole))
    place.mkdir()
    layers.take(whole, layer, place / TREE, old)
    layers.write(layer, place / layers.FILE_NAME)
    return place


def by_path(entries: list[Entry]) -> dict[str, Entry]:
    """The entries of an inventory by their paths."""
    return {e.path: e for e in entries}
