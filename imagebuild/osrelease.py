"""What a system calls itself: os-release(5)."""

from __future__ import annotations

import shlex

_NAMES = ("ID", "VERSION_ID", "PRETTY_NAME")


def parse(text: str) -> dict[str, str]:
    """ID, VERSION_ID and PRETTY_NAME, those that are there."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in _NAMES:
            try:
                values[name] = " ".join(shlex.split(value))
            except ValueError:  # a quote is missing
                values[name] = value.strip("'\"")
    return values
