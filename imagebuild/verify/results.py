"""What verification found: levels, checks with their outcomes, milestones, the whole report.

Plain values; `imagebuild.verify.report` writes them as documents, `imagebuild.cli.verify`
shows them. Nothing here knows how a check is made.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import Cause


class Level(enum.IntEnum):
    """How far an image is proven; each level includes the ones before."""

    STATIC = 1
    BOOT = 2
    AGENT = 3
    DATABASE = 4

    @property
    def label(self) -> str:
        """The name that the command line and the documents use."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Level:
        """The level of that name. Raises KeyError."""
        return cls[label.upper()]


class Outcome(str, enum.Enum):
    """How a check ended.

    `UNKNOWN`: this host cannot tell (exit code 4); `SKIPPED`: there was nothing to check,
    or what it needs had failed before; `WARNING`: it works, but somebody should know.
    """

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    `name` is stable, in lower case with slashes (`static/fstab`,
    `boot/metadata/cloud-init`): people filter and compare by it. `evidence` are the lines
    that show it (of a console, a journal, a file), `what` one sentence, `hint` what to do.
    `seconds`: how long the question took.
    """

    name: str
    level: Level
    outcome: Outcome
    what: str
    evidence: tuple[str, ...] = ()
    hint: str = ""
    cause: Cause | None = None
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Shape used in verify.json."""
        document: dict[str, Any] = {
            "name": self.name,
            "level": self.level.label,
            "outcome": self.outcome.value,
            "what": self.what,
            "evidence": list(self.evidence),
            "hint": self.hint,
            "seconds": self.seconds,
        }
        if self.cause:
            document["cause"] = {
                "id": self.cause.id,
                "title": self.cause.title,
                "text": self.cause.text,
                "advice": list(self.cause.advice),
                "line": self.cause.line,
            }
        return document


@dataclass(frozen=True)
class Milestone:
    """Something that a machine reached, `seconds` after qemu's start."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """One machine of a verification: what it was, what it reached, where its logs are."""

    name: str
    accelerator: str
    firmware: str
    milestones: tuple[Milestone, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    logs: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used in verify.json."""
        return {
            "name": self.name,
            "accelerator": self.accelerator,
            "firmware": self.firmware,
            "milestones": {m.name: m.seconds for m in self.milestones},
            "facts": dict(self.facts),
            "logs": self.logs,
        }


def verdict(checks: Iterable[Check]) -> Outcome:
    """One word for all of them: what is worst counts."""
    outcomes = {c.outcome for c in checks}
    for outcome in (Outcome.FAILED, Outcome.UNKNOWN, Outcome.WARNING):
        if outcome in outcomes:
            return outcome
    return Outcome.PASSED
