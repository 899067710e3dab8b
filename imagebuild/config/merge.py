"""Laying documents over each other: a file over the one it extends, overrides on top.

Mappings merge, lists and scalars replace, and the mark of each key follows its value.
"""

from __future__ import annotations

import copy
import os
import re
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.config.kind import Kind
from imagebuild.config.problems import Problem, nearest_path, unknown_key
from imagebuild.config.profilekind import PROFILE
from imagebuild.config.yamlmarks import Document, Loc, parse_text
from imagebuild.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ABSENT = object()


@dataclass(frozen=True)
class Override:
    """A key set from outside the files.

    `path` is dotted; `origin` says by what, for people: `flag --mirror`, `environment
    IMAGEBUILD_MIRROR`, `--set disk.size`. With `append`, list entries are added to
    those that the key has.
    """

    path: str
    value: Any
    origin: str
    append: bool = False


def parse_set(text: str) -> Override:
    """A profile's `KEY.PATH=VALUE`, or `KEY.PATH+=VALUE` to add to a list; VALUE is YAML.

    Raises ConfigError when there is no `=`, or VALUE is not YAML.
    """
    path, equals, value = text.partition("=")
    append = path.endswith("+")
    path = path.removesuffix("+").strip()
    if not equals or not path:
        found = nearest_path(PROFILE, path) if path else ""
        raise ConfigError(
            "--set needs KEY.PATH=VALUE",
            where=f"--set {path or text[:60]}",
            hint=f"for example --set {found or 'disk.size'}=VALUE",
        )
    origin = f"--set {path}"
    parsed, _ = parse_text(value, origin)
    return Override(path, parsed, origin, append)


def absolute(value: Any, base: Path) -> Any:  # noqa: ANN401 - whatever the file says
    """A relative path made absolute against `base`; anything else as it is."""
    if isinstance(value, list):
        return [absolute(item, base) for item in value]
    if not isinstance(value, str) or not value or "\0" in value or _SCHEME.match(value):
        return value
    # `trove==26.0.0` is a pip requirement, which the check of agent.source explains.
    if "==" in value and "/" not in value:
        return value
    if value.startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError:  # no such user: the check of the path tells
            return value
    return value if value.startswith("/") else os.path.normpath(base / value)


def make_paths_absolute(kind: Kind, tree: dict[str, Any], base: Path) -> None:
    """Apply `absolute` to every path that the (possibly invalid) tree holds."""
    for keys in kind.path_keys:
        for parent in _parents(tree, keys[:-1]):
            if isinstance(parent, dict) and keys[-1] in parent:
                parent[keys[-1]] = absolute(parent[keys[-1]], base)


def _parents(tree: Any, keys: Sequence[str]) -> list[Any]:  # noqa: ANN401
    """The values at `keys`; several where a star stands."""
    if "*" not in keys:
        return [_get(tree, keys)]
    star = keys.index("*")
    entries = _get(tree, keys[:star])
    if not isinstance(entries, list):
        return []
    return [found for entry in entries for found in _parents(entry, keys[star + 1 :])]


def _get(tree: Any, keys: Sequence[str]) -> Any:  # noqa: ANN401
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return _ABSENT
        tree = tree[key]
    return tree


def _places(value: Any, loc: Loc) -> Iterable[Loc]:  # noqa: ANN401
    """`loc` and the places of all that is below it."""
    yield loc
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in pairs:
            yield from _places(below, (*loc, key))


def _drop_marks(marks: dict[Loc, str], value: Any, loc: Loc) -> None:  # noqa: ANN401
    """Forget the places of `value`, which stood at `loc`."""
    for place in _places(value, loc):
        marks.pop(place, None)


def _reset(kind: Kind, base: Document, top: dict[str, Any]) -> None:
    for trigger, only_when_changed, lost in kind.resets:
        new = _get(top, trigger)
        if new is _ABSENT or (only_when_changed and new == _get(base.tree, trigger)):
            continue
        for keys in lost:
            parent = _get(base.tree, keys[:-1])
            if _get(top, keys) is _ABSENT and isinstance(parent, dict):
                _drop_marks(base.marks, parent.pop(keys[-1], None), keys)


def _lay(base: Document, old: dict[str, Any], top: Document, new: dict[str, Any], loc: Loc) -> None:
    for key, value in new.items():
        here = (*loc, key)
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            base.marks[here] = top.marks[here]
            _lay(base, old[key], top, value, here)
            continue
        _drop_marks(base.marks, old.get(key), here)
        base.marks |= {m: top.marks[m] for m in _places(value, here) if m in top.marks}
        old[key] = copy.deepcopy(value)


