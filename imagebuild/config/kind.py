"""Kinds of configuration files: the schema of each, and what people call it.

Loading, merging and explaining mistakes are the same for all of them; what differs is here.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    `noun` is what people call it; `shows` says where all keys are explained, `lists` where the
    files that have a name are listed, `example` where one can be seen.

    Of `path_keys` the values are paths, or may be; relative ones start at the file that sets
    them, and a star stands for every entry of a list. `resets` says what an inherited key loses
    its meaning by: (key, only when its value changes, lost keys). `appended` has pairs: a
    list that only files have, and the list of the schema that its entries are added to.
    `relocate` makes those paths of a (possibly invalid) tree absolute that `path_keys` cannot
    name.
    """

    model: type[BaseModel]
    noun: str
    shows: str
    lists: str
    example: str
    path_keys: tuple[Keys, ...] = ()
    resets: tuple[tuple[Keys, bool, tuple[Keys, ...]], ...] = ()
    appended: tuple[tuple[str, str], ...] = ()
    relocate: Callable[[dict[str, Any], Path], None] | None = None

    def model_at(self, loc: Sequence[str | int]) -> type[BaseModel] | None:
        """The model that describes the mapping at `loc`; None when there is no mapping there."""
        model: type[BaseModel] | None = self.model
        for key in loc:
            if isinstance(key, int):  # an entry of a list, which the key before it names
                continue
            found = model.model_fields.get(key) if model else None
            model = _model_in(found.annotation) if found else None
        return model

    def choices_at(self, loc: Sequence[str | int]) -> list[str]:
        """Words that are allowed at `loc` (a key, or an entry of the list there)."""
        keys = [key for key in loc if isinstance(key, str)]
        model = self.model_at(keys[:-1])
        if model is None or not keys or keys[-1] not in model.model_fields:
            return []
        # FieldInfo strips the outermost Annotated: what is inside is in `annotation` still.
        annotation = model.model_fields[keys[-1]].annotation
        for choice in _types_in(annotation):
            if issubclass(choice, enum.Enum):
                return [str(word.value) for word in choice]
        return []

    def known_paths(self) -> tuple[str, ...]:
        """Every key as a dotted path, mappings included, in the schema's order."""

        return _paths(self.model)


@functools.cache
def _paths(whole: type[BaseModel]) -> tuple[str, ...]:
    def walk(model: type[BaseModel], prefix: str) -> list[str]:
        paths = []
        for key, found in model.model_fields.items():
            paths.append(prefix + key)
            below = _model_in(found.annotation)
            if below:
                paths += walk(below, f"{prefix}{key}.")
        return paths

    return tuple(walk(whole, ""))


def schema_of_files(
    kind: Kind, first: dict[str, Any], last: dict[str, Any] | None = None
) -> dict[str, Any]:
    """JSON schema of the files of a kind: that of its model, with nothing required.

    Any key may come from the file that a file extends. `first` and `last` are keys that only
    files have.
    """
    schema = kind.model.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
        for key in part.get("properties", {}).values():
            # pydantic leaves a description out when the model below has the same.
            below = schema["$defs"].get(key.get("$ref", "").rpartition("/")[2], {})
            key.setdefault("description", below.get("description", ""))
    schema["properties"] = first | schema["properties"] | (last or {})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _types_in(annotation: Any) -> list[type]:  # noqa: ANN401 - any annotation
    """Classes inside an annotation such as `Annotated[tuple[X, ...], …] | None`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation]
    return [t for part in typing.get_args(annotation) for t in _types_in(part)]


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    found = [t for t in _types_in(annotation) if issubclass(t, BaseModel)]
    return found[0] if found else None
