"""Layers: what one part of a build adds to the root filesystem below it.

A layer is a directory with the files that are new or changed, at their own paths, and a
list of them: that list says what is in the layer, the directory only has the bytes. An
image's root filesystem is the base tree and its layers, one over the other.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import inventory
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry

#: Name of the list in an object of the store.
FILE_NAME = "layer.jsonl.gz"
#: The kernel's own notes on an overlay's upper directory (overlayfs.rst): no content.
_OVERLAY = "trusted.overlay."
_OPAQUE, _REDIRECT = f"{_OVERLAY}opaque", f"{_OVERLAY}redirect"


@dataclass(frozen=True)
class Layer:
    """What is new or changed, and what is gone.

    `entries` is in the order of an inventory; `removed` names the topmost paths that vanish
    with all below them. What is removed goes first: an entry may stand at the same path.
    """

    entries: tuple[Entry, ...]
    removed: tuple[str, ...] = ()


def order(path: str) -> tuple[bytes, ...]:
    """The key by which an inventory is sorted: a directory before what is in it."""
    return tuple(os.fsencode(path).rstrip(b"/").split(b"/"))


def difference(below: Iterable[Entry], above: Iterable[Entry]) -> Layer:
    """The layer that makes `above` of `below` (whole inventories)."""
    old = {e.path: e for e in below}
    new = {e.path: e for e in above}
    gone = sorted((p for p in old if p not in new), key=order)
    changed = [e for e in new.values() if old.get(e.path) != e]
    replaced = [e.path for e in changed if e.path in old and old[e.path].kind != e.kind]
    return Layer(
        tuple(sorted(changed, key=lambda e: order(e.path))),
        tuple(_topmost([*gone, *replaced])),
    )


def merge(below: Iterable[Entry], *layers: Layer) -> list[Entry]:
    """The inventory of a tree with layers over it, in an inventory's order."""
    entries = {e.path: e for e in below}
    for layer in layers:
        if layer.removed:
            roots = set(layer.removed)
            for path in [p for p in entries if not roots.isdisjoint(_and_above(p))]:
                del entries[path]
        for entry in layer.entries:
            entries[entry.path] = entry
    return sorted(entries.values(), key=lambda e: order(e.path))


def of_upper(upper: Path, below: Iterable[Entry]) -> Layer:
    """The layer that an overlay's upper directory stands for (overlayfs.rst, "whiteouts and
    opaque directories"); `below` is the inventory of what was under it.

    Directories that were copied up and are as they were are left out. The kernel's notes on
    where a file came from are removed from the files: they are of no use, and differ each time.
    """
    old = {e.path: e for e in below}
    entries, removed = [], []
    opaque: set[str] = set()
    everything = list(inventory.walk(upper))
    for found in everything:
        entry = dataclasses.replace(
            found, xattrs={k: v for k, v in found.xattrs.items() if not k.startswith(_OVERLAY)}
        )
        for note in found.xattrs.keys() - entry.xattrs.keys() - {_OPAQUE}:
            if entry.same_as:
                continue  # gone with the first name
            os.removexattr(_inside(upper, entry.path), note, follow_symlinks=False)
        if entry.kind == "char" and entry.data == "0:0":
            removed.append(entry.path)
            continue
        if _OPAQUE in found.xattrs:
            opaque.add(entry.path)
        if old.get(entry.path) != entry:
            if entry.path in old and old[entry.path].kind != entry.kind:
                removed.append(entry.path)
            entries.append(entry)
    if opaque:
        present = {e.path for e in everything}
        hidden = (p for p in old if not opaque.isdisjoint(_and_above(p)[1:]))
        removed += [p for p in hidden if p not in present]
    return Layer(tuple(entries), tuple(_topmost(removed)))


def has_moved(upper: Path) -> bool:
    """Whether a directory below an upper directory was moved there from a layer below: it
    then is no layer by itself.
    """
    for here, directories, _ in os.walk(upper):
        for name in directories:
            path = Path(here, name)
            if not path.is_symlink() and _REDIRECT in os.listxattr(path):
                return True
    return False


def take(tree: Path, layer: Layer, directory: Path, below: Iterable[Entry]) -> None:
    """Move a layer's files out of the whole `tree` into the new `directory`; `tree` is spoilt.

    What is removed becomes a whiteout (a character device 0:0, overlayfs.rst), so that the
    directory can be a layer of an overlay over `below`.
    """
    known = {e.path: e for e in (*below, *layer.entries)}
    present = {e.path for e in layer.entries}
    made = ["/"]
    _make_like(tree, directory)
    for entry in layer.entries:
        _make_parents(tree, directory, entry.path, made)
        if entry.kind == "dir":
            _make_like(_inside(tree, entry.path), _inside(directory, entry.path))
            made.append(entry.path)
        else:
            _inside(tree, entry.path).rename(_inside(directory, entry.path))
    for path in layer.removed:
        if path not in present:
            _make_parents(tree, directory, path, made)
            os.mknod(_inside(directory, path), stat.S_IFCHR, os.makedev(0, 0))
    # What was moved changed the times of the directories on both sides.
    for path in reversed(made):
        os.utime(_inside(directory, path), (known[path].mtime, known[path].mtime))


def write(layer: Layer, path: Path) -> None:
    """Write the list. The same layer gives the same bytes."""
    head: dict[str, Any] = {"removed": list(layer.removed)}
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        file.write(json.dumps(head).encode() + b"\n")
        for entry in layer.entries:
            file.write(inventory.line(entry))


def read(path: Path) -> Layer:
    """The stored list. Raises ConfigError when it is damaged or not there."""
    try:
        with gzip.open(path, "rb") as file:
            head = json.loads(file.readline())
            entries = tuple(Entry(**json.loads(row)) for row in file)
        return Layer(entries, tuple(head["removed"]))
    except (OSError, EOFError, ValueError, TypeError, KeyError) as exc:
        raise ConfigError(
            "cannot read the list of a layer",
            where=str(path),
            detail=str(exc),
            hint="imagebuild cache verify --remove removes what is damaged",
        ) from exc


def _topmost(paths: Sequence[str]) -> list[str]:
    found: list[str] = []
    known: set[str] = set()
    for path in sorted(set(paths), key=order):
        if known.isdisjoint(_and_above(path)):
            found.append(path)
            known.add(path)
    return found


def _and_above(path: str) -> list[str]:
    """The path, and every directory that it lies in, but for the root."""
    found = []
    while path:
        found.append(path)
        path = path.rpartition("/")[0]
    return found


def _inside(tree: Path, path: str) -> Path:
    return tree / path.lstrip("/")


def _make_parents(tree: Path, directory: Path, path: str, made: list[str]) -> None:
    """Make the directories above a path as they are in the tree, where they are missing."""
    above = [p for p in _and_above(path)[1:] if not _inside(directory, p).exists()]
    for parent in reversed(above):
        _make_like(_inside(tree, parent), _inside(directory, parent))
        made.append(parent)


def _make_like(source: Path, target: Path) -> None:
    """A directory with the owner, mode, time and attributes of another."""
    info = source.lstat()
    target.mkdir(exist_ok=True)
    os.chown(target, info.st_uid, info.st_gid)
    target.chmod(stat.S_IMODE(info.st_mode))
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
