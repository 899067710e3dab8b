"""Questions to an image at rest, and how their answers become checks."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from imagebuild.errors import BuildError, ConfigError, ImagebuildError, Interrupted, PreflightError
from imagebuild.verify.causes import cause
from imagebuild.verify.results import Check, Level, Outcome
from imagebuild.verify.static.subject import Subject

#: So many lines of evidence are kept for a check.
MOST_EVIDENCE = 20
#: A line of evidence is cut after so many characters: a damaged file can be one long line.
MOST_CHARACTERS = 300

#: What parsers raise when they are given anything but what they expect.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
          struct.error, zlib.error)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is not as it should be.

    `cause` names an entry of imagebuild.verify.causes, `fields` fill its texts. An outcome
    that is not FAILED says: a warning, nothing to check (SKIPPED), or that this host cannot
    tell (UNKNOWN).
    """

    what: str
    evidence: tuple[str, ...] = ()
    hint: str = ""
    cause: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    outcome: Outcome = Outcome.FAILED


def skipped(what: str) -> Problem:
    """There is nothing to check."""
    return Problem(what, outcome=Outcome.SKIPPED)


def unknown(what: str, *evidence: str, hint: str = "") -> Problem:
    """This host, or this version, cannot tell."""
    return Problem(what, evidence, hint, outcome=Outcome.UNKNOWN)


def warning(what: str, *evidence: str, hint: str = "", cause: str = "") -> Problem:
    """It works, but somebody should know."""
    return Problem(what, evidence, hint, cause, outcome=Outcome.WARNING)


@dataclass(frozen=True)
class Question:
    """One question: `good` is what is said when `ask` yields no problem."""

    name: str
    good: str
    ask: Callable[[Subject], Iterator[Problem]]


_ORDER = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.WARNING, Outcome.SKIPPED)


def answer(question: Question, subject: Subject) -> Check:
    """Ask, and make a check of all that was found: the worst problem speaks for it.

    What damaged files make parsers raise is a finding, too. OSError passes: it speaks of
    this host.
    """
    started = time.monotonic()
    problems: list[Problem] = []
    try:
        problems.extend(question.ask(subject))
    except Interrupted:
        raise
    except (PreflightError, BuildError) as exc:
        # Of the programs of this host: missing, or slower than their limit.
        problems.append(unknown(exc.what, *_lines(exc), hint=exc.hint))
    except ConfigError as exc:
        problems.append(Problem(exc.what, _lines(exc), exc.hint))
    except ImagebuildError as exc:
        problems.append(Problem(exc.what, _lines(exc), exc.hint, "image-unreadable"))
    except DAMAGE as exc:
        text = f"{type(exc).__name__}: {exc}"
        problems.append(Problem("what is in the image cannot be read", (text,),
                                "build the image anew", "image-unreadable"))  # fmt: skip
    return to_check(question, problems, time.monotonic() - started)


def to_check(question: Question, problems: Sequence[Problem], seconds: float | None) -> Check:
    """The check that says these problems, or that there are none."""
    if not problems:
        return Check(question.name, Level.STATIC, Outcome.PASSED, question.good, seconds=seconds)
    outcome = min((p.outcome for p in problems), key=_ORDER.index)
    worst = [p for p in problems if p.outcome is outcome]
    first = worst[0]
    rest = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
    lines = [*first.evidence]
    for problem in worst[1:]:
        lines += [problem.what, *problem.evidence]
    evidence = tuple(_printable(x) for x in dict.fromkeys(lines))
    meaning = None
    if first.cause:
        meaning = cause(first.cause, evidence[0] if evidence else "", **first.fields)
    return Check(
        question.name, Level.STATIC, outcome, _printable(first.what) + rest,
        evidence[:MOST_EVIDENCE], first.hint, meaning, seconds,
    )  # fmt: skip


def _lines(error: ImagebuildError) -> tuple[str, ...]:
    return tuple(filter(None, (error.where, *error.detail.splitlines())))


def _printable(line: str) -> str:
    """What an image says may hold anything; it ends up on terminals and in JSON."""
    clean = "".join(c if c.isprintable() else "�" for c in line)
    return clean if len(clean) <= MOST_CHARACTERS else clean[: MOST_CHARACTERS - 1] + "…"
