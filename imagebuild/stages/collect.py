"""Collects a tree's components: what dpkg and the agent's venv know of it (root's work).

Names inside the tree are looked up in its inventory, never by the host's own links: an
absolute link of the tree must not lead out of it.
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from packaging.utils import canonicalize_name

from imagebuild import debian, licences, osrelease
from imagebuild.components import NOBODY, Components, DebPackage, PythonPackage, User
from imagebuild.inventory import Entry

#: Where the agent's venv is in the tree.
VENV = "/opt/guest-agent-venv"
_MAX_LINKS = 40


def collect(tree: Path, entries: Sequence[Entry], rootfs: str) -> Components:
    """The components of a finished tree. `entries` is its inventory, `rootfs` the digest of it."""
    names = _Names(entries)
    status = debian.installed((tree / "var/lib/dpkg/status").read_text(encoding="utf-8"))
    status.sort(key=lambda p: (p["Package"], _arch(p)))
    found = sorted(_distributions(tree), key=lambda d: canonicalize_name(d.metadata["Name"]))
    owners = [NOBODY] * len(entries)
    for number, path in _owned(tree, status, found):
        index = names.index_of(path)
        # Several architectures of a package share files: they count for the first.
        if index is not None and owners[index] == NOBODY and entries[index].kind != "dir":
            owners[index] = number
    _give_byte_code(entries, names, owners)
    return Components(
        rootfs=rootfs,
        os=_os_release(tree, names),
        debs=tuple(_deb(p, tree, names) for p in status),
        pythons=tuple(_python(d) for d in found),
        users=tuple(_users(tree / "etc/passwd")),
        owners=tuple(owners),
    )


class _Names:
    """Finds names in an inventory; links in directories on the way are followed."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._numbers = {e.path: i for i, e in enumerate(entries)}
        self._real: dict[str, str] = {"": "", "/": ""}

    def index_of(self, path: str) -> int | None:
        """Number of the entry that an absolute path names; a link is not followed."""
        directory, _, name = path.rstrip("/").rpartition("/")
        return self._numbers.get(f"{self._directory(directory, 0)}/{name}")

    def file(self, path: str) -> str | None:
        """The real path of the file that a path leads to, links followed. None: there is none."""
        for _ in range(_MAX_LINKS):
            index = self.index_of(path)
            if index is None:
                return None
            entry = self._entries[index]
            if entry.kind != "link":
                return entry.path if entry.kind == "file" else None
            path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.data))
        return None

    def _directory(self, path: str, depth: int) -> str:
        if path in self._real:
            return self._real[path]
        parent, _, name = path.rpartition("/")
        above = self._directory(parent, depth)
        real = f"{above}/{name}"
        index = self._numbers.get(real)
        if index is not None and self._entries[index].kind == "link" and depth < _MAX_LINKS:
            target = posixpath.join(above or "/", self._entries[index].data)
            real = self._directory(posixpath.normpath(target).rstrip("/"), depth + 1)
        self._real[path] = real
        return real


def _owned(
    tree: Path, status: Sequence[Mapping[str, str]], found: Sequence[Distribution]
) -> Iterator[tuple[int, str]]:
    """Each owner's number with each path that it says is its own."""
    info = tree / "var/lib/dpkg/info"
    diverted = _diversions(tree / "var/lib/dpkg/diversions")
    for number, package in enumerate(status):
        name = package["Package"]
        listing = info / f"{name}:{_arch(package)}.list"
        if not listing.exists():
            listing = info / f"{name}.list"
        if not listing.exists():
            continue
        for path in listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            to, by = diverted.get(path, (path, name))
            yield number, path if by == name else to
    site = f"/{_site(tree).relative_to(tree)}"
    for number, distribution in enumerate(found, len(status)):
        for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            if row:
                yield number, posixpath.normpath(posixpath.join(site, row[0]))


def _diversions(path: Path) -> dict[str, tuple[str, str]]:
    """What dpkg-divert(1) has moved: `{path: (new path, package that keeps the old one)}`."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {
        old: (new, by) for old, new, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    }


def _give_byte_code(entries: Sequence[Entry], names: _Names, owners: list[int]) -> None:
    """Byte code made at installation is in no list: it belongs to whom its source belongs."""
    for index, entry in enumerate(entries):
        if owners[index] == NOBODY and entry.path.endswith(".pyc") and entry.kind == "file":
            directory, _, name = entry.path.rpartition("/")
            if posixpath.basename(directory) == "__pycache__":
                stem = name.split(".")[0]
                source = names.index_of(f"{posixpath.dirname(directory)}/{stem}.py")
                if source is not None:
                    owners[index] = owners[source]


def _arch(fields: Mapping[str, str]) -> str:
    return fields.get("Architecture", "all")


def _deb(fields: Mapping[str, str], tree: Path, names: _Names) -> DebPackage:
    name, version = fields["Package"], fields["Version"]
    source, _, own = fields.get("Source", name).partition(" ")
    path = names.file(f"/usr/share/doc/{name}/copyright")
    text = (tree / path[1:]).read_text(encoding="utf-8", errors="replace") if path else ""
    return DebPackage(
        name=name,
        version=version,
        arch=_arch(fields),
        source=source,
        source_version=own.strip("()") or version,
        maintainer=fields.get("Maintainer", ""),
        homepage=fields.get("Homepage", ""),
        licence=licences.of_copyright(text),
        installed_size=int(fields.get("Installed-Size", "0")) * 1024,
    )


def _site(tree: Path) -> Path:
    """The venv's site-packages; a path that is not there when there is no venv."""
    lib = tree / VENV[1:] / "lib"
    return next(iter(lib.glob("python3*/site-packages")), lib / "python3/site-packages")


def _distributions(tree: Path) -> list[Distribution]:
    site = _site(tree)
    return list(distributions(path=[str(site)])) if site.is_dir() else []


def _python(distribution: Distribution) -> PythonPackage:
    metadata = cast(Message, distribution.metadata)
    author = metadata.get("Author") or metadata.get("Author-email") or ""
    return PythonPackage(
        name=canonicalize_name(metadata["Name"]),
        version=metadata["Version"],
        author="" if author == "UNKNOWN" else " ".join(str(author).split()),
        homepage=_homepage(metadata.get("Home-page"), metadata.get_all("Project-URL") or []),
        licence=licences.of_python(metadata),
    )


def _homepage(field: str | None, urls: Sequence[str]) -> str:
    """The field Home-page, or the URL that is labelled so (packaging.python.org's labels)."""
    if field and field != "UNKNOWN":
        return field
    parts = [u.partition(",") for u in urls]
    labelled = {label.strip().lower(): url.strip() for label, _, url in parts}
    wanted = ("homepage", "home", "home page", "source", "source code", "repository")
    return next((labelled[w] for w in wanted if w in labelled), "")


def _os_release(tree: Path, names: _Names) -> dict[str, str]:
    path = names.file("/etc/os-release")
    return osrelease.parse((tree / path[1:]).read_text()) if path else {}


def _users(passwd: Path) -> Iterator[User]:
    for line in passwd.read_text().splitlines() if passwd.exists() else []:
        fields = line.split(":")
        if len(fields) == 7:
            yield User(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6])