def lay_over(kind: Kind, base: Document, top: Document) -> None:
    """Change `base` into `base` with `top` laid over it."""
    _reset(kind, base, top.tree)
    _lay(base, base.tree, top, top.tree, ())


def append_lists(kind: Kind, document: Document) -> None:
    """Move the entries of lists that only files have behind those of the schema's lists."""
    for extra, key in kind.appended:
        added, present = document.tree.get(extra), document.tree.get(key)
        if added is None or not isinstance(present, list | None):
            document.tree.pop(extra, None)
            continue
        if not isinstance(added, list):  # a mistake, to be found as one of `key`
            document.tree[key] = document.tree.pop(extra)
            document.marks[(key,)] = document.marks.pop((extra,), "")
            continue
        start = len(present or ())
        document.tree[key] = [*(present or ()), *document.tree.pop(extra)]
        document.marks.setdefault((key,), document.marks.get((extra,), ""))
        for loc in [m for m in document.marks if m[0] == extra]:
            place = document.marks.pop(loc)
            if len(loc) > 1 and isinstance(loc[1], int):
                moved: Loc = (key, loc[1] + start, *loc[2:])
                document.marks[moved] = place


def _mark_all(value: Any, loc: Loc, origin: str) -> Iterable[tuple[Loc, str]]:  # noqa: ANN401
    return ((place, origin) for place in _places(value, loc))


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:  # noqa: ANN401
    for key in reversed(keys):
        value = {key: value}
    assert isinstance(value, dict)  # noqa: S101 - keys are never empty
    return value


def _is_list(annotation: Any) -> bool:  # noqa: ANN401 - any annotation
    if typing.get_origin(annotation) is tuple:
        return True
    return any(_is_list(part) for part in typing.get_args(annotation))


def _appended(base: Document, keys: Sequence[str], override: Override) -> Document | Problem:
    """The list at `keys` with the override's entries behind it."""
    model = PROFILE.model_at(keys[:-1])
    field = model.model_fields[keys[-1]] if model else None
    if field is None or not _is_list(field.annotation):
        return Problem(
            override.origin, override.path, "this is not a list", "write = instead of +="
        )
    present = _get(base.tree, keys)
    if present is None or present is _ABSENT:
        # A key that must be set has no default to start from.
        default = field.default if isinstance(field.default, tuple) else ()
        present = [str(item) for item in default]
    added = override.value if isinstance(override.value, list) else [override.value]
    if not isinstance(present, list):  # a mistake in the file, to be reported as such
        return Document()
    # By their text: what a file holds may be anything, and lists are not hashable.
    known = set(map(repr, present))
    entries = present + [item for item in added if repr(item) not in known]
    loc = tuple(keys)
    before = base.marks.get(loc)
    marks = dict(_mark_all(_nested(keys, None), (), override.origin)) | {
        (*loc, index): base.marks.get((*loc, index), before or override.origin)
        if index < len(present)
        else override.origin
        for index in range(len(entries))
    }
    marks[loc] = f"{before or 'default'} + {override.origin}"
    return Document(_nested(keys, entries), marks)


def apply_overrides(document: Document, overrides: Sequence[Override]) -> list[Problem]:
    """Change a profile by the overrides, the last one winning; returns those that name no key.

    All of them together count as one layer: `docker.source` and `docker.packages` may
    come in any order.
    """
    problems = []
    valid = []
    for override in overrides:
        if override.path == "extends":
            problems.append(
                Problem(override.origin, "extends", "only a profile's file can set this")
            )
        elif override.path in PROFILE.known_paths():
            valid.append(override)
        else:
            problems.append(unknown_key(PROFILE, override.path, override.origin))
    # Copies: laying and making paths absolute change what they are given.
    trees = [_nested(o.path.split("."), copy.deepcopy(o.value)) for o in valid]
    together = Document()
    for override, tree in zip(valid, trees, strict=True):
        make_paths_absolute(PROFILE, tree, Path.cwd())
        if not override.append:
            layer = Document(tree, dict(_mark_all(tree, (), override.origin)))
            _lay(together, together.tree, layer, tree, ())
    _reset(PROFILE, document, together.tree)
    for override, tree in zip(valid, trees, strict=True):
        keys = override.path.split(".")
        layer = Document(tree, dict(_mark_all(tree, (), override.origin)))
        if override.append:
            value = _get(tree, keys)
            changed = Override(override.path, value, override.origin)
            result = _appended(document, keys, changed)
            if isinstance(result, Problem):
                problems.append(result)
                continue
            layer = result
        _lay(document, document.tree, layer, layer.tree, ())
    return problems
