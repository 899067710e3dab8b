"""An object of the store, and the document that says what it is.

`object.json` is the last file that is written into an object. It holds a digest of itself:
what it says is used to build with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.config.words import Word
from imagebuild.digest import of_value
from imagebuild.files import open_regular

SCHEMA_VERSION = 1
#: The files of an object that are the store's own.
DOCUMENT = "object.json"
SEAL = "seal.json"
#: The directory of an object that holds root's files, and the inventory of it.
TREE = "tree"
INVENTORY = "tree.jsonl.gz"

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema_version": int, "kind": str, "id": str, "image": str, "inputs": dict, "facts": dict,
    "payload": dict, "size": int, "created": (int, float), "sha256": str,
}  # fmt: skip


class Kind(Word):
    """What an object is."""

    BASE = "base"
    ENVIRONMENT = "environment"
    AGENT = "agent"
    ELEMENTS = "elements"
    CONTAINER = "container"
    TRUNK = "trunk"
    QCOW2 = "qcow2"
    FORMATS = "formats"


@dataclass(frozen=True)
class Key:
    """The name of an object: its kind, and the id (64 hex digits) of all that goes into it."""

    kind: Kind
    id: str

    @property
    def name(self) -> str:
        """Of its directory; half of the id is enough to tell objects apart."""
        return f"{self.kind}-{self.id[:32]}"


@dataclass(frozen=True)
class Object:
    """An object as its document describes it.

    `image` is the link name of the image that it was made for, `inputs` the plan's inputs of
    its stage, `facts` whatever the stage has to say. `payload` maps the name of each file to
    `{"blocks", "size"}` (see fingerprint.of_file), and `tree` to `{"sha256", "entries",
    "bytes"}`, the summary of its inventory. `size` is what it takes on disk, in bytes;
    `created` and `used`, its last use, are seconds since 1970.
    """

    key: Key
    path: Path
    image: str
    inputs: Mapping[str, Any]
    facts: Mapping[str, Any]
    payload: Mapping[str, Mapping[str, Any]]
    size: int
    created: float
    used: float

    @property
    def has_tree(self) -> bool:
        """Whether root is needed to read all of it."""
        return TREE in self.payload

    @property
    def tree(self) -> Path:
        """Its directory of root's files."""
        return self.path / TREE


def write_document(directory: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write `object.json`, its own digest added; returns the whole document."""
    whole = {"schema_version": SCHEMA_VERSION, **document}
    whole["sha256"] = of_value(whole)
    (directory / DOCUMENT).write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def read_document(directory: Path) -> dict[str, Any]:
    """The document of an object. Raises FileNotFoundError, and ValueError that says what is
    wrong with it.
    """
    try:
        with open_regular(directory / DOCUMENT) as file:
            document = json.loads(file.read())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as exc:
        raise ValueError(f"{DOCUMENT} cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise ValueError(f"{DOCUMENT} does not describe an object")
    for name, kind in _FIELDS.items():
        if not isinstance(document.get(name), kind):
            raise ValueError(f"{DOCUMENT} lacks {name}")
    rest = {k: v for k, v in document.items() if k != "sha256"}
    if of_value(rest) != document["sha256"]:
        raise ValueError(f"{DOCUMENT} is not what was written")
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"it is of schema version {document['schema_version']}")
    return document


def is_payload_name(name: str) -> bool:
    """Whether a file of an object may have this name."""
    return name not in ("", ".", "..", DOCUMENT, SEAL) and "/" not in name and "\0" not in name
