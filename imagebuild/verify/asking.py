"""Ask a running guest, or the control plane it belongs to, one question after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from imagebuild.errors import ImagebuildError, Interrupted, PreflightError, TemporaryError
from imagebuild.explain import Scope
from imagebuild.verify.causes import cause_of
from imagebuild.verify.results import Check, Level, Outcome
from imagebuild.verify.trouble import BootTroubleError

#: Lines of evidence that a check carries at most.
MOST_LINES = 40

#: Which log a line is of, as `logs` says it: "agent: ...".
_SOURCE = re.compile(r"^[a-z-]+: ", re.MULTILINE)

#: What a question answers with: lines that show it.
Answer = Callable[[], Iterable[str]]


@dataclass
class Asking:
    """Collects the checks of one level, whose names begin with `prefix`.

    When a question fails, `logs` is asked for the lines of the guest and the control plane
    that matter, and `text` for all of their words: the pattern book is asked what they mean.
    """

    level: Level
    prefix: str
    logs: Callable[[], Sequence[str]] = tuple
    text: Callable[[], str] = str
    scopes: Sequence[Scope] = (Scope.AGENT, Scope.CONTROL, Scope.BOOT)
    checks: list[Check] = field(default_factory=list)
    on_check: Callable[[Check], None] = lambda _c: None

    def ask(self, name: str, what: str, answer: Answer, *, hint: str = "") -> bool:
        """Put one question; `what` says what is so when `answer` returns.

        What it raises is the answer, too: PreflightError and TemporaryError speak of the host
        (UNKNOWN), other errors of ours and TimeoutError of the image (FAILED). Returns whether
        it passed.
        """
        started = time.monotonic()
        try:
            lines = tuple(answer())
        except Interrupted:
            raise
        except (PreflightError, TemporaryError) as exc:
            self.add(self._failed(name, exc, Outcome.UNKNOWN, started, hint))
            return False
        except (ImagebuildError, TimeoutError) as exc:
            is_host = isinstance(exc, BootTroubleError) and exc.blames_host
            outcome = Outcome.UNKNOWN if is_host else Outcome.FAILED
            self.add(self._failed(name, exc, outcome, started, hint))
            return False
        took = round(time.monotonic() - started, 1)
        self.add(Check(self._name(name), self.level, Outcome.PASSED, what, lines, seconds=took))
        return True

    def skip(self, names: Iterable[str], why: str) -> None:
        """Say of questions that they were not put."""
        for name in names:
            self.add(Check(self._name(name), self.level, Outcome.SKIPPED, why))

    def warn(self, name: str, what: str, *evidence: str, hint: str = "") -> None:
        """Say something that somebody should know."""
        self.add(Check(self._name(name), self.level, Outcome.WARNING, what, evidence, hint=hint))

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the questions that were not put yet."""
        put = {check.name for check in self.checks}
        return [name for name in names if self._name(name) not in put]

    def _failed(
        self, name: str, exc: Exception, outcome: Outcome, started: float, hint: str
    ) -> Check:
        what, lines, cause = str(exc), [], None
        if isinstance(exc, ImagebuildError):
            what, cause, hint = exc.what, exc.cause, exc.hint or hint
            lines = [exc.where, *exc.detail.splitlines()] if exc.where else exc.detail.splitlines()
        if outcome is Outcome.FAILED:
            lines += self.logs()
        if cause is None:
            said = self.text() if outcome is Outcome.FAILED else ""
            lines_said = _SOURCE.sub("", "\n".join(lines))
            cause = cause_of(f"{said}\n{lines_said}", *self.scopes)
        shown = tuple(lines[-MOST_LINES:])
        if cause and not any(cause.line in line for line in shown):
            shown = (cause.line, *shown)
        took = round(time.monotonic() - started, 1)
        return Check(self._name(name), self.level, outcome, what, shown, hint, cause, took)

    def _name(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def add(self, check: Check) -> None:
        """Take a check that was made elsewhere."""
        self.checks.append(check)
        self.on_check(check)


def until(
    question: Callable[[], object],
    seconds: float,
    what: str,
    *,
    pause: float = 1.0,
) -> None:
    """Ask until the answer is true. Raises TimeoutError, which names `what` was waited for."""
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
