"""What a root filesystem is made of: packages, and which of them each file belongs to.

Written beside each image as `components.json.gz`. The SBOMs are made from it, and space is
accounted for with it, without opening an image. It holds what the package managers say and
nothing of its own: the same tree gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.digest import canonical
from imagebuild.errors import ConfigError

#: Name of the file in an artifact.
FILE_NAME = "components.json.gz"
SCHEMA_VERSION = 1
#: Owner of a file that belongs to no package.
NOBODY = -1


@dataclass(frozen=True)
class DebPackage:
    """An installed package as dpkg knows it.

    `installed_size` is what its control file says, in bytes; `licence` an SPDX expression,
    empty where its copyright file does not say it with certainty.
    """

    name: str
    version: str
    arch: str
    source: str
    source_version: str
    maintainer: str
    homepage: str
    licence: str
    installed_size: int


@dataclass(frozen=True)
class PythonPackage:
    """A distribution in the agent's venv. `name` is normalized, `licence` as in DebPackage."""

    name: str
    version: str
    author: str
    homepage: str
    licence: str


@dataclass(frozen=True)
class User:
    """An account of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, order=True)
class ContainerPackage:
    """A package in a container; `kind` is `deb`, `apk`, `rpm` or `pypi`.

    `version` is all of it: with release, and epoch where there is one. `source` is the source
    package as the package manager has it (of an rpm the file's name), `licence` as in
    DebPackage. What a kind does not know is empty.
    """

    kind: str
    name: str
    version: str
    arch: str
    source: str
    source_version: str
    licence: str


@dataclass(frozen=True)
class Container:
    """A container image in docker's store.

    `target` is its full name there, `source` what it was fetched as; `index` (what the tag
    stood for), `manifest` and `config` are digests. `os` as in Components. `unread` says what
    could not be looked into, and why.
    """

    target: str
    source: str
    index: str
    manifest: str
    config: str
    os: dict[str, str]
    packages: tuple[ContainerPackage, ...]
    unread: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain value that `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Container:
        """The inverse of `to_json`. Raises TypeError or KeyError."""
        packages = tuple(ContainerPackage(**p) for p in data["packages"])
        return cls(**data | {"packages": packages, "unread": tuple(data["unread"])})


@dataclass(frozen=True)
class Components:
    """All packages of a root filesystem.

    `os` holds ID, VERSION_ID and PRETTY_NAME of /etc/os-release. `owners` has one number for
    each entry of the inventory whose digest is `rootfs`: an index into `debs` and, beyond
    them, `pythons`; or NOBODY. `containers` are the preloaded ones, in the profile's order.
    """

    rootfs: str
    os: dict[str, str]
    debs: tuple[DebPackage, ...]
    pythons: tuple[PythonPackage, ...]
    users: tuple[User, ...]
    owners: tuple[int, ...]
    containers: tuple[Container, ...] = ()

    def owner(self, index: int) -> DebPackage | PythonPackage | None:
        """Whom the inventory's entry number `index` belongs to."""
        number = self.owners[index]
        if number == NOBODY:
            return None
        if number < len(self.debs):
            return self.debs[number]
        return self.pythons[number - len(self.debs)]


def write(components: Components, path: Path) -> None:
    """Write the file. The same value gives the same bytes."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "rootfs": components.rootfs,
        "os": components.os,
        "debs": [dataclasses.asdict(d) for d in components.debs],
        "pythons": [dataclasses.asdict(p) for p in components.pythons],
        "users": [dataclasses.asdict(u) for u in components.users],
        "owners": components.owners,
        "containers": [c.to_json() for c in components.containers],
    }
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        file.write(canonical(document) + b"\n")


def read(path: Path) -> Components:
    """The stored value. Raises ConfigError when it is damaged, not there, or of a newer tool."""
    try:
        with gzip.open(path, "rb") as file:
            document = json.load(file)
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {document['schema_version']} is not known")
        return Components(
            rootfs=document["rootfs"],
            os=document["os"],
            debs=tuple(DebPackage(**d) for d in document["debs"]),
            pythons=tuple(PythonPackage(**p) for p in document["pythons"]),
            users=tuple(User(**u) for u in document["users"]),
            owners=tuple(document["owners"]),
            containers=tuple(Container.from_json(c) for c in document.get("containers", [])),
        )
    except (OSError, EOFError, ValueError, TypeError, KeyError) as exc:
        raise ConfigError(
            "cannot read the list of an image's components",
            where=str(path),
            detail=str(exc),
            hint="artifacts of older versions have none: build anew",
        ) from exc
