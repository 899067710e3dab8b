"""Which repositories of a registry hold a blob: another one can mount it, and no bytes move."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagebuild.mirror.trees import Tree
from imagebuild.mirror.workers import Workers
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Blobs below this many bytes are sent sooner than asked for in other repositories.
_WORTH_ASKING = 64 << 10
#: How many other repositories of the list are asked whether they have a blob.
_MOST_ASKED = 8


class Holders:
    """What is known of the repositories of a run; several threads may use it.

    `targets`: the names that the run has to do with, and whether something is there already.
    `source_is_registry`: what is copied from has the blobs, and not a file that came from there.
    """

    def __init__(
        self,
        client: Client,
        targets: Iterable[tuple[Reference, bool]],
        source_is_registry: bool = True,
    ) -> None:
        self._client = client
        self._source_is_registry = source_is_registry
        self._known: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._siblings: dict[str, dict[str, Reference]] = defaultdict(dict)
        self._lock = threading.Lock()
        for target, is_there in targets:
            if is_there:
                self._siblings[target.registry][target.repository] = target

    def add(self, target: Reference, digest: str) -> None:
        """The repository holds the blob."""
        with self._lock:
            self._known[target.registry, digest][target.repository] = None

    def others(self, source: Reference, target: Reference, blob: Descriptor) -> Iterator[str]:
        """Repositories that the target's could mount the blob from, the surest first.

        Those that other items of the list have filled before are asked for it (HEAD) when
        there is no surer one, and it is worth it.
        """
        with self._lock:
            known = list(self._known[target.registry, blob.digest])
        if self._source_is_registry and source.registry == target.registry:
            known.append(source.repository)
        known = [r for r in dict.fromkeys(known) if r != target.repository]
        yield from known
        if blob.size < _WORTH_ASKING:
            return
        asked = 0
        for repository, name in self._siblings[target.registry].items():
            if repository == target.repository or repository in known:
                continue
            if asked == _MOST_ASKED:
                return
            asked += 1
            if self._client.has_blob(name, blob):
                self.add(name, blob.digest)
                yield repository


@dataclass(frozen=True)
class Bytes:
    """Of one image: what would go over the wire, and what another repository has."""

    move: int
    mount: int


def count_blobs(
    client: Client,
    holders: Holders,
    jobs: Sequence[tuple[Reference, Reference, Tree]],
    workers: Workers,
) -> list[Bytes]:
    """What it would take to have the blobs of these images (source, target, tree) in place.

    A blob of several images counts for the first one; the others have it, or mount it.
    """
    wanted: dict[tuple[str, str], tuple[Reference, Reference, Descriptor]] = {}
    for source, target, tree in jobs:
        for blob in tree.blobs:
            wanted.setdefault((target.name, blob.digest), (source, target, blob))

    def look(key: tuple[str, str]) -> str:
        source, target, blob = wanted[key]
        if client.has_blob(target, blob):
            holders.add(target, blob.digest)
            return "there"
        return "mount" if next(holders.others(source, target, blob), None) else "move"

    found = dict(zip(wanted, workers.map(look, wanted), strict=True))
    moved: set[tuple[str, str]] = set()
    counts = []
    for _, target, tree in jobs:
        move = mount = 0
        for blob in tree.blobs:
            # Whatever the first image of a repository does with it, the next one finds it.
            how = found.pop((target.name, blob.digest), "there")
            if how == "move" and (target.registry, blob.digest) not in moved:
                moved.add((target.registry, blob.digest))
                move += blob.size
            elif how != "there":
                mount += blob.size
        counts.append(Bytes(move, mount))
    return counts
