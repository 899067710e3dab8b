"""What an object of the store is in a registry: an OCI artifact (image specification 1.1,
manifest.md, "Guidelines for Artifact Usage").

Its tag is the object's name, KIND-ID. The config is the object's own document, object.json, as
it is; each part of the payload is a layer, with its name as the title:

    …store.file.v1        a file as it is
    …store.file.v1+zstd   a file, compressed
    …store.tree.v1+zstd   the contents of the tree's files, compressed (trees.py)
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from imagebuild.digest import of_bytes, of_value
from imagebuild.files import MIB
from imagebuild.registry.manifest import MANIFESTS, Descriptor, Manifest
from imagebuild.store.objects import INVENTORY, TREE, Key, Kind, is_payload_name
from imagebuild.store.remote.stream import DamagedError

_TYPE = "application/vnd.imagebuild.store"
ARTIFACT = f"{_TYPE}.object.v1"
CONFIG = f"{_TYPE}.object.v1+json"
PLAIN = f"{_TYPE}.file.v1"
PACKED = f"{_TYPE}.file.v1+zstd"
PACKED_TREE = f"{_TYPE}.tree.v1+zstd"

_TITLE = "org.opencontainers.image.title"
#: What is compressed already, and what is so small that people may want to read it there.
_COMPRESSED = (".qcow2", ".gz", ".zst", ".xz")
_SMALL = MIB
_MOST_PARTS = 100
#: Bytes of a part, unpacked: no disk of a guest is larger.
_LARGEST = 1 << 40
_HEX = re.compile(r"[0-9a-f]{64}")
#: What a kind's facts must have: the stages above it build on them.
_FACTS: Mapping[Kind, Mapping[str, type]] = {
    Kind.BASE: {"hooks": list},
    Kind.ENVIRONMENT: {"hooks": list, "wheels": dict, "versions": dict, "compiled": list},
    Kind.AGENT: {"wheels": dict},
    Kind.ELEMENTS: {"hooks": list},
    Kind.CONTAINER: {"made_of": dict},
}


@dataclass(frozen=True)
class Part:
    """A part of an object's payload as a blob. `size`: its bytes when it is unpacked."""

    name: str
    blob: Descriptor
    size: int


@dataclass(frozen=True)
class Parcel:
    """An object in a registry: its document's blob, and its parts."""

    config: Descriptor
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """What is sent, and fetched, of it."""
        return self.config.size + sum(p.blob.size for p in self.parts)


def media_type(name: str, size: int) -> str:
    """How a part travels. The same for all machines, so that the blobs are the same."""
    if name == TREE:
        return PACKED_TREE
    return PLAIN if size < _SMALL or name.endswith(_COMPRESSED) else PACKED


def unpacked_sizes(document: Mapping[str, Any]) -> dict[str, int]:
    """The bytes of each part of an object; of a tree those of its files."""
    return {
        name: said["bytes"] if name == TREE else said["size"]
        for name, said in document["payload"].items()
    }


def write(key: Key, document: Mapping[str, Any], parcel: Parcel) -> Manifest:
    """The manifest of an object."""
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(document["created"]))
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "artifactType": ARTIFACT,
            "config": parcel.config.to_json(),
            "layers": [p.blob.to_json() | {"annotations": {_TITLE: p.name}} for p in parcel.parts],
            "annotations": {
                "org.opencontainers.image.created": made,
                "org.opencontainers.image.title": f"{key.kind} of {document['image']}",
                f"{_TYPE.removeprefix('application/')}.kind": str(key.kind),
                f"{_TYPE.removeprefix('application/')}.id": key.id,
            },
        },
        indent=1,
    ).encode()
    return Manifest(data, f"sha256:{of_bytes(data)}", MANIFESTS[0])


def read_parcel(manifest: Manifest) -> Parcel:
    """What a manifest says. Raises DamagedError for what is no object of a store."""
    try:
        document = json.loads(manifest.data)
        if document.get("artifactType") != ARTIFACT or manifest.media_type != MANIFESTS[0]:
            _refuse("it is no object of a store")
        config = Descriptor.from_json(document["config"])
        layers = document["layers"]
        if config.media_type != CONFIG or not isinstance(layers, list):
            _refuse("its manifest is not that of an object")
        if len(layers) > _MOST_PARTS:
            _refuse("it has too many parts")
        parts = tuple(
            Part(str(layer["annotations"][_TITLE]), Descriptor.from_json(layer), -1)
            for layer in layers
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise DamagedError(f"its manifest cannot be read: {exc}"[:300]) from None
    return Parcel(config, parts)


def check(parcel: Parcel, document: Mapping[str, Any], key: Key, inputs: object) -> Parcel:
    """Whether document and parts are those of the object that is wanted, and fit together; the
    parcel with the sizes of its parts. Raises DamagedError.

    `document` is what objects.read_document gives.
    """
    if (document["kind"], document["id"]) != (str(key.kind), key.id):
        _refuse(f"it is the object {document['kind']} {document['id']}"[:200])
    if of_value(document["inputs"]) != of_value(inputs):
        _refuse("it was made of other inputs")
    for name, kind in _FACTS.get(key.kind, {}).items():
        if not isinstance(document["facts"].get(name), kind):
            _refuse(f"its facts lack {name}")
    for name, said in document["payload"].items():
        _check_said(name, said)
    if TREE in document["payload"] and INVENTORY not in document["payload"]:
        _refuse("its tree has no inventory")
    sizes = unpacked_sizes(document)
    if sorted(p.name for p in parcel.parts) != sorted(sizes):
        _refuse("its parts are not those that its document names")
    for part in parcel.parts:
        size, blob = sizes[part.name], part.blob
        if blob.media_type != media_type(part.name, size):
            _refuse(f"{part.name} is of the type {blob.media_type[:100]!r}")
        # What cannot be compressed grows a little.
        most = size if blob.media_type == PLAIN else size + size // 100 + 4096
        if blob.size > most or (blob.media_type == PLAIN and blob.size != size):
            _refuse(f"{part.name} has {blob.size} bytes instead of {size}")
    return Parcel(parcel.config, tuple(Part(p.name, p.blob, sizes[p.name]) for p in parcel.parts))


def _check_said(name: str, said: object) -> None:
    numbers: Sequence[str] = ("entries", "bytes") if name == TREE else ("size",)
    digest = "sha256" if name == TREE else "blocks"
    is_right = (
        is_payload_name(name)
        and isinstance(said, dict)
        and all(type(said.get(n)) is int and 0 <= said[n] <= _LARGEST for n in numbers)
        and isinstance(said.get(digest), str)
        and _HEX.fullmatch(said[digest])
    )
    if not is_right:
        _refuse(f"its document says what cannot be of {name[:100]!a}")


def _refuse(text: str) -> NoReturn:
    raise DamagedError(text)
