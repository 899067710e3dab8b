"""An image as a tree: indexes and manifests, each byte for byte, and the blobs that they name.

What they describe does not matter here: images, charts, signatures and SBOMs all have the
same form (OCI image specification 1.1: manifest.md, image-index.md), so that a mirror copies
what it has never heard of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.digest import of_bytes
from imagebuild.errors import BuildError, ConfigError
from imagebuild.mirror.problems import MissingError
from imagebuild.registry.manifest import INDEXES, MANIFESTS, SCHEMA_1, Descriptor, Manifest

#: Manifests below one name: real images have some dozens.
_MOST_MANIFESTS = 1000
#: Indexes in indexes.
_DEEPEST = 8
#: Layers that whoever made them does not want to be passed on (image-spec, "Non-Distributable
#: Layers"; docker's foreign layers).
_NOT_DISTRIBUTABLE = ("nondistributable", "foreign.diff")
#: Of an index that we have made: the digest of the one that it was made of.
SOURCE_ANNOTATION = "imagebuild.mirror.source-digest"
#: What an architecture without a variant means (image-index.md, "Platform Variants").
_PLAIN = {"arm64": "v8", "amd64": "v1", "arm": "v7"}

#: Fetches manifests by what names them, all at once, in their order.
Fetch = Callable[[Sequence[Descriptor]], Sequence[Manifest]]


@dataclass(frozen=True)
class Parts:
    """What one manifest or index names: manifests, blobs, and blobs that may be elsewhere."""

    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    foreign: tuple[Descriptor, ...] = ()


@dataclass(frozen=True)
class Tree:
    """A manifest or index, and all below it."""

    manifest: Manifest
    parts: Parts
    children: tuple[Tree, ...] = ()

    def nodes(self) -> Iterator[Tree]:
        """All manifests, those that are named before those that name them, each once."""
        seen: set[str] = set()
        yield from self._nodes(seen)

    def _nodes(self, seen: set[str]) -> Iterator[Tree]:
        if self.manifest.digest in seen:
            return
        seen.add(self.manifest.digest)
        for child in self.children:
            yield from child._nodes(seen)
        yield self

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Blobs of all manifests, each once."""
        return _unique(b for node in self.nodes() for b in node.parts.blobs)

    @property
    def foreign(self) -> tuple[Descriptor, ...]:
        """Blobs of all manifests that may be elsewhere than in the registry, each once."""
        return _unique(b for node in self.nodes() for b in node.parts.foreign)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(b.size for b in self.blobs)


def parts_of(manifest: Manifest, where: str) -> Parts:
    """What a manifest names. Raises ConfigError for what cannot be copied."""
    if manifest.media_type in SCHEMA_1:
        raise ConfigError(
            "the image has docker's manifest schema 1, which docker no longer reads",
            where=where,
            hint="pull it with an old docker and push it again, or take a newer tag",
        )
    document = json.loads(manifest.data)
    if manifest.is_index:
        return Parts(children=tuple(_child(e, where) for e in _list(document, "manifests", where)))
    if manifest.media_type not in MANIFESTS:
        raise ConfigError(
            "this is neither an image nor an artifact",
            where=where,
            detail=f"it is {manifest.media_type[:200]!r}",
        )
    entries = _list(document, "layers", where)
    layers = [_descriptor(e, where) for e in entries]
    elsewhere = {b.digest for e, b in zip(entries, layers, strict=True) if _is_foreign(e)}
    named = (_descriptor(document.get("config"), where), *layers)
    return Parts(
        blobs=_unique(b for b in named if b.digest not in elsewhere),
        foreign=_unique(b for b in layers if b.digest in elsewhere),
    )


def read_tree(root: Manifest, fetch: Fetch, where: str) -> Tree:
    """All below a manifest. Raises ConfigError for what cannot be copied, and what `fetch` does."""
    found: dict[str, tuple[Manifest, Parts]] = {}
    level: Sequence[Manifest] = [root]
    for _ in range(_DEEPEST):
        for manifest in level:
            found[manifest.digest] = manifest, parts_of(manifest, where)
        named = _unique(c for m in level for c in found[m.digest][1].children)
        wanted = [d for d in named if d.digest not in found]
        if len(found) + len(wanted) > _MOST_MANIFESTS:
            raise ConfigError(f"the image has more than {_MOST_MANIFESTS} manifests", where=where)
        if not wanted:
            return _grow(root.digest, found, {})
        level = fetch(wanted)
        for manifest, descriptor in zip(level, wanted, strict=True):
            _check(manifest, descriptor, where)
    raise ConfigError(f"the image has indexes in indexes, more than {_DEEPEST} deep", where=where)


