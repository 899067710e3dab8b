"""What a check of configuration files finds."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Severity(enum.Enum):
    """A mistake fails, or is not read at all; a warning may be meant."""

    MISTAKE = "mistake"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be. `where` is `file:line`; `option` as [GROUP] NAME."""

    severity: Severity
    where: str
    option: str
    what: str
    why: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        file, _, line = self.where.rpartition(":")
        is_line = bool(file) and line.isdecimal()
        return {
            "severity": self.severity.value,
            "file": file if is_line else self.where,
            "line": int(line) if is_line else None,
            "option": self.option,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
        }


def mistakes(findings: Iterable[Finding]) -> int:
    """How many of them are mistakes."""
    return sum(f.severity is Severity.MISTAKE for f in findings)
