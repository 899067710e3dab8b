"""Where relative paths in a pipeline's file start: at the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imagebuild.config.finding import SUFFIXES
from imagebuild.config.merge import absolute, make_paths_absolute
from imagebuild.config.profilekind import PROFILE


def relocate(tree: dict[str, Any], base: Path) -> None:
    """Let relative paths of profiles, mirror lists and profiles' keys start at the file."""
    lists = (("images", "profiles"), ("mirrors", "list"))
    for key, name in (*lists, *((f"extra_{k}", n) for k, n in lists)):
        entries = tree.get(key)
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            entry |= {k: _place(v, base) for k, v in entry.items() if k == name}
            if isinstance(found := entry.get("set"), dict):
                _relocate_settings(found, base)


def _place(value: Any, base: Path) -> Any:  # noqa: ANN401 - whatever the file says
    if isinstance(value, list):
        return [_place(item, base) for item in value]
    is_path = isinstance(value, str) and ("/" in value or value.endswith(SUFFIXES))
    return absolute(value, base) if is_path else value


def _relocate_settings(tree: dict[str, Any], base: Path, above: tuple[str, ...] = ()) -> None:
    for key, value in tree.items():
        here = (*above, *key.removesuffix("+").split("."))
        if isinstance(value, dict) and PROFILE.model_at(here):
            _relocate_settings(value, base, here)
            continue
        nested: dict[str, Any] = {here[-1]: value}
        for part in reversed(here[:-1]):
            nested = {part: nested}
        make_paths_absolute(PROFILE, nested, base)
        for part in here:
            nested = nested[part]
        tree[key] = nested
