"""Items → plan: what each tag is now on both sides. HEADs alone, unless bytes are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.errors import ImagebuildError
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import Descriptor


@dataclass(frozen=True)
class Planned:
    """One item, its digest resolved once: `wanted` is what the source has, `there` the target.

    `error` says why there is no `wanted`. `bytes_to_move` and `bytes_to_mount` are None when
    they were not asked for.
    """

    item: Item
    wanted: Descriptor | None
    there: Descriptor | None
    stale_tags: tuple[str, ...] = ()  # target tag and aliases that are to be put
    error: ImagebuildError | None = None
    bytes_to_move: int | None = None
    bytes_to_mount: int | None = None


@dataclass(frozen=True)
class MirrorPlan:
    """What a run would do, in the list's order."""

    planned: tuple[Planned, ...]


def make_plan(
    client: Client, items: Sequence[Item], *, lock: Lock | None = None, count_bytes: bool = False
) -> MirrorPlan:
    """Ask both sides. With a lock (`--locked`) the source's digests are the lock's."""
    raise NotImplementedError
