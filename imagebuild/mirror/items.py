"""MirrorList → items: one tag of one image each, all rules applied."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from imagebuild.config.mirrorlist import ListedImage, MirrorList, Role
from imagebuild.config.mirrorvalues import backup_tag
from imagebuild.errors import ConfigError, ImagebuildError, Interrupted, UsageError
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.selection import find
from imagebuild.registry.reference import Reference


@dataclass(frozen=True)
class Item:
    """One tag to be copied.

    `source` has the tag, and the digest when the list pins one; `target` the tag. `aliases` are
    further tags of the target's repository that are to be the same image. `platforms` empty:
    the image as it is. `backup`: the tag that a replaced image of the target keeps, or "".
    `unknown`: why it is not known which tags an image of the list has; the tag is "" then.
    """

    source: Reference
    target: Reference
    aliases: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    referrers: bool = True
    backup: str = ""
    datastore: str = ""
    role: Role = Role.DATABASE
    unknown: ImagebuildError | None = field(default=None, compare=False)


#: The tags of a repository (its reference's tag does not count), as the registry lists them.
ListTags = Callable[[Reference], list[str]]


def expand(
    value: MirrorList,
    tags: ListTags,
    places: Sequence[str] = (),
    only: Sequence[str] = (),
    *,
    go_on: bool = False,
) -> tuple[Item, ...]:
    """The items of a list, in its order, each target once.

    `tags` is asked only for images whose rules need it. `places` says where each image of the
    list stands. With patterns (see `choose`), images that none of them can mean are left out,
    so that nobody is asked about them.

    Raises ConfigError where two items have one target. Where nothing fits a rule, MissingError,
    and what `tags` raises: with `go_on` that is the end of one image alone, whose tags that are
    listed by name are there nevertheless.
    """
    items: list[Item] = []
    owners: dict[str, tuple[str, str]] = {}  # full target name -> what has it, where
    for number, image in enumerate(value.images):
        if only and not any(_may_mean(pattern, value, image) for pattern in only):
            continue
        where = places[number] if number < len(places) else f"images[{number}]"
        for item in _of_image(value, image, tags, where, go_on=go_on):
            if not item.unknown:
                _claim(item, owners, where)
            items.append(item)
    return tuple(items)


def matches(item: Item, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns (with `*` and `?`) is the item's source or target.

    A pattern may leave out the tag, and all but the last part of the repository.
    """
    names = set()
    for reference in (item.source, item.target):
        for name in _names(reference):
            names |= {name, f"{name}:{reference.tag}"}
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _names(reference: Reference) -> tuple[str, ...]:
    """What people may call a repository."""
    last = reference.repository.rpartition("/")[2]
    return reference.name, reference.repository, last


def _may_mean(pattern: str, value: MirrorList, image: ListedImage) -> bool:
    """Whether a pattern can mean some tag of an image."""
    parts = (value.target.registry, value.target.prefix, image.repository)
    target = Reference(parts[0], "/".join(filter(None, parts[1:])))
    names = (*_names(Reference.parse(image.source)), *_names(target))
    # A colon may stand before a tag, or in HOST:PORT.
    ways = {pattern, pattern.rpartition(":")[0] or pattern}
    return any(fnmatch.fnmatchcase(name, way) for way in ways for name in names)


def may_mean(pattern: str, value: MirrorList) -> bool:
    """Whether a pattern of --only can mean something in the list, whatever tags there are."""
    return any(_may_mean(pattern, value, image) for image in value.images)


def choose(items: Sequence[Item], patterns: Sequence[str]) -> tuple[Item, ...]:
    """The items that one of the patterns means; all without patterns.

    Raises UsageError for a pattern that means none: it would hide a slip of the pen.
    """
    for pattern in patterns:
        if not any(item.unknown or matches(item, [pattern]) for item in items):
            raise UsageError(
                f"nothing in the list is called {pattern!r}",
                where=f"--only {pattern}",
                hint="a pattern is a name as the list has it, with or without registry and tag; "
                "* stands for anything: 'db-backup-*', 'mysql:8.*'",
            )
    # What could be meant, and is not known, is not passed over.
    return tuple(i for i in items if not patterns or i.unknown or matches(i, patterns))


