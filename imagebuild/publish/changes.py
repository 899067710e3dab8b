"""What differs between a record and what it is to say, and the patch that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagebuild.cloud.images import Image
from imagebuild.publish import properties
from imagebuild.publish.describe import Description


@dataclass(frozen=True)
class Change:
    """One attribute or property. `old` and `new` are as people read them, None: not there."""

    field: str
    old: str | None
    new: str | None
    operation: Mapping[str, Any]

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.field}: {self.new}"
        return f"{self.field}: {self.old} -> {self.new or 'none'}"

    def to_json(self) -> dict[str, str | None]:
        """Shape used by `upload --json`."""
        return {"field": self.field, "old": self.old, "new": self.new}


def differences(image: Image, wanted: Description) -> list[Change]:
    """What is to be changed, in the order in which it is said.

    Tags are added, none is taken away: those that Trove goes by are `datastore`'s to take,
    and what that withdrew is not given back. Other people's properties stay. Visibility
    changes only where one was asked for.
    """
    found = [
        _set("name", image.name, wanted.name),
        _set("min_disk", image.min_disk, wanted.min_disk),
        _set("min_ram", image.min_ram, wanted.min_ram),
    ]
    if wanted.visibility:
        found.append(_set("visibility", image.visibility, wanted.visibility))
    if wanted.protected:
        found.append(_set("protected", image.is_protected, True))
    for name, value in wanted.properties.items():
        old = image.properties.get(name)
        if name == properties.TAGS and old:
            value = ",".join(dict.fromkeys((*old.split(","), *value.split(","))))
        found.append(_property(name, old, value))
    if properties.UPLOADING in image.properties:
        name = properties.UPLOADING
        operation = {"op": "remove", "path": _pointer(name)}
        found.append(Change(name, image.properties[name], None, operation))
    if tags := _missing_tags(image, wanted) - withheld(image, wanted):
        found.append(_set("tags", sorted(image.tags), sorted({*image.tags, *tags})))
    return [c for c in found if c]


def withheld(image: Image, wanted: Description) -> set[str]:
    """The tags that it has not, because somebody took them away on purpose."""
    withdrawn = image.properties.get(properties.WITHDRAWN, "").split(",")
    return _missing_tags(image, wanted) & set(withdrawn)


def _missing_tags(image: Image, wanted: Description) -> set[str]:
    return set(wanted.tags) - image.tags


def _set(field: str, old: Any, new: Any) -> Change | None:  # noqa: ANN401 - any JSON value
    if old == new:
        return None
    operation = {"op": "replace", "path": f"/{field}", "value": new}
    return Change(field, _text(old), _text(new), operation)


def _property(name: str, old: str | None, new: str) -> Change | None:
    if old == new:
        return None
    # "add" stands for both: it replaces what is there (RFC 6902, 4.1).
    return Change(name, old, new, {"op": "add", "path": _pointer(name), "value": new})


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return ",".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pointer(name: str) -> str:
    """The JSON pointer (RFC 6901) of a property."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
