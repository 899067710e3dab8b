"""Is an image safe to hand out? Asked of its disk: no boot, no mount, no root.

`CHECKS` is the list of all questions, for whoever wants to tell which were answered well.
What is known to be in good images (setuid files, published test keys) stands with its
reasons in checks/known.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagebuild.errors import UsageError
from imagebuild.verify.checks import (
    accounts,
    identity,
    keys,
    leftovers,
    permissions,
    secrets,
)
from imagebuild.verify.checks.base import Check, Expected, Severity, Subject
from imagebuild.verify.search import Hit, forms, search
from imagebuild.verify.tree import Tree

CHECKS: tuple[Check, ...] = (
    *accounts.CHECKS,
    *keys.CHECKS,
    *identity.CHECKS,
    *secrets.CHECKS,
    *permissions.CHECKS,
    *leftovers.CHECKS,
)

#: Shorter values would be found everywhere.
LEAST_SECRET = 6


@dataclass(frozen=True)
class Finding:
    """What is wrong: the check's id, where, what, why it matters, what to do."""

    check: str
    path: str
    what: str
    why: str
    todo: str
    severity: Severity

    def to_json(self) -> dict[str, str]:
        """Shape used by `--json`."""
        return {
            "check": self.check,
            "path": self.path,
            "what": self.what,
            "why": self.why,
            "todo": self.todo,
            "severity": str(self.severity),
        }


def check_safety(
    tree: Tree, expected: Expected, *, secrets: Mapping[str, bytes] | None = None
) -> list[Finding]:
    """Everything that makes the image unsafe, in the order of CHECKS; empty when it is safe.

    `secrets` are values that must be nowhere on the disk (but in the files that `expected`
    names), by the names under which findings speak of them; a value itself is never shown.
    Raises UsageError for a secret that is too short to search for, VerifyError when the
    image cannot be read.
    """
    secrets = secrets or {}
    for name, value in secrets.items():
        if len(value) < LEAST_SECRET:
            raise UsageError(
                f"{name} is too short to be searched for",
                detail=f"a value of less than {LEAST_SECRET} bytes turns up by chance",
                hint="leave it out",
            )
    subject = Subject(tree, expected, secrets, _hits(tree, secrets))
    return [
        Finding(
            check.id, found.path, found.what, check.why, found.todo or check.todo, found.severity
        )
        for check in CHECKS
        for found in check.run(subject)
    ]


def _hits(tree: Tree, secrets: Mapping[str, bytes]) -> dict[bytes, list[Hit]]:
    """One search of the disk for the marks of private keys and all forms of the secrets."""
    needles = sorted({*keys.NEEDLES, *(f for value in secrets.values() for f in forms(value))})
    hits: dict[bytes, list[Hit]] = {}
    for hit in search(tree, needles):
        hits.setdefault(needles[hit.needle], []).append(hit)
    return hits
