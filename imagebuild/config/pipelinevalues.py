"""Checks of the single values that a pipeline holds (imagebuild/config/pipeline.py).

Each returns the value in its canonical form or raises ValueError with a sentence that says
what is allowed. What a verb checks by itself (databases, tags, datastore versions) is checked
by that verb's own code: see imagebuild/pipeline/checking.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from imagebuild.config.profilekind import PROFILE
from imagebuild.config.values import format_size, parse_age, parse_duration, parse_size, shown

_PERCENT = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?) ?%", re.ASCII)
#: Debian Policy 5.6.1 and PEP 503, with the signs of fnmatch; as packages.txt has them, those
#: of Python have `python:` before them.
_PACKAGES = re.compile(r"(?:python:)?[A-Za-z0-9*?\[][A-Za-z0-9+._*?\[\]!-]*", re.ASCII)
#: A name in clouds.yaml is any key; what is refused cannot be meant.
_CLOUD = re.compile(r"[A-Za-z0-9_][\w.@:+-]{0,127}", re.ASCII)
_ENVIRONMENT = re.compile(r"[\w][\w ./:-]{0,254}", re.ASCII)
_LABEL = re.compile(r"[\w][\w .:/@+-]{0,127}", re.ASCII)
#: distribution/reference, regexp.go, roughly: the engine that pulls it says what is wrong.
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]{0,254}", re.ASCII)
_DAYS, _MONTHS = "sun mon tue wed thu fri sat", "jan feb mar apr may jun jul aug sep oct nov dec"
#: crontab(5): name, least, most, and words that stand for numbers.
_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS.split())),
    ("day of the week", 0, 7, tuple(_DAYS.split())),
)
#: Longer waits between two tries than this are no retry any more: a day, in seconds.
_LONGEST_WAIT = 86400


def check_size(value: object) -> str:
    """A size: 600M, 2G; as `format_size` writes it."""
    size = parse_size(value)
    if not size:
        raise ValueError("no image is that small: write 600M or 2G")
    return format_size(size)


def parse_percent(text: str) -> float:
    """The share that `20%` is: 0.2."""
    found = _PERCENT.fullmatch(text)
    if not found:
        raise ValueError(f"{shown(text)} is no percentage: write 20%")
    return float(found[1]) / 100


def check_percent(value: object) -> str:
    """A percentage with its sign; a bare number could be a factor."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no percentage: write 20%")
    parse_percent(value)
    return value.replace(" ", "")


def check_age(value: object) -> str:
    """An age, as --grace has it."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not an age: write 14d, 12h or 30m")
    parse_age(value)
    return value


def check_wait(value: object) -> str:
    """A duration that ends: 60s, 5m."""
    try:
        seconds = parse_duration(value)
    except ValueError as exc:
        raise ValueError(f"{shown(value)} is no time to wait: write 60s or 5m") from exc
    if seconds > _LONGEST_WAIT:
        raise ValueError(f"{shown(value)} is longer than a day")
    return str(value)


def check_cron(value: str) -> str:
    """The five fields of a line of cron (crontab(5)), with one blank between them."""
    fields = value.split()
    if len(fields) != len(_CRON):
        hint = "; @daily and the like are not known everywhere" if value.startswith("@") else ""
        raise ValueError(
            f"{shown(value)} has {len(fields)} fields; a cron line has five: minute, hour, day "
            f"of the month, month, day of the week{hint}"
        )
    for text, (name, least, most, words) in zip(fields, _CRON, strict=True):
        for part in text.split(","):
            _check_cron_part(part, name, least, most, words)
    return " ".join(fields)


def _check_cron_part(part: str, name: str, least: int, most: int, words: tuple[str, ...]) -> None:
    span, slash, step = part.partition("/")
    ends = [] if span == "*" else span.split("-")
    numbers = [_cron_number(end, least, words) for end in ends]
    is_right = len(ends) <= 2 and all(n is not None and least <= n <= most for n in numbers)
    if slash:
        is_right = is_right and step.isascii() and step.isdecimal() and 1 <= int(step) <= most
        is_right = is_right and len(ends) != 1
    if not is_right or (len(numbers) == 2 and (numbers[0] or 0) > (numbers[1] or 0)):
        raise ValueError(
            f"the {name} of a cron line is {least} to {most}, *, a span like {least}-{most}, with "
            f"a step */2, or several with commas; not {shown(part)}"
        )


def _cron_number(text: str, least: int, words: tuple[str, ...]) -> int | None:
    if text.lower() in words:
        return words.index(text.lower()) + least
    return int(text) if re.fullmatch(r"[0-9]{1,2}", text, re.ASCII) else None


def check_packages(value: str) -> str:
    """The name of a package, or a pattern of such names."""
    if not _PACKAGES.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is no package and no pattern: telnetd, linux-image-*, "
            "python:setuptools; without a version"
        )
    return value


def check_cloud(value: str) -> str:
    """A cloud's name in clouds.yaml."""
    if not _CLOUD.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is no name of a cloud: letters, digits, '.', '_', '-', '@', '+', ':'"
        )
    return value


def check_label(value: str) -> str:
    """A runner's label or tag, a nodeset: one line of plain letters."""
    if not _LABEL.fullmatch(value):
        raise ValueError(f"{shown(value)}: letters, digits, blanks and . _ : / @ + - are allowed")
    return value


def check_image(value: str) -> str:
    """A container image, as an engine's job definitions name it."""
    if not _IMAGE.fullmatch(value):
        raise ValueError(f"{shown(value)} is no name of a container image")
    return value


def check_command(value: str) -> str:
    """One line for a shell."""
    if not value.strip() or not value.isprintable():
        raise ValueError("one line for a shell is expected, without control characters")
    return value.strip()


def check_text(value: str) -> str:
    """Words that stand on a command line: not empty, printable."""
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{shown(value)}: words without control characters are expected")
    return value


def check_version(value: object) -> object:
    """A version's name: whole numbers are text here."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def check_property(value: object) -> object:
    """Glance's properties are text; YAML has numbers and truth, and nothing leaves one out."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def unique(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """The entries, each of which must be there once."""
    seen = set()
    for item in found:
        if item in seen:
            raise ValueError(f"{shown(str(item))} is listed twice")
        seen.add(item)
    return found


def settings(value: object) -> object:
    """A mapping of a profile's keys, dotted or nested, made flat: `{"disk.size": "6G"}`."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for loc, key, below in flat(value):
        if key in found:
            raise ValueError(f"{'.'.join(loc)}: {shown(key)} is set twice")
        found[key] = below
    return found


def flat(
    tree: dict[str, Any], above: tuple[str, ...] = ()
) -> Iterable[tuple[tuple[str, ...], str, Any]]:
    """Each key of a `set`: where it stands in the tree, its dotted name, and its value.

    What is below a key that is no section of a profile is that key's value.
    """
    for key, value in tree.items():
        loc = (*above, str(key))
        dotted = ".".join(loc)
        if isinstance(value, dict) and value and PROFILE.model_at(dotted.split(".")):
            yield from flat(value, loc)
        else:
            yield loc, dotted, value