def _of_image(
    value: MirrorList, image: ListedImage, tags: ListTags, where: str, *, go_on: bool
) -> Iterator[Item]:
    source = Reference.parse(image.source)
    target = _target(value, image, where)
    defaults = value.defaults
    backup = defaults.backup if image.backup is None else image.backup
    platforms = defaults.platforms if image.platforms is None else image.platforms
    referrers = defaults.referrers if image.referrers is None else image.referrers
    unknown: ImagebuildError | None = None
    try:
        wanted = _tags(image, source, tags, where)
    except Interrupted:
        raise
    except ImagebuildError as exc:
        if not go_on:
            raise
        unknown, wanted = exc, tuple(dict.fromkeys((*image.tags.names, *image.aliases)))
    for tag in wanted:
        yield Item(
            source=Reference(source.registry, source.repository, tag, image.digest or ""),
            target=Reference(target.registry, target.repository, tag),
            aliases=image.aliases.get(tag, ()),
            platforms=platforms,
            referrers=referrers,
            backup=_backup(backup, tag, where) if backup else "",
            datastore=str(image.datastore or ""),
            role=image.role,
        )
    if unknown:
        yield Item(
            source=Reference(source.registry, source.repository),
            target=Reference(target.registry, target.repository),
            datastore=str(image.datastore or ""),
            role=image.role,
            unknown=unknown,
        )


def _target(value: MirrorList, image: ListedImage, where: str) -> Reference:
    parts = (value.target.registry, value.target.prefix, image.repository)
    name = "/".join(filter(None, parts))
    try:
        target = Reference.parse(name)
    except ConfigError as exc:
        raise ConfigError(
            f"the target {name} is no name of an image", where=where, detail=exc.detail
        ) from exc
    if target.name == image.source:
        raise ConfigError(
            f"{image.source} would be copied onto itself",
            where=where,
            hint="give it another target, or the list another target.registry or target.prefix",
        )
    return target


def _tags(image: ListedImage, source: Reference, tags: ListTags, where: str) -> tuple[str, ...]:
    rule = image.tags
    if not rule.asks:
        return rule.names
    there = tags(source)
    found = find(rule, there)
    if not found:
        said = {k: v for k, v in rule.model_dump().items() if v and k != "names"}
        raise MissingError(
            f"no tag of {source.name} fits its rules",
            where=where,
            detail=f"rules: {', '.join(f'{k}: {v}' for k, v in said.items())}\n{_shown(there)}",
            hint="loosen the rules, or list tags by their names",
        )
    # A tag with aliases is wanted even if it has left the range: guests ask for its aliases.
    return tuple(dict.fromkeys((*rule.names, *found, *image.aliases)))


def _shown(tags: Sequence[str]) -> str:
    if not tags:
        return "the registry lists no tags: perhaps there is no such repository"
    last = f" and {len(tags) - 20} more" if len(tags) > 20 else ""
    return f"{len(tags)} tags: {', '.join(tags[-20:])}{last}"


def _backup(template: str, tag: str, where: str) -> str:
    try:
        return backup_tag(template, tag)
    except ValueError as exc:
        raise ConfigError(
            f"no tag can be made of backup {template!r} and the tag {tag!r}",
            where=where,
            detail=str(exc),
        ) from exc


def _claim(item: Item, owners: dict[str, tuple[str, str]], where: str) -> None:
    """Note whose each tag of the target is; ConfigError where another has it already."""
    claims = [(item.target.tag, f"{item.source}"), *((a, f"an alias of {item.source}")
              for a in item.aliases)]  # fmt: skip
    if item.backup:
        claims.append((item.backup, f"the backup of {item.source}"))
    for tag, what in claims:
        name = f"{item.target.name}:{tag}"
        if name in owners:
            other, place = owners[name]
            raise ConfigError(
                f"two images would be {name}",
                where=where,
                detail=f"{other} ({place})\n{what} ({where})",
                hint="give one of them another target, tag or alias",
            )
        owners[name] = (what, where)
