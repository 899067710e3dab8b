"""What Trove's datastore versions need of a registry.

    versions + names of images ──needs_of──▶ needs ──answer (answers.py)──▶ answers

The names of images are what is, or will be, in trove-guestagent.conf; how a guest makes
references of them is in naming.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagebuild.config.mirrorlist import MirrorList, Role
from imagebuild.errors import UsageError
from imagebuild.mirror.naming import (
    DATASTORES,
    DEFAULT_IMAGES,
    NEWEST,
    WRONG_DATASTORES,
    Chain,
    End,
    backup_chain,
    database_image,
)

if TYPE_CHECKING:
    from imagebuild.cloud.datastores import DatastoreVersion


@dataclass(frozen=True)
class Version:
    """A datastore version. `number` is what new guests pull, `name` what users see."""

    datastore: str
    manager: str
    name: str
    number: str

    @property
    def label(self) -> str:
        """For people: "mysql 8.4", with the number where that is another."""
        suffix = f" ({self.number})" if self.number != self.name else ""
        return f"{self.datastore} {self.name}{suffix}"


@dataclass(frozen=True)
class ImageNames:
    """`docker_image` and `backup_docker_image` of one manager; None: not configured."""

    database: str
    backup: str | None = None


class Purpose(enum.Enum):
    """When a guest wants an image."""

    CREATE = "create"
    REBUILD = "rebuild"
    BACKUP = "backup"
    BACKUP_AFTER_REBUILD = "backup after rebuild"


_WHEN = {
    Purpose.CREATE: "a new instance, and a rebuild, start the database with it",
    Purpose.REBUILD: "an instance that was rebuilt goes by the version's name from then on: "
    "for replication, restoring and resizing",
    Purpose.BACKUP: "backups are made and restored with it",
    Purpose.BACKUP_AFTER_REBUILD: "an instance that was rebuilt makes its backups by the "
    "version's name",
}


@dataclass(frozen=True)
class Need:
    """One image that guests of a version ask for; of a chain, the first that is there.

    `configured` is the name without a version, as the guest's configuration has it.
    """

    version: Version
    purpose: Purpose
    configured: str
    chain: Chain

    @property
    def is_backup(self) -> bool:
        """Whether it makes backups; else it is the database's."""
        return self.purpose in (Purpose.BACKUP, Purpose.BACKUP_AFTER_REBUILD)

    @property
    def when(self) -> str:
        """When a guest asks for it, for people."""
        return _WHEN[self.purpose]


def read_version(text: str) -> Version:
    """DATASTORE:NUMBER, or DATASTORE:NUMBER=NAME, where the name is another.

    Raises UsageError.
    """
    datastore, colon, rest = text.partition(":")
    number, _, name = rest.partition("=")
    if not colon or not datastore or not number or " " in text:
        raise UsageError(
            "this is no datastore version",
            where=f"--datastore {text}",
            hint="write DATASTORE:NUMBER, mysql:8.4 say; =NAME behind it where users see another",
        )
    manager = WRONG_DATASTORES.get(datastore, datastore)
    if manager not in DATASTORES:
        raise UsageError(
            f"Trove has no containers for {datastore}",
            where=f"--datastore {text}",
            hint=f"it has them for: {', '.join(DATASTORES)}",
        )
    return Version(manager, manager, name or number, number)


def versions_of(registered: Iterable[DatastoreVersion]) -> tuple[Version, ...]:
    """Versions as Trove has them (imagebuild/cloud/datastores.py), the inactive ones, too:
    their instances live on.
    """
    return tuple(Version(v.datastore, v.manager, v.name, v.number) for v in registered)


def names_of_list(value: MirrorList) -> dict[str, ImageNames]:
    """By manager, the images that a mirror list makes in its target, for guests to use.

    Raises UsageError where two images are for one use.
    """
    found: dict[str, dict[Role, str]] = {}
    for image in value.images:
        if image.datastore is None:
            continue
        parts = (value.target.registry, value.target.prefix, image.repository)
        name = "/".join(filter(None, parts))
        other = found.setdefault(image.datastore.value, {}).setdefault(image.role, name)
        if other != name:
            raise UsageError(
                f"the list has two {image.role.value} images for {image.datastore}",
                where=f"{other} and {name}",
                hint="give them one target, or take `datastore` away from one of them",
            )
    return {
        manager: ImageNames(
            roles.get(Role.DATABASE) or DEFAULT_IMAGES.get(manager, manager),
            roles.get(Role.BACKUP),
        )
        for manager, roles in found.items()
    }


def needs_of(
    versions: Iterable[Version], names: Mapping[str, ImageNames], series: str = NEWEST
) -> tuple[Need, ...]:
    """What guests of these versions ask for; `names` by manager.

    A manager that `names` lacks has what Trove has by default. Raises ConfigError for an
    unknown series.
    """
    found: list[Need] = []
    for version in versions:
        if version.manager not in DATASTORES:
            continue  # no code of Trove's, no container
        image = names.get(version.manager) or ImageNames(DEFAULT_IMAGES[version.manager])
        pairs = [(Purpose.CREATE, Purpose.BACKUP, version.number)]
        if version.name != version.number:
            pairs.append((Purpose.REBUILD, Purpose.BACKUP_AFTER_REBUILD, version.name))
        for database, backup, tag in pairs:
            chain = Chain((database_image(image.database, tag),), End.PULLS)
            found.append(Need(version, database, image.database, chain))
            chain = backup_chain(version.manager, image.backup, tag, series)
            found.append(Need(version, backup, image.backup or "", chain))
    return tuple(found)
