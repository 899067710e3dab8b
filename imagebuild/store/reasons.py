"""What changed between two sets of inputs, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: What says more than it helps: digests, and long texts.
_DIGEST = re.compile(r"(\w+:)?[0-9a-f]{32,}")
_LONG = 40
#: A value of this name is the digest of the whole that it stands in.
_OF_THE_WHOLE = ("sha256", "digest")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line a value that differs, like `archives[debian].suites.bookworm-security changed`."""
    return list(_of_mappings("", before, now))


def _of_values(path: str, before: object, now: object) -> Iterator[str]:
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        yield from _of_mappings(path, before, now)
    elif isinstance(before, list) and isinstance(now, list):
        yield from _of_lists(path, before, now)
    elif _is_short(before) and _is_short(now):
        yield f"{path} changed from {_said(before)} to {_said(now)}"
    else:
        yield f"{path} changed"


def _of_mappings(path: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        inner = path if path and key in _OF_THE_WHOLE else _joined(path, key)
        if key not in now:
            yield f"{inner} is gone"
        elif key not in before:
            yield f"{inner} is new"
        else:
            yield from _of_values(inner, before[key], now[key])


def _of_lists(path: str, before: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
    old, new = _by_name(before), _by_name(now)
    if old is None or new is None:
        yield f"{path} changed"
        return
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield f"{path}[{name}] is gone"
        elif name not in old:
            yield f"{path}[{name}] is new"
        else:
            yield from _of_values(f"{path}[{name}]", old[name], new[name])
    if [n for n in old if n in new] != [n for n in new if n in old]:
        yield f"the order of {path} changed"


def _by_name(items: Sequence[Any]) -> dict[str, Any] | None:
    """The items of a list by what names them; None when something does not."""
    found: dict[str, Any] = {}
    for item in items:
        name = item.get("name") if isinstance(item, Mapping) else item
        if not isinstance(name, str) or name in found:
            return None
        found[name] = item
    return found


def _joined(path: str, key: str) -> str:
    if not path:
        return key
    return f"{path}.{key}" if re.fullmatch(r"[\w@+-]+", key) else f"{path}[{key}]"


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONG and not _DIGEST.fullmatch(value)
    return value is None or isinstance(value, int | float)


def _said(value: object) -> str:
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
