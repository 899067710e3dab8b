"""Items → plan: what each tag is now on both sides. HEADs alone, unless bytes are asked for.

A tag is the same when source and target tell the same digest: two HEADs, which registries do
not count as pulls. Where platforms are chosen the digests differ: then the target's digest is
compared with that of the index that we would make, which the lock file of an earlier run
knows (`known`), and which else costs a GET of the source's index.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from imagebuild.errors import ConfigError, ImagebuildError
from imagebuild.mirror.giveup import Registries
from imagebuild.mirror.holders import Bytes, Holders, count_blobs
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock, made_of, source_key
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.result import Outcome, outcome_of
from imagebuild.mirror.source import Source
from imagebuild.mirror.sourcetree import read_source
from imagebuild.mirror.trees import Tree, select
from imagebuild.mirror.workers import Workers
from imagebuild.registry.manifest import INDEXES, Descriptor, Manifest
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Questions at a time; what a single registry is asked is limited by its settings.
_AT_ONCE = 8
#: `made_of`'s engine for images that docker has copied.
DOCKER = "docker"

#: What a name stands for; None: nothing; or why that is not known.
_Head: TypeAlias = "Descriptor | ImagebuildError | None"


@dataclass(frozen=True)
class Planned:
    """One item, its digest resolved once: `wanted` is what the target is to have, `there` what
    it has, `source` what the source has: not `wanted` only where platforms are chosen (`index`
    is then what we have made of the source's, if anything is left out of it).

    `error` says why there is no `wanted`. `bytes_to_move` and `bytes_to_mount` are None when
    they were not asked for; `tree` is all of the source's image where it had to be known.
    """

    item: Item
    wanted: Descriptor | None
    there: Descriptor | None
    stale_tags: tuple[str, ...] = ()  # target tag and aliases that are to be put
    error: ImagebuildError | None = None
    bytes_to_move: int | None = None
    bytes_to_mount: int | None = None
    source: Descriptor | None = None
    index: Manifest | None = None
    tree: Tree | None = None
    made_as: str = ""  # see lockfile.made_of; "" when it is byte for byte the source's

    @property
    def outcome(self) -> Outcome:
        """What a run would make of it, if nothing fails."""
        if self.error:
            return outcome_of(self.error)
        if not self.stale_tags:
            return Outcome.UNCHANGED
        if self.item.target.tag not in self.stale_tags:
            return Outcome.COPIED  # aliases alone
        return Outcome.REPLACED if self.there else Outcome.COPIED


@dataclass(frozen=True)
class MirrorPlan:
    """What a run would do, in the list's order. `engine`: "" is ours, or DOCKER."""

    planned: tuple[Planned, ...]
    engine: str = ""

    @property
    def changes(self) -> bool:
        """Whether a run would do anything."""
        return any(p.stale_tags for p in self.planned)

    @property
    def failed(self) -> bool:
        """Whether something is known to be missing in the end."""
        return any(p.error for p in self.planned)


def make_plan(
    client: Client,
    items: Sequence[Item],
    *,
    lock: Lock | None = None,
    known: Lock | None = None,
    count_bytes: bool = False,
    engine: str = "",
    source: Source | None = None,
) -> MirrorPlan:
    """Ask both sides; `source` in place of the client for what is copied.

    With `lock` (`--locked`) the source's digests are the lock's, wherever the tags are now:
    ConfigError when an item is not in it. `known` is the lock file in any case, which saves
    a GET where platforms are chosen. What one item fails with is its `error`.
    """
    sources = {item: _source(item, lock) for item in items if not item.unknown}
    planner = _Planner(client, source or client, known or Lock(), engine)
    try:
        planned = planner.plan(sources)
        if count_bytes and engine != DOCKER:
            planned = planner.count(planned)
    finally:
        planner.close()
    known_ends = iter(planned)
    ends = (Planned(i, None, None, error=i.unknown) if i.unknown else next(known_ends)
            for i in items)  # fmt: skip
    return MirrorPlan(tuple(ends), engine)


def _source(item: Item, lock: Lock | None) -> Reference:
    """What the source is asked for. Raises ConfigError for what a lock does not fit."""
    if lock is None:
        return item.source
    key = source_key(item.source)
    locked = lock.sources.get(key)
    if locked is None:
        raise ConfigError(
            "the lock file does not know a tag of the list",
            where=key,
            detail="--locked copies what the lock file says, and nothing else",
            hint="run `imagebuild mirror sync` once without --locked",
        )
    if item.source.digest and item.source.digest != locked.digest:
        raise ConfigError(
            "the list pins another digest than the lock file has",
            where=key,
            detail=f"list: {item.source.digest}\nlock: {locked.digest}",
            hint="run `imagebuild mirror sync` once without --locked",
        )
    return item.source.at(locked.digest)


class _Planner:
    def __init__(self, client: Client, source: Source, known: Lock, engine: str) -> None:
        self._client = client
        self._source = source
        self._known = known
        self._engine = engine
        self._end = threading.Event()
        self._workers = Workers(_AT_ONCE, self._end)
        self._registries = Registries()
        self._sources: dict[Reference, _Head] = {}
        self._targets: dict[Reference, _Head] = {}

    def close(self) -> None:
        self._end.set()

    def plan(self, sources: dict[Item, Reference]) -> list[Planned]:
        """HEADs of all names, each once; then what has to be looked into."""
        names = [(self._source, name) for name in sources.values()]
        names += [(self._client, name) for item in sources for name in _targets(item)]
        unique = list(dict.fromkeys(names))
        for (side, name), found in zip(unique, self._workers.map(self._head, unique), strict=True):
            if side is self._source:
                self._sources[name] = found
            if side is self._client:
                self._targets[name] = found
        return self._workers.map(lambda pair: self._one(*pair), sources.items())

    def count(self, planned: Iterable[Planned]) -> list[Planned]:
        """The same with the bytes of what is to be put; signatures and the like not counted."""
        whole = self._workers.map(self._with_tree, planned)
        targets = ((p.item.target, p.there is not None) for p in whole)
        holders = Holders(self._client, targets, self._source is self._client)
        jobs = [(p.item.source, p.item.target, p.tree) for p in whole if p.tree]
        counts = iter(count_blobs(self._client, holders, jobs, self._workers))
        return [
            dataclasses.replace(p, bytes_to_move=c.move, bytes_to_mount=c.mount)
            for p in whole
            for c in (next(counts) if p.tree else Bytes(0, 0),)
        ]

    def _head(self, asked: tuple[Source, Reference]) -> _Head:
        side, reference = asked
        with _Caught() as caught, self._registries.asked(reference.registry):
            return side.head_manifest(reference)
        return caught.error

    def _one(self, item: Item, asked: Reference) -> Planned:
        source, there = self._sources[asked], self._targets[item.target]
        if isinstance(source, ImagebuildError):
            return Planned(item, None, None, error=source)
        if isinstance(there, ImagebuildError):
            return Planned(item, None, None, error=there, source=source)
        if source is None:
            return Planned(item, None, there, error=_missing(item, asked))
        with _Caught() as caught:
            return self._compare(Planned(item, source, there, source=source))
        return dataclasses.replace(Planned(item, None, there, source=source), error=caught.error)

    def _compare(self, planned: Planned) -> Planned:
        item, there = planned.item, planned.there
        assert planned.source  # noqa: S101 - known here
        filters = bool(item.platforms) and planned.source.media_type in INDEXES
        if filters or self._engine:
            recipe = made_of(planned.source.digest, item.platforms, self._engine)
            planned = dataclasses.replace(planned, made_as=recipe)
            if there and self._known.made.get(there.digest) == recipe:
                planned = dataclasses.replace(planned, wanted=there)
            elif filters and not self._engine:
                planned = self._select(planned)
        assert planned.wanted  # noqa: S101
        stale = []
        for target in _targets(item):
            found = self._targets[target]
            if isinstance(found, ImagebuildError):
                raise found
            if found is None or found.digest != planned.wanted.digest:
                stale.append(target.tag)
        return dataclasses.replace(planned, stale_tags=tuple(stale))

    def _select(self, planned: Planned) -> Planned:
        item, source = planned.item, planned.source
        assert source  # noqa: S101
        with self._registries.asked(item.source.registry):
            whole = self._source.get_manifest(item.source.at(source.digest))
        chosen = select(whole, item.platforms, str(item.source))
        index = chosen if chosen is not whole else None
        return dataclasses.replace(planned, wanted=chosen.descriptor, index=index)

    def _with_tree(self, planned: Planned) -> Planned:
        if not planned.stale_tags or planned.error:
            return planned
        assert planned.source  # noqa: S101 - there is no error
        item = planned.item
        with _Caught() as caught, self._registries.asked(item.source.registry):
            tree = read_source(self._source, item, planned.source.digest, planned.index)
            return dataclasses.replace(planned, tree=tree)
        return dataclasses.replace(planned, error=caught.error, stale_tags=())


class _Caught:
    """What a block raises is not raised, but kept."""

    error: ImagebuildError | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> bool:
        if isinstance(exc, ImagebuildError):
            self.error = exc
            return True
        return False


def _targets(item: Item) -> list[Reference]:
    """The tags that are to be there, the item's own first."""
    names = [item.target.tag, *item.aliases]
    return [dataclasses.replace(item.target, tag=t) for t in dict.fromkeys(names)]


def _missing(item: Item, asked: Reference) -> MissingError:
    if asked.digest:
        return MissingError(
            "the source does not have the digest any more",
            where=str(asked),
            hint="the list's `digest` or the lock pins it: run without --locked, or change the "
            "list; an image that is gone from there is still in the target's backups and exports",
        )
    return MissingError(
        "the source does not have the tag",
        where=str(item.source),
        hint="check the name; the registry's own page tells its tags",
    )
