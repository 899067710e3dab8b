"""What Trove's datastore versions need of a registry, and whether it is really there.

    versions + names of images ──needs_of──▶ needs ──answer──▶ answers, each with its reason

The names of images are what is, or will be, in trove-guestagent.conf; how a guest makes
references of them is in naming.py.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.config.mirrorlist import MirrorList, Role
from imagebuild.errors import UsageError
from imagebuild.mirror.naming import (
    DATASTORES,
    NEWEST,
    WRONG_DATASTORES,
    Chain,
    End,
    backup_chain,
    database_image,
    image_problem,
)
from imagebuild.registry.reference import Reference


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
    """One image that guests of a version ask for; of a chain, the first that is there."""

    version: Version
    purpose: Purpose
    chain: Chain

    @property
    def when(self) -> str:
        """When a guest asks for it, for people."""
        return _WHEN[self.purpose]


@dataclass(frozen=True)
class Seen:
    """A reference in its registry: its `digest`, "" when there is no such tag.

    `problem` says what the image lacks: a blob, a manifest of its index.
    """

    digest: str = ""
    problem: str = ""


#: Asks a registry for one image, all of it. Raises as the registry's client does.
Look = Callable[[Reference], Seen]


@dataclass(frozen=True)
class Answer:
    """Whether a need is met: by `image`, "" when by none; `reason` and `hint` are for people."""

    need: Need
    ok: bool
    image: str = ""
    digest: str = ""
    reason: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        version = self.need.version
        return {
            "datastore": version.datastore,
            "manager": version.manager,
            "version": version.name,
            "number": version.number,
            "purpose": self.need.purpose.value,
            "ok": self.ok,
            "wanted": list(self.need.chain.images),
            "image": self.image,
            "digest": self.digest,
            "reason": self.reason,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Guests:
    """How guests ask: `isolated` is Trove's [network] network_isolation, `login_at` the
    [guest_agent] container_registry, None when it is not known.
    """

    isolated: bool = True
    login_at: str | None = None


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


def names_of_list(value: MirrorList) -> dict[str, ImageNames]:
    """By manager, the images that a mirror list makes in its target, for guests to use.

    Raises UsageError where two images are for one use.
    """
    found: dict[str, dict[Role, str]] = {}
    for image in value.images:
        if image.datastore is None:
            continue
        repository = image.target or image.source.rpartition("/")[2]
        parts = (value.target.registry, value.target.prefix.strip("/"), repository)
        name = "/".join(filter(None, parts))
        manager = WRONG_DATASTORES.get(image.datastore, image.datastore)
        other = found.setdefault(manager, {}).setdefault(image.role, name)
        if other != name:
            raise UsageError(
                f"the list has two {image.role.value} images for {manager}",
                where=f"{other} and {name}",
                hint="give them one target, or take `datastore` away from one of them",
            )
    return {
        manager: ImageNames(roles.get(Role.DATABASE, ""), roles.get(Role.BACKUP))
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
        image = names.get(version.manager) or ImageNames("")
        pairs = [(Purpose.CREATE, Purpose.BACKUP, version.number)]
        if version.name != version.number:
            pairs.append((Purpose.REBUILD, Purpose.BACKUP_AFTER_REBUILD, version.name))
        for database, backup, tag in pairs:
            chain = Chain((database_image(image.database, tag),), End.PULLS)
            found.append(Need(version, database, chain))
            chain = backup_chain(version.manager, image.backup, tag, series)
            found.append(Need(version, backup, chain))
    return tuple(found)
