"""What an export says of its images, so that an import needs no list.

Annotations of index.json's entries. Of where an image goes, registry and prefix stand apart
from the repository: another site has another registry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagebuild.config.mirrorlist import Role, Target
from imagebuild.errors import ConfigError, UsageError
from imagebuild.mirror.items import Item
from imagebuild.mirror.layoutfiles import Entry
from imagebuild.mirror.referrers import COSIGN
from imagebuild.registry.reference import Reference

_PREFIX = "imagebuild.mirror."
_REGISTRY, _BELOW, _REPOSITORY, _TAG, _ALIASES, _BACKUP, _DATASTORE, _ROLE, _REFERRERS = (
    _PREFIX + key
    for key in (
        "registry", "prefix", "repository", "tag", "aliases", "backup", "datastore", "role",
        "referrers",
    )
)  # fmt: skip

#: The target of a list that says none (RFC 2606): whoever imports says one.
NOWHERE = "registry.invalid"
#: The registry of images that have no name where they come from.
_NAMELESS = "oci-layout"


@dataclass(frozen=True)
class Carried:
    """An item of a list as an export has it: `inside` is copied, `name` is what index.json
    calls it, `notes` its annotations.
    """

    item: Item
    inside: Item
    name: str
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Destination:
    """Where an import goes: a registry, and a prefix that replaces the export's; None: it stays."""

    registry: str
    prefix: str | None = None
    plain_http: bool = False

    @classmethod
    def parse(cls, text: str) -> Destination:
        """REGISTRY[/PREFIX], http:// before it where it speaks no TLS; REGISTRY/ is no prefix.

        Raises UsageError.
        """
        scheme, _, rest = text.rpartition("://")
        host, slash, prefix = rest.partition("/")
        prefix = prefix.rstrip("/")
        try:
            if scheme not in ("", "http", "https"):
                raise ConfigError("", detail=f"{scheme}:// is no way to speak to a registry")
            found = Reference.parse("/".join(filter(None, (host, prefix, "image"))))
            if found.registry != host:
                raise ConfigError("", detail=f"{host!r} is no host: HOST.DOMAIN or HOST:PORT")
        except ConfigError as exc:
            raise UsageError(
                "this is no place to import to", where=f"--target {text}", detail=exc.detail,
                hint="write REGISTRY[/PREFIX], registry.example:5000/trove say",
            ) from exc  # fmt: skip
        return cls(host, prefix if slash else None, scheme == "http")


def carry(items: Iterable[Item], target: Target) -> tuple[Carried, ...]:
    """How an export has the items of a list whose images go to `target`."""
    names: dict[str, None] = {}
    carried = []
    for item in items:
        inside = dataclasses.replace(item.source, digest="")
        if str(inside) in names:
            # The same image for two repositories, perhaps with other platforms.
            inside = item.target
        names[str(inside)] = None
        copied = dataclasses.replace(item, target=inside, aliases=(), backup="")
        carried.append(Carried(item, copied, str(inside), _notes(item, target)))
    return tuple(carried)


def _notes(item: Item, target: Target) -> dict[str, str]:
    prefix = target.prefix.strip("/")
    repository = item.target.repository
    if prefix:
        repository = repository.removeprefix(f"{prefix}/")
    notes = {
        _REGISTRY: item.target.registry.replace(NOWHERE, ""),
        _BELOW: prefix,
        _REPOSITORY: repository,
        _TAG: item.target.tag,
        _ALIASES: ",".join(item.aliases),
        _BACKUP: item.backup,
        _DATASTORE: item.datastore,
        _ROLE: item.role.value,
        _REFERRERS: "" if item.referrers else "no",
    }
    return {k: v for k, v in notes.items() if v}


