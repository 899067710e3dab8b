"""The pattern book: its form, and reading it.

An entry is found in a text when one of its `any` patterns matches and all of its `also`
patterns match somewhere, too, while none of its `unless` patterns does. The line of the
`any` pattern is the one that is shown. What the holes caught stands for `{name}` in
`title`, `cause` and `advice`; a hole that only some of the patterns have needs a word in
`otherwise`.
"""

from __future__ import annotations

import enum
import functools
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imagebuild.explain.patterns import Pattern, compile_pattern

BOOK = Path(__file__).with_name("book.yaml")
_NAME = re.compile(r"\{([a-z_]+)\}")


class Scope(str, enum.Enum):
    """Whose log an entry is about."""

    BUILD = "build"  # diskimage-builder, apt, pip, our own build.log
    BOOT = "boot"  # a guest's console, cloud-init
    AGENT = "agent"  # the guest agent and docker in the guest
    CONTROL = "control"  # Trove's own services
    PUBLISH = "publish"  # Glance, datastore versions

    def __str__(self) -> str:
        return str(self.value)


class Rank(enum.IntEnum):
    """Which explanation wins when a log holds several; the later line wins among equals."""

    SYMPTOM = 10  # follows from something that another entry may name
    LIKELY = 30  # a usual cause of what is seen
    CAUSE = 50  # the line itself says what is wrong
    PRECISE = 70  # the same, for a narrower case
    ROOT = 90  # of the host: it causes others' messages (no space, no memory)


def _rank(value: Any) -> Any:  # noqa: ANN401 - pydantic's call
    return Rank.__members__.get(value.upper(), value) if isinstance(value, str) else value


def _pattern(value: Any) -> Any:  # noqa: ANN401 - pydantic's call
    return compile_pattern(value) if isinstance(value, str) else value


_Patterns = tuple[Annotated[Pattern, BeforeValidator(_pattern)], ...]


class Entry(BaseModel):
    """One known failure."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    scope: tuple[Scope, ...] = Field(min_length=1)
    rank: Annotated[Rank, BeforeValidator(_rank)]
    title: str = Field(min_length=10, max_length=140)
    cause: str = Field(min_length=20)
    advice: tuple[str, ...] = Field(min_length=1)
    source: tuple[str, ...] = Field(min_length=1)
    any: _Patterns = Field(min_length=1)
    also: _Patterns = ()
    unless: _Patterns = ()
    otherwise: dict[str, str] = Field(default_factory=dict)
    temporary: bool = False

    @model_validator(mode="after")
    def _fields_are_there(self) -> Entry:
        always = frozenset.intersection(*(p.fields for p in self.any))
        known = always.union(self.otherwise, *(p.fields for p in self.also))
        for text in (self.title, self.cause, *self.advice):
            for name in _NAME.findall(text):
                if name not in known:
                    raise ValueError(f"{self.id}: not every pattern has {{{name}}}")
        return self

    def fill(self, text: str, fields: dict[str, str]) -> str:
        """`text` with what the holes caught."""
        found = self.otherwise | {k: v for k, v in fields.items() if v}
        return _NAME.sub(lambda m: found.get(m[1], m[0]), text)


class Book(BaseModel):
    """All entries, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[Entry, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Book:
        ids = [entry.id for entry in self.entries]
        if double := {i for i in ids if ids.count(i) > 1}:
            raise ValueError(f"more than one entry is called {', '.join(sorted(double))}")
        return self


@functools.cache
def load_book(path: Path = BOOK) -> Book:
    """Read a book. Raises pydantic's ValidationError: the shipped book is tested."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Book.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))  # noqa: S506 - a safe loader
