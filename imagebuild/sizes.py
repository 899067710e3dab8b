"""Where the bytes of a root filesystem are: by directory, by package, by file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.components import NOBODY, Components
from imagebuild.inventory import Entry

#: A directory that is nearly all one directory below it is not worth a line of its own.
_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Directory:
    """A directory and the bytes of all files below it. `depth` counts the lines above it that
    it belongs to.
    """

    path: str
    bytes: int
    depth: int


@dataclass(frozen=True)
class PackageSize:
    """What a package really takes: `bytes` in `files` files.

    `kind` is deb or python; `installed_size` what a deb's control file says, in bytes.
    """

    kind: str
    name: str
    version: str
    arch: str
    bytes: int
    files: int
    installed_size: int | None


@dataclass(frozen=True)
class Unowned:
    """What belongs to no package."""

    bytes: int
    files: int
    largest: tuple[Entry, ...]


def to_json(value: Directory | PackageSize) -> dict[str, Any]:
    """Plain values."""
    return dataclasses.asdict(value)


def content(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The files that take bytes, each content once however many hard links it has."""
    return (e for e in entries if e.kind == "file" and not e.same_as)


def directories(entries: Iterable[Entry]) -> dict[str, int]:
    """Bytes below every directory that has any; "/" has them all."""
    own: dict[str, int] = {}
    for entry in content(entries):
        directory = entry.path.rpartition("/")[0]
        own[directory] = own.get(directory, 0) + entry.size
    sizes: dict[str, int] = {}
    for directory, size in own.items():
        sizes["/"] = sizes.get("/", 0) + size
        while directory:
            sizes[directory] = sizes.get(directory, 0) + size
            directory = directory.rpartition("/")[0]
    return sizes


def tree(sizes: Mapping[str, int], smallest: int, depth: int = 99) -> list[Directory]:
    """The directories of at least `smallest` bytes, largest first, each before those in it.

    Not more than `depth` levels. A directory that is nearly all one directory below it is
    left out for that one.
    """
    below: dict[str, list[str]] = {}
    for path, size in sizes.items():
        if path != "/" and size >= smallest:
            below.setdefault(path.rpartition("/")[0] or "/", []).append(path)
    rows: list[Directory] = []

    def add(path: str, level: int) -> None:
        for child in sorted(below.get(path, []), key=lambda p: (-sizes[p], p)):
            lowest = child
            while inner := below.get(lowest):
                biggest = max(inner, key=lambda p: sizes[p])
                if sizes[biggest] < _NEARLY_ALL * sizes[lowest]:
                    break
                lowest = biggest
            rows.append(Directory(lowest, sizes[lowest], level))
            if level + 1 < depth:
                add(lowest, level + 1)

    add("/", 0)
    return rows


def packages(entries: Sequence[Entry], made_of: Components) -> list[PackageSize]:
    """What each package takes, the largest first."""
    totals = [0] * (len(made_of.debs) + len(made_of.pythons))
    counts = [0] * len(totals)
    for entry, owner in zip(entries, made_of.owners, strict=True):
        if owner != NOBODY:
            counts[owner] += 1
            if entry.kind == "file" and not entry.same_as:
                totals[owner] += entry.size
    found = [
        PackageSize("deb", d.name, d.version, d.arch, totals[n], counts[n], d.installed_size)
        for n, d in enumerate(made_of.debs)
    ]
    found += [
        PackageSize("python", p.name, p.version, "", totals[n], counts[n], None)
        for n, p in enumerate(made_of.pythons, len(made_of.debs))
    ]
    return sorted(found, key=lambda p: (-p.bytes, p.kind, p.name, p.arch))


def unowned(entries: Sequence[Entry], made_of: Components, limit: int) -> Unowned:
    """What belongs to no package, with its `limit` largest files."""
    found = [
        e
        for e, owner in zip(entries, made_of.owners, strict=True)
        if owner == NOBODY and e.kind == "file" and not e.same_as
    ]
    return Unowned(sum(e.size for e in found), len(found), tuple(largest(found, limit)))


def largest(entries: Iterable[Entry], limit: int) -> list[Entry]:
    """The largest files."""
    return sorted(content(entries), key=lambda e: (-e.size, e.path))[:limit]
