"""Explain the error that a build ended with, from its own lines and from the build's log."""

from __future__ import annotations

import os
import re
from pathlib import Path

from imagebuild.errors import (
    BuildError,
    Cause,
    ImagebuildError,
    PreflightError,
    TemporaryError,
)
from imagebuild.explain.book import Scope
from imagebuild.explain.engine import explain

#: So much of a log's end is looked at, in bytes; a failing hook says less.
TAIL = 4 << 20

# What imagebuild.cli.render and dib-run-parts write when something begins.
_BEGINS = re.compile(
    r"^\S+ (?:=== stage \S+ [0-9a-f]{64}|dib-run-parts Running \S+)$", re.MULTILINE
)


def explained(error: ImagebuildError, log: Path) -> ImagebuildError:
    """The error with its cause, when the book knows one; its `detail` must be clean already.

    A build that failed for something that passes by itself (a mirror that went away) becomes
    a TemporaryError; otherwise it is the same object. The detail is asked, and the lines of
    the step that failed in `log`, unless the error has a hint of its own: that one knows why.
    """
    if not isinstance(error, BuildError | PreflightError) and type(error) is not ImagebuildError:
        return error
    text = error.detail
    if not error.hint:
        # The detail stands last, so that it wins among equals.
        text = f"{last_step(log)}\n{text}"
    found = explain(text, Scope.BUILD)
    if not found:
        return error
    best = found[0]
    if best.temporary and error.exit_code == BuildError.exit_code:
        error = TemporaryError(
            error.what, where=error.where, detail=error.detail, hint=error.hint
        ).with_traceback(error.__traceback__)
    advice = tuple(a for a in best.advice if a not in error.hint)
    error.cause = Cause(best.id, best.title, best.cause, advice, best.line)
    return error


def last_step(log: Path) -> str:
    """What the last hook, or the last stage when it has no hooks, wrote into a build's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    begins = [match.end() for match in _BEGINS.finditer(text)]
    return text[begins[-1] :] if begins else text
