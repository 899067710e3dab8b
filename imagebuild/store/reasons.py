"""What changed between two sets of inputs, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line a value that differs, like `archives[debian].suites.bookworm-security changed`."""
    raise NotImplementedError
