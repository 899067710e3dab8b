"""The way of one image into the target, step by step."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagebuild.errors import BuildError, ConfigError, ImagebuildError, PreflightError
from imagebuild.mirror.blobs import How, Tally, Transfers
from imagebuild.mirror.giveup import Registries
from imagebuild.mirror.planning import Planned
from imagebuild.mirror.referrers import Attached, Subjects, find_attached
from imagebuild.mirror.result import Outcome, Result, outcome_of
from imagebuild.mirror.source import Source
from imagebuild.mirror.sourcetree import read_source
from imagebuild.mirror.trees import Tree, read_tree
from imagebuild.mirror.workers import StoppedError, Workers
from imagebuild.registry.manifest import Descriptor, Manifest
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Layers of attestations, which nobody signs by themselves.
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Shared:
    """What all images of a run share."""

    client: Client
    source: Source
    questions: Workers
    transfers: Transfers
    registries: Registries
    subjects: Subjects
    stop: threading.Event
    deep: bool
    new_referrers: bool


class ImageCopy:
    """One item. `tally` says meanwhile how far it is."""

    def __init__(self, shared: Shared, planned: Planned, tally: Tally) -> None:
        self._shared = shared
        self._client = shared.client
        self._planned = planned
        self._item = planned.item
        self._tally = tally
        self._referrers = 0
        self._backup = ""

    def run(self) -> Result:
        """The end of it, which may be an error. Raises StoppedError."""
        try:
            return self._changed() if self._planned.stale_tags else self._unchanged()
        except ImagebuildError as exc:
            there = self._planned.there.digest if self._planned.there else ""
            return self._result(outcome_of(exc), (), digest=there, error=exc.to_json())

    def _changed(self) -> Result:
        tree = self._source_tree()
        self._copy(tree, self._attached(tree))
        self._keep_old()
        tags = self._planned.stale_tags
        self._put_tags(tree, tags)
        if self._backup:
            tags = (*tags, self._backup)
        return self._result(self._planned.outcome, tags, size=tree.size)

    def _unchanged(self) -> Result:
        """Of an image whose tags are the same: what the target has lost, and new signatures."""
        tree = self._target_tree()
        repaired = 0
        if self._shared.deep and (tree is None or not self._has_blobs(tree)):
            tree = self._source_tree()
            self._copy(tree, self._attached(tree))
            self._put_tags(tree, (self._item.target.tag, *self._item.aliases))
            # A manifest that was lost is something, too.
            repaired = self._tally.copied or 1
        elif tree and self._shared.new_referrers:
            self._put_attached(self._attached(tree))
        size = tree.size if tree else 0
        return self._result(Outcome.UNCHANGED, (), size=size, repaired=repaired)

    def _result(
        self,
        outcome: Outcome,
        tags: tuple[str, ...],
        *,
        digest: str = "",
        size: int = 0,
        repaired: int = 0,
        error: dict[str, object] | None = None,
    ) -> Result:
        planned, tally = self._planned, self._tally
        return Result(
            self._item,
            outcome,
            digest=digest or (planned.wanted.digest if planned.wanted else ""),
            before=planned.there.digest if planned.there else "",
            bytes_copied=tally.sent,
            bytes_mounted=tally.bytes[How.MOUNTED],
            bytes_present=tally.bytes[How.PRESENT],
            tags=tags,
            error=error,
            source_digest=planned.source.digest if planned.source else "",
            size=size,
            referrers=self._referrers,
            repaired=repaired,
            backup=self._backup,
            made_as=planned.made_as,
        )

    # What there is

    def _source_tree(self) -> Tree:
        planned = self._planned
        assert planned.source  # noqa: S101 - there is no error
        if planned.tree:
            return planned.tree
        with self._shared.registries.asked(self._item.source.registry):
            return read_source(
                self._shared.source, self._item, planned.source.digest, planned.index,
                self._shared.questions.map,
            )  # fmt: skip

    def _target_tree(self) -> Tree | None:
        """The image as the target has it; None when manifests are lost or damaged."""
        target = self._item.target
        assert self._planned.wanted  # noqa: S101 - there is no error

        def fetch(wanted: Sequence[Descriptor]) -> Sequence[Manifest]:
            return self._shared.questions.map(
                lambda d: self._client.get_manifest(target.at(d.digest)), wanted
            )

        with self._shared.registries.asked(target.registry):
            try:
                return read_tree(fetch([self._planned.wanted])[0], fetch, str(target))
            except (ConfigError, BuildError):
                return None

    def _has_blobs(self, tree: Tree) -> bool:
        def has(blob: Descriptor) -> bool:
            return self._client.has_blob(self._item.target, blob)

        with self._shared.registries.asked(self._item.target.registry):
            return all(self._shared.questions.map(has, tree.blobs))

    def _attached(self, tree: Tree) -> list[Attached]:
        """What the source has beside the image; of an index of ours it has nothing."""
        if not self._item.referrers:
            return []
        theirs = self._planned.source.digest if self._planned.source else ""
        digests = [
            node.manifest.digest
            for node in tree.nodes()
            if (node is not tree or node.manifest.digest == theirs)
            and not any(b.media_type == _IN_TOTO for b in node.parts.blobs)
        ]
        source = self._item.source
        with self._shared.registries.asked(source.registry):
            return find_attached(self._shared.source, source, digests, self._shared.questions)

    def _foreign(self, trees: Sequence[Tree]) -> list[Descriptor]:
        """Layers that their makers keep elsewhere, where the source has them nevertheless."""
        blobs = list({b.digest: b for tree in trees for b in tree.foreign}.values())
        source = self._item.source

        def serves(blob: Descriptor) -> bool:
            try:
                next(self._shared.source.open_blob(source, blob), b"")
            except (ConfigError, BuildError, PreflightError):
                return False
            return True

        there = self._shared.questions.map(serves, blobs)
        return [b for b, is_there in zip(blobs, there, strict=True) if is_there]

    # What is put

    def _copy(self, tree: Tree, attached: Sequence[Attached]) -> None:
        """Everything but the tags."""
        target = self._item.target
        self._bring([tree, *(a.tree for a in attached)])
        with self._shared.registries.asked(target.registry):
            for node in tree.nodes():
                # The image itself comes with its tag, unless something is to refer to it.
                if node is not tree or attached:
                    self._put(target.at(node.manifest.digest), node.manifest)
        self._put_each(attached)

    def _put_attached(self, attached: Sequence[Attached]) -> None:
        if attached:
            self._bring([a.tree for a in attached])
            self._put_each(attached)

    def _bring(self, trees: Sequence[Tree]) -> None:
        blobs = {b.digest: b for tree in trees for b in tree.blobs}
        blobs |= {b.digest: b for b in self._foreign(trees)}
        self._tally.total = sum(b.size for b in blobs.values())
        source, target = self._item.source, self._item.target
        self._shared.transfers.bring(source, target, list(blobs.values()), self._tally)

    def _put_each(self, attached: Sequence[Attached]) -> None:
        target = self._item.target
        with self._shared.registries.asked(target.registry):
            for one in attached:
                self._go_on()
                self._referrers += self._shared.subjects.put(target, one)

    def _keep_old(self) -> None:
        """Give the image that is replaced its tag."""
        planned, target = self._planned, self._item.target
        if not (self._item.backup and planned.there and target.tag in planned.stale_tags):
            return
        with self._shared.registries.asked(target.registry):
            old = self._client.get_manifest(target.at(planned.there.digest))
            self._put(dataclasses.replace(target, tag=self._item.backup, digest=""), old)
        self._backup = self._item.backup

    def _put_tags(self, tree: Tree, tags: Sequence[str]) -> None:
        target = self._item.target
        with self._shared.registries.asked(target.registry):
            for tag in tags:
                self._put(dataclasses.replace(target, tag=tag, digest=""), tree.manifest)

    def _put(self, reference: Reference, manifest: Manifest) -> None:
        self._go_on()
        self._client.put_manifest(reference, manifest)

    def _go_on(self) -> None:
        if self._shared.stop.is_set():
            raise StoppedError
