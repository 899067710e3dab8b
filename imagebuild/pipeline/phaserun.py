"""One phase of a cell while it runs: its commands, tried again where that makes sense, its log."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from imagebuild.config.pipeline import Retry
from imagebuild.config.values import parse_duration
from imagebuild.errors import ExitCode
from imagebuild.pipeline import reporting
from imagebuild.pipeline.answers import Answer, error_of
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.cleaning import clean_text
from imagebuild.pipeline.commands import Command
from imagebuild.pipeline.outcome import Attempt, PhaseReport, Status
from imagebuild.pipeline.process import Children, Ended, Stopped
from imagebuild.pipeline.watch import Watch

#: The longest wait between two tries, in seconds.
_LONGEST_WAIT = 3600.0


class PhaseRun:
    """Commands of one phase, and one target of it. `seconds`: limit of all of them together."""

    def __init__(
        self,
        cell_id: str,
        phase: Phase,
        target: str,
        *,
        directory: Path,
        children: Children,
        watch: Watch,
        retry: Retry,
        seconds: float | None = None,
    ) -> None:
        self._cell_id, self._phase, self._target = cell_id, phase, target
        self._log = reporting.log_path(directory, cell_id, phase.value, target)
        self._error = self._log.with_name(f".{self._log.name}.error")
        self._directory = directory
        self._children = children
        self._watch = watch
        self._retry = retry
        self._started = time.time()
        self._clock = time.monotonic()
        self._deadline = None if seconds is None else self._clock + seconds
        self._attempts: list[Attempt] = []
        self._warnings: list[str] = []
        self._command: tuple[str, ...] = ()
        watch.started(cell_id, phase, target)

    def call(self, command: Command, *, is_main: bool = True) -> Ended:
        """Run a command; as long as it ends with 75, again, after waits that double.

        `is_main`: it is what people are told to type. Raises Stopped when the run is to end.
        """
        typed = ("imagebuild", *(w for w in command.argv if w != "--json"))
        if is_main or not self._command:
            self._command = typed
        wait = float(parse_duration(self._retry.wait) or 0)
        with self._opened() as log:
            for left in range(self._retry.attempts - 1, -1, -1):
                log.write(f"$ {clean_text(shlex.join(typed))}\n")
                log.flush()
                ended = self._children.run(command.argv, log, self._tell, self._error, self._left)
                self._attempts.append(Attempt(ended.started, ended.seconds, ended.code))
                log.write(f"exit status {ended.code} after {ended.seconds:.1f} s\n")
                if ended.code != 0 and self._children.stopping.is_set():
                    raise Stopped
                is_temporary = ended.code == ExitCode.TEMPORARY and not ended.is_late
                if not is_temporary or not left or not self._has_time(wait):
                    break
                why = error_of(self._phase, ended, ended.document or {})["what"]
                tries = "1 try is" if left == 1 else f"{left} tries are"
                text = clean_text(f"{why}; trying again in {wait:.0f} s, {tries} left")
                log.write(f"{text}\n")
                log.flush()
                self._watch.again(self._cell_id, self._phase, text)
                self._children.pause(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
        self._warnings += ended.warnings
        return ended

    def end(self, answer: Answer) -> PhaseReport:
        """What became of it; whoever watches is told by the recorder."""
        made = self._log.exists()
        return PhaseReport(
            phase=self._phase,
            status=answer.status,
            target=self._target,
            started=self._started,
            seconds=time.monotonic() - self._clock,
            attempts=tuple(self._attempts),
            command=self._command,
            log=str(self._log.relative_to(self._directory)) if made else "",
            error=answer.error,
            why=answer.why,
            warnings=tuple(dict.fromkeys((*self._warnings, *answer.warnings))),
            result=answer.result,
        )

    def failed(self, error: Mapping[str, Any]) -> PhaseReport:
        """It failed by that error."""
        return self.end(Answer(Status.FAILED, error=error))

    @property
    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.1, self._deadline - time.monotonic())

    def _has_time(self, wait: float) -> bool:
        return self._deadline is None or time.monotonic() + wait < self._deadline

    def _tell(self, text: str) -> None:
        self._watch.line(self._cell_id, self._phase, text)

    @contextlib.contextmanager
    def _opened(self) -> Any:  # noqa: ANN401 - a context manager of IO[str]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            file: IO[str] = log
            yield file
