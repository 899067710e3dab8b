"""Mistakes in a configuration file, in words for the person who wrote it.

pydantic finds them; here each gets the file and line of its key, what is allowed, and
the nearest valid word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from imagebuild.config.kind import Kind
from imagebuild.config.values import shown
from imagebuild.config.yamlmarks import MAX_MISTAKES, Loc, dotted, listed
from imagebuild.errors import ConfigError

_TYPE_NAMES = {
    "string_type": "text is expected",
    "string_unicode": "text in UTF-8 is expected",
    "path_type": "a path is expected",
    "tuple_type": "a list is expected",
    "model_type": "a mapping is expected: 'key: value' lines below it",
    "model_attributes_type": "a mapping is expected: 'key: value' lines below it",
    "dict_type": "a mapping is expected: 'key: value' lines below it",
    "bool_type": "true or false is expected",
}


#: More keys than the deepest key of any file has above it.
MAX_KEYS = 8


@dataclass(frozen=True)
class Problem:
    """One mistake: where (file and line, or a flag), at which key, what, and what to try."""

    where: str
    path: str
    text: str
    hint: str = ""
    is_missing_key: bool = False

    def line(self) -> str:
        """The problem on one line."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}: {self.path}: {self.text}{hint}"


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The allowed word that is most like `word`, or "" when none is."""
    by_small = {candidate.lower(): candidate for candidate in allowed}
    found = difflib.get_close_matches(word.lower()[:100], by_small, n=1, cutoff=0.6)
    return by_small[found[0]] if found else ""


def nearest_hint(word: str, allowed: Iterable[str]) -> str:
    """`did you mean 'x'?`, or ""."""
    found = nearest(word, allowed)
    return f"did you mean '{found}'?" if found else ""


def nearest_path(kind: Kind, path: str) -> str:
    """The known dotted path that `path` was perhaps meant to be, or ""."""
    known = kind.known_paths()
    parent, _, last = path.rpartition(".")
    siblings = [p for p in known if p.rpartition(".")[0] == parent]
    by_sibling = nearest(path, siblings)
    if by_sibling:
        return by_sibling
    # The right word in the wrong place: `size` for `disk.size`.
    by_word = {p.rpartition(".")[2]: p for p in reversed(known)}
    word = nearest(last, by_word) if len(last) > 2 else ""
    return by_word[word] if word else nearest(path, known)


def unknown_key(kind: Kind, path: str, where: str) -> Problem:
    """The problem of a key that no file of this kind has."""
    # No known key is as deep: what lies below that cannot be known either.
    plain = re.sub(r"\[[0-9]+\]", "", path)
    keys = plain.split(".")[:-1][:MAX_KEYS]
    model = kind.model_at(keys)
    while keys and model is None:
        keys.pop()
        model = kind.model_at(keys)
    allowed = ", ".join(model.model_fields if model else ())
    inside = f"in {'.'.join(keys)}" if keys else "at the top"
    found = nearest_path(kind, plain)
    return Problem(
        where,
        path if len(path) <= 100 else path[:99] + "…",
        f"unknown key; {inside} these are allowed: {allowed}",
        f"did you mean '{found}'?" if found else "",
    )


def _place(loc: Loc, marks: Mapping[Loc, str], default: str) -> str:
    for end in range(len(loc), 0, -1):
        if loc[:end] in marks:
            return marks[loc[:end]]
    return default


def _translate_one(kind: Kind, error: Mapping[str, Any], where: str, *, told: bool) -> Problem:
    loc: Loc = error["loc"]
    path = dotted(loc) or kind.noun
    mistake = error["type"]
    value = error["input"]
    if not told:  # only counted, so no nearest word is looked for
        return Problem(where, path, str(error["msg"]), is_missing_key=mistake == "missing")
    if mistake == "extra_forbidden":
        return unknown_key(kind, path, where)
    if mistake == "missing":
        return Problem(where, path, "this key is missing", is_missing_key=True)
    if mistake == "enum":
        choices = kind.choices_at(loc)
        hint = nearest_hint(value, choices) if isinstance(value, str) else ""
        return Problem(where, path, f"{shown(value)} is not one of: {', '.join(choices)}", hint)
    if mistake == "value_error":
        return Problem(where, path, str(error["ctx"]["error"]))
    text = _TYPE_NAMES.get(mistake, str(error["msg"]))
    hint = "write it with quotes" if mistake == "string_type" and isinstance(value, int) else ""
    return Problem(where, path, f"{text}, not {shown(value)}", hint)


def translate(
    kind: Kind, error: ValidationError, marks: Mapping[Loc, str], default: str
) -> list[Problem]:
    """All mistakes that pydantic found, in the order of the schema.

    `default` is the place of what is not there at all (a missing key).
    """
    return [
        _translate_one(
            kind, dict(each), _place(each["loc"], marks, default), told=number < MAX_MISTAKES
        )
        for number, each in enumerate(error.errors(include_url=False))
    ]


def to_error(kind: Kind, problems: Sequence[Problem], name: str, title: str) -> ConfigError:
    """One ConfigError for all the problems of the file `title`, which is called `name`."""
    hint = f"all keys and their meaning: {kind.shows}"
    if len(problems) == 1:
        (only,) = problems
        return ConfigError(f"{only.path}: {only.text}", where=only.where, hint=only.hint or hint)
    return ConfigError(
        f"the {kind.noun} {name} has {len(problems)} mistakes",
        where=title,
        detail=listed([problem.line() for problem in problems]),
        hint=hint,
    )
