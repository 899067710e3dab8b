"""What verification's own findings mean: causes by name, for every level.

A cause that shows in a log is an entry of the pattern book (imagebuild/explain) and goes by
its line. What is seen in an image's files has no line of a log; its causes are those of
causes.yaml, in the book's words: title, cause, advice. `{name}` is filled in.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from imagebuild.errors import Cause
from imagebuild.explain import Scope, explain, load_book

_FILE = Path(__file__).with_name("causes.yaml")
_NAME = re.compile(r"\{([a-z_]+)\}")


class Known(BaseModel):
    """One cause: `title` in one sentence, `cause` in some more, one thing to try per `advice`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str = Field(min_length=10, max_length=140)
    cause: str = Field(min_length=20)
    advice: tuple[str, ...] = Field(min_length=1)


@functools.cache
def known_causes() -> Mapping[str, Known]:
    """The causes of causes.yaml by id. Raises pydantic's ValidationError: the file is tested."""
    entries = yaml.safe_load(_FILE.read_text(encoding="utf-8"))["causes"]
    return {k.id: k for k in map(Known.model_validate, entries)}


def cause(name: str, line: str = "", **fields: str) -> Cause:
    """The cause `name`, of causes.yaml or of the book, with `line` as what shows it.

    `fields` fill the holes of its texts; a hole without a field keeps its name. Raises
    KeyError when there is no such cause.
    """
    if own := known_causes().get(name):
        title, text, advice = own.title, own.cause, own.advice
        fill = functools.partial(_filled, fields=fields)
    else:
        entry = next((e for e in load_book().entries if e.id == name), None)
        if entry is None:
            raise KeyError(name)
        title, text, advice = entry.title, entry.cause, entry.advice
        fill = functools.partial(entry.fill, fields=fields)
    return Cause(name, fill(title), fill(text).strip(), tuple(map(fill, advice)), line)


def _filled(text: str, fields: Mapping[str, str]) -> str:
    return _NAME.sub(lambda m: fields.get(m[1], m[1]), text)


def cause_of(lines: str, *scopes: Scope) -> Cause | None:
    """The likeliest cause for lines of logs of these kinds (default: a console); None: nothing
    was recognised.
    """
    found = [e for scope in scopes or (Scope.BOOT,) for e in explain(lines, scope)]
    if not found:
        return None
    best = max(found, key=lambda e: (e.rank, e.number))
    return Cause(best.id, best.title, best.cause, best.advice, best.line)
