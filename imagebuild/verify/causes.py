"""What the pattern book says of the lines that a check shows."""

from __future__ import annotations

from imagebuild.errors import Cause
from imagebuild.explain import Scope, explain


def cause_of(lines: str, *scopes: Scope) -> Cause | None:
    """The likeliest cause for lines of logs of these kinds (default: a console); None: nothing
    was recognised.
    """
    found = [e for scope in scopes or (Scope.BOOT,) for e in explain(lines, scope)]
    if not found:
        return None
    best = max(found, key=lambda e: (e.rank, e.number))
    return Cause(best.id, best.title, best.cause, best.advice, best.line)
