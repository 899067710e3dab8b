"""What the pattern book says of the lines that a check shows."""

from __future__ import annotations

from imagebuild.errors import Cause
from imagebuild.explain import Scope, explain


def cause_of(lines: str, scope: Scope = Scope.BOOT) -> Cause | None:
    """The likeliest cause; None: nothing was recognised."""
    found = explain(lines, scope)
    if not found:
        return None
    best = found[0]
    return Cause(best.id, best.title, best.cause, best.advice, best.line)