def items_of_entries(
    entries: Iterable[Entry],
    destination: Destination | None,
    name_as: str | None,
    where: str,
) -> tuple[Item, ...]:
    """The images of a layout as items, in its order; what refers to them comes with them.

    `name_as`, REPOSITORY or REPOSITORY:TAG, is for the images of other people's layouts that
    say no repository, or nothing. Raises ConfigError for notes that make no names, UsageError
    where something has to be said to know where an image goes.
    """
    found = [_item(e, destination, name_as, where) for e in entries if not _is_beside(e.name)]
    owners: dict[str, Item] = {}
    for item in found:
        for tag in (item.target.tag, *item.aliases):
            name = f"{item.target.name}:{tag}"
            if name in owners:
                raise UsageError(
                    f"two images of the export would be {name}",
                    where=where,
                    detail=f"{owners[name].source}\n{item.source}",
                    hint="import them one by one: --only NAME --as REPOSITORY:TAG",
                )
            owners[name] = item
    return tuple(found)


def _is_beside(name: str) -> bool:
    """Whether a name is that of signatures and the like, which go with their image."""
    tag = name.rpartition(":")[2]
    for suffix in COSIGN:
        tag = tag.removesuffix(suffix)
    digest = tag.removeprefix("sha256-")
    return digest != tag and len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def _item(entry: Entry, destination: Destination | None, name_as: str | None, where: str) -> Item:
    notes = entry.annotations
    digest = entry.descriptor.digest
    if repository := notes.get(_REPOSITORY):
        if destination is None and _REGISTRY not in notes:
            raise _no_target(where, "the list that was exported has no target")
        place = destination or Destination(notes[_REGISTRY])
        prefix = notes.get(_BELOW, "") if place.prefix is None else place.prefix
        tag = notes.get(_TAG, "")
        target = _target(place.registry, prefix, f"{repository}:{tag}", entry.name or where)
        source = Reference.parse(entry.name).at(digest)
        aliases = tuple(filter(None, notes.get(_ALIASES, "").split(",")))
        backup = notes.get(_BACKUP, "")
        for alias in filter(None, (*aliases, backup)):
            _target(place.registry, prefix, f"{repository}:{alias}", entry.name)
        role = Role.BACKUP if notes.get(_ROLE) == Role.BACKUP.value else Role.DATABASE
        return Item(
            source, target, aliases,
            referrers=notes.get(_REFERRERS) != "no", backup=backup,
            datastore=notes.get(_DATASTORE, ""), role=role,
        )  # fmt: skip
    return _foreign(entry, destination, name_as, where)


def _foreign(
    entry: Entry, destination: Destination | None, name_as: str | None, where: str
) -> Item:
    """An image of a layout that something else has made: skopeo writes the tag, or nothing."""
    if destination is None:
        raise _no_target(where, "the layout was not made by `imagebuild mirror export`")
    repository, _, tag = (name_as or "").partition(":")
    name = entry.name
    if name and ("/" in name or ":" in name):
        full = Reference.parse(name)
        source = full.at(entry.descriptor.digest)
        repository = repository or full.repository.rpartition("/")[2]
        tag = tag or full.tag
    else:
        source = Reference(_NAMELESS, "image", name, entry.descriptor.digest)
        tag = tag or name
    if not repository or not tag:
        said = f"its name there is {name!r}" if name else "it has no name there"
        raise UsageError(
            "it is not known what an image is to be called",
            where=f"{where}: {entry.descriptor.digest}",
            detail=said,
            hint="say it: --as REPOSITORY:TAG" if not tag else "say it: --as REPOSITORY",
        )
    return Item(source, _target(destination.registry, destination.prefix or "",
                                f"{repository}:{tag}", where))  # fmt: skip


def _no_target(where: str, detail: str) -> UsageError:
    return UsageError(
        "it is not known where the images go",
        where=where,
        detail=detail,
        hint="say it: --target REGISTRY[/PREFIX]",
    )


def _target(registry: str, prefix: str, name: str, where: str) -> Reference:
    whole = "/".join(filter(None, (registry, prefix, name)))
    try:
        found = Reference.parse(whole)
        if found.registry != registry or not registry:
            raise ConfigError("", detail=f"{registry!r} is no registry")
    except ConfigError as exc:
        raise ConfigError(
            "the export names a place that there cannot be",
            where=where,
            detail=f"{whole[:300]}: {exc.detail}",
            hint="say another one: --target REGISTRY[/PREFIX], --as REPOSITORY:TAG",
        ) from exc
    return found
