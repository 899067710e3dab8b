"""MirrorList → items: one tag of one image each, all rules applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagebuild.config.mirrorlist import MirrorList, Role
from imagebuild.registry.reference import Reference


@dataclass(frozen=True)
class Item:
    """One tag to be copied.

    `source` has the tag, and the digest when the list pins one; `target` the tag. `aliases` are
    further tags of the target's repository that are to be the same image. `platforms` empty:
    the image as it is. `backup`: the tag that a replaced image of the target keeps, or "".
    """

    source: Reference
    target: Reference
    aliases: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    referrers: bool = True
    backup: str = ""
    datastore: str = ""
    role: Role = Role.DATABASE


#: The tags of a repository (its reference's tag does not count), as the registry lists them.
ListTags = Callable[[Reference], list[str]]


def expand(value: MirrorList, tags: ListTags) -> tuple[Item, ...]:
    """The items of a list, in its order, each target once.

    `tags` is asked only for images whose rules need it. Raises ConfigError where two items have
    one target, where nothing fits a rule, and what `tags` raises.
    """
    raise NotImplementedError