def select(index: Manifest, platforms: Sequence[str], where: str) -> Manifest:
    """An index with the wanted platforms alone, and the attestations of their images.

    Entries keep their order and their form. When all are wanted, it is the index itself, byte
    for byte; the same index and platforms always give the same bytes. Nested indexes say no
    platform and stay. Raises MissingError for a platform that it does not have.
    """
    document = json.loads(index.data)
    entries = _list(document, "manifests", where)
    images = [e for e in entries if not _attested(e)]
    wanted = [tuple((p + "//").split("/")[:3]) for p in platforms]
    missing = [
        p for p, w in zip(platforms, wanted, strict=True) if not any(_fits(e, w) for e in images)
    ]
    if missing:
        raise no_platform(missing, [platform_of(e) for e in images], where)
    nested = [e for e in images if e.get("mediaType") in INDEXES and not platform_of(e)]
    kept = [e for e in images if e in nested or any(_fits(e, w) for w in wanted)]
    # Whether they are digests, whoever reads what is below finds out.
    digests = {str(e.get("digest")) for e in kept}
    chosen = [e for e in entries if e in kept or _attested(e) in digests]
    if len(chosen) == len(entries):
        return index
    made = document | {"manifests": chosen}
    if index.media_type == INDEXES[0]:
        # docker's lists have no annotations.
        annotations = document.get("annotations")
        made["annotations"] = (annotations if isinstance(annotations, dict) else {}) | {
            SOURCE_ANNOTATION: index.digest
        }
    return manifest_of(made, index.media_type)


def manifest_of(document: dict[str, Any], media_type: str) -> Manifest:
    """A manifest of our own."""
    data = json.dumps(document, indent=2).encode()
    return Manifest(data, f"sha256:{of_bytes(data)}", media_type)


def no_platform(missing: Sequence[str], there: Iterable[str], where: str) -> MissingError:
    """The error for platforms that an image does not have."""
    names = ", ".join(sorted({p or "no platform" for p in there}))
    return MissingError(
        f"there is no image for {', '.join(missing)}",
        where=where,
        detail=f"there are: {names or 'none at all'}",
        hint="take another tag, or leave the platform out of the list",
    )


def platform_of(entry: dict[str, Any]) -> str:
    """OS/ARCH[/VARIANT] of an index's entry, or ""."""
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return ""
    return "/".join(filter(None, (str(platform.get(k) or "") for k in
                                  ("os", "architecture", "variant"))))  # fmt: skip


def fits_platform(there: str, wanted: str) -> bool:
    """Whether a platform is the wanted one; a wanted one without a variant means any."""
    return _same((there + "//").split("/")[:3], (wanted + "//").split("/")[:3])


def _same(there: Sequence[str], wanted: Sequence[str]) -> bool:
    if tuple(there[:2]) != tuple(wanted[:2]):
        return False
    plain = _PLAIN.get(there[1], "")
    return not wanted[2] or (there[2] or plain) == wanted[2]


def _fits(entry: dict[str, Any], wanted: Sequence[str]) -> bool:
    return _same((platform_of(entry) + "//").split("/")[:3], wanted)


def _attested(entry: dict[str, Any]) -> str:
    """The digest of the image that an entry attests; "" for one that is no attestation
    (BuildKit's attestation-storage.md).
    """
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    marked = annotations.get("vnd.docker.reference.type") == "attestation-manifest"
    return str(annotations.get("vnd.docker.reference.digest", "")) if marked else ""


def _is_foreign(entry: dict[str, Any]) -> bool:
    media_type = str(entry.get("mediaType"))
    return bool(entry.get("urls")) or any(word in media_type for word in _NOT_DISTRIBUTABLE)


def _child(entry: dict[str, Any], where: str) -> Descriptor:
    child = _descriptor(entry, where)
    if child.media_type in SCHEMA_1 or child.media_type not in (*INDEXES, *MANIFESTS):
        raise ConfigError(
            "the index lists something that is no manifest",
            where=where,
            detail=f"{child.digest} is {child.media_type[:200]!r}",
        )
    return child


def _check(manifest: Manifest, wanted: Descriptor, where: str) -> None:
    if (manifest.digest, len(manifest.data)) != (wanted.digest, wanted.size):
        raise BuildError(
            "a manifest is not what its index says",
            where=where,
            detail=f"{wanted.digest} of {wanted.size} bytes is {manifest.digest} of "
            f"{len(manifest.data)}",
        )


def _grow(digest: str, found: dict[str, tuple[Manifest, Parts]], grown: dict[str, Tree]) -> Tree:
    """`grown`: each manifest is one tree, however many name it."""
    if digest not in grown:
        manifest, parts = found[digest]
        below = tuple(_grow(c.digest, found, grown) for c in _unique(parts.children))
        grown[digest] = Tree(manifest, parts, below)
    return grown[digest]


def _unique(blobs: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({b.digest: b for b in blobs}.values())


def _list(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ConfigError("the manifest is damaged", where=where, detail=f"no list of {key}")
    return entries


def _descriptor(data: object, where: str) -> Descriptor:
    try:
        return Descriptor.from_json(data)
    except ValueError as exc:
        raise ConfigError("the manifest is damaged", where=where, detail=str(exc)) from exc
