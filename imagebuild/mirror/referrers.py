"""What belongs to an image without being named by it: signatures, SBOMs, attestations.

There are two ways. A manifest may have a `subject` (image-spec 1.1, manifest.md): registries
list those by their referrers API, or clients do by the tag `sha256-HEX` (distribution-spec
1.1, "Referrers Tag Schema"). And cosign, before that was there, made tags `sha256-HEX.sig`,
`.att` and `.sbom` (sigstore's cosign, SIGNATURE_SPEC.md, "Storage").
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagebuild.errors import ConfigError, ImagebuildError, TemporaryError
from imagebuild.mirror.problems import GivenUpError
from imagebuild.mirror.source import Source
from imagebuild.mirror.trees import Tree, manifest_of, read_tree
from imagebuild.mirror.workers import Workers
from imagebuild.registry.manifest import INDEXES, Descriptor, Manifest
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

COSIGN = (".sig", ".att", ".sbom")
#: Signatures of SBOMs of images, and so on.
_DEEPEST = 3
#: Of an index that clients keep: tries to bring in what we have, while others do so, too.
_TRIES = 3


@dataclass(frozen=True)
class Attached:
    """One thing beside an image: it refers to `subject`, or stands under a tag of cosign's."""

    tree: Tree
    subject: str
    tag: str = ""


def fallback_tag(digest: str) -> str:
    """The tag that stands for a digest where tags are all there is."""
    return digest.replace(":", "-")


def find_attached(
    source: Source, name: Reference, digests: Sequence[str], workers: Workers
) -> list[Attached]:
    """All that the source has of these manifests, and of what was found itself.

    A registry that cannot list referrers has none: Docker Hub's older hosts and proxies answer
    400, 404 or 405. One that is not reached, or limits us, is an error.
    """
    found: dict[tuple[str, str], Attached] = {}
    level = list(dict.fromkeys(digests))
    asked: set[str] = set()
    for _ in range(_DEEPEST):
        asked |= set(level)
        listed = workers.map(lambda d: _listed(source, name, d), level)
        tagged = workers.map(
            lambda pair: _tagged(source, name, *pair), [(d, s) for d in level for s in COSIGN]
        )
        wanted = [(d, "", r) for d, rs in zip(level, listed, strict=True) for r in rs]
        wanted += [t for t in tagged if t]
        trees = workers.map(lambda w: _tree(source, name, w[2]), wanted)
        for (subject, tag, _), tree in zip(wanted, trees, strict=True):
            if tree:
                found.setdefault((tree.manifest.digest, tag), Attached(tree, subject, tag))
        level = [a.tree.manifest.digest for a in found.values() if not a.tag]
        level = [d for d in dict.fromkeys(level) if d not in asked]
        if not level:
            break
    return list(found.values())


def _listed(source: Source, name: Reference, digest: str) -> Sequence[Descriptor]:
    try:
        return source.referrers(name.at(digest))
    except (TemporaryError, GivenUpError):
        raise
    except ImagebuildError:
        return ()


def _tagged(
    source: Source, name: Reference, digest: str, suffix: str
) -> tuple[str, str, Descriptor] | None:
    tag = fallback_tag(digest) + suffix
    try:
        there = source.head_manifest(dataclasses.replace(name, tag=tag, digest=""))
    except (TemporaryError, GivenUpError):
        raise
    except ImagebuildError:
        return None
    return (digest, tag, there) if there else None


def _tree(source: Source, name: Reference, wanted: Descriptor) -> Tree | None:
    """What refers; None for one that is listed and gone, as clients' lists may have it."""
    where = f"{name.name}@{wanted.digest}"
    try:
        root = source.get_manifest(name.at(wanted.digest))
    except ConfigError:
        return None
    return read_tree(root, lambda ds: [source.get_manifest(name.at(d.digest)) for d in ds], where)


class Subjects:
    """Puts what refers into the target, so that it is found there from its subject."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: Two threads must not replace each other's entry in the index of one subject.
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def put(self, target: Reference, attached: Attached) -> bool:
        """Put its manifests; its blobs are there. Whether the target did not have it."""
        tree = attached.tree
        at_digest = dataclasses.replace(target, tag="", digest=tree.manifest.digest)
        named = dataclasses.replace(target, tag=attached.tag, digest="")
        before = self._client.head_manifest(named if attached.tag else at_digest)
        noted = False
        for node in tree.nodes():
            digest = node.manifest.digest
            noted = self._client.put_manifest(at_digest.at(digest), node.manifest)
        if attached.tag:
            if before is None or before.digest != tree.manifest.digest:
                self._client.put_manifest(named, tree.manifest)
        elif not noted:
            self._refer(at_digest.at(attached.subject), tree.manifest)
        return before is None or before.digest != tree.manifest.digest

    def _refer(self, subject: Reference, manifest: Manifest) -> None:
        """Where the registry does not list it by itself, bring it into the fallback tag."""
        with self._lock:
            lock = self._locks.setdefault(str(subject), threading.Lock())
        with lock:
            for _ in range(_TRIES):
                there = self._client.referrers(subject)
                if any(d.digest == manifest.digest for d in there):
                    return
                tag = dataclasses.replace(subject, tag=fallback_tag(subject.digest), digest="")
                self._client.put_manifest(tag, self._with_entry(tag, manifest))
        raise TemporaryError(
            "what refers to an image cannot be listed in the target",
            where=str(subject),
            detail=f"{manifest.digest} does not stay in the index of the tag {tag.tag}",
            hint="somebody else changes it at the same time: run it again",
        )

    def _with_entry(self, tag: Reference, manifest: Manifest) -> Manifest:
        entries: list[Any] = []
        if self._client.head_manifest(tag):
            document = json.loads(self._client.get_manifest(tag).data)
            listed = document.get("manifests")
            entries = listed if isinstance(listed, list) else []
        entries = [e for e in entries if e.get("digest") != manifest.digest]
        return manifest_of(
            {
                "schemaVersion": 2,
                "mediaType": INDEXES[0],
                "manifests": [*entries, entry_of(manifest)],
            },
            INDEXES[0],
        )


def entry_of(manifest: Manifest) -> dict[str, Any]:
    """How a list of referrers names a manifest (distribution-spec 1.1, "Listing Referrers")."""
    document = json.loads(manifest.data)
    entry = manifest.descriptor.to_json()
    config = document.get("config")
    kind = document.get("artifactType") or (isinstance(config, dict) and config.get("mediaType"))
    if kind:
        entry["artifactType"] = kind
    if isinstance(document.get("annotations"), dict):
        entry["annotations"] = document["annotations"]
    return entry
