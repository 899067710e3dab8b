"""A pipeline's run: cells and phases in order, retried, held, reported.

Mirror cells come first, one after the other; then image cells, `jobs` at a time. Each phase
is a child process (`process`, `phaserun`), its answer is read by `answers`, and what of it is
left to do, each verb sees by itself.

Retried is exit code 75 alone, with waits that double. What fails holds the later phases of its
own cell (of publishing: of its own cloud); a mirror list that fails holds the publishing of all
cells after it, unless gates.mirrors says go-on.

Which artifact a cell has:

- where the build phase is among what is asked for: the one that `build` says;
- else the one that is named (`Asked.artifact`, --artifact DIR);
- else the one that IMAGES/cells/PIPELINE/ID.json points at (`artifacts`): each build writes it;
- else that of the newest report below REPORTS/NAME in which the cell has one: at the path that
  it names, or, where that is not there since another machine has built it, the directory of
  that name in IMAGES.

So a job that builds hands on, of IMAGES, the artifact's directory and `cells` ($GITHUB_OUTPUT
gets `artifact=PATH` and `build_id=ID`); jobs that verify and publish find both below their own
--images-dir. verify.json lies in the artifact: what a verifying job hands on is the same again.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.config.pipeline import OnMirrorFailure, Pipeline
from imagebuild.errors import ExitCode, ImagebuildError, Interrupted, PreflightError
from imagebuild.pipeline import locking, reporting, retention
from imagebuild.pipeline.cellrun import ImageRun, error_of, run_mirror
from imagebuild.pipeline.cells import Cell, ImageCell, MirrorCell, Phase, Places
from imagebuild.pipeline.night import Asked, Night
from imagebuild.pipeline.outcome import GOOD, PhaseReport, RunReport, Status
from imagebuild.pipeline.process import GRACE, Children
from imagebuild.pipeline.recorder import Recorder
from imagebuild.pipeline.watch import Watch

__all__ = ["Asked", "RunInterrupted", "UnwrittenError", "Watch", "run"]

#: Seconds beyond that of children that threads get to write down how they were ended.
_LAST = 15.0
#: Reports that are looked at: as many as stay, and those of jobs besides.
_EARLIER = 60


class RunInterrupted(Interrupted):
    """A run was interrupted; `report` says what it had done, `directory` has all of it."""

    def __init__(self, signum: int, report: RunReport, directory: Path) -> None:
        super().__init__(signum)
        self.report = report
        self.directory = directory


class UnwrittenError(PreflightError):
    """The report of a run could not be written; `report` says what it had done all the same."""

    def __init__(self, cause: PreflightError, report: RunReport, directory: Path) -> None:
        super().__init__(cause.what, where=cause.where, detail=cause.detail, hint=cause.hint)
        self.report = report
        self.directory = directory


def run(
    pipeline: Pipeline,
    asked: Asked,
    places: Places,
    watch: Watch,
    *,
    program: Sequence[str] = (),
    notes: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _text: None,
    begun: Callable[[Path], None] = lambda _directory: None,
) -> tuple[RunReport, Path]:
    """Do it, and write report.json after each phase, the rest at the end; the report and its
    directory.

    What fails is in the report and stops its own cell alone. `program` runs verbs in place of
    this very tool; `notes` go into the report; `tell` gets a sentence where something is
    waited for; `begun` gets the directory of the report before anything is done. Raises
    TemporaryError when one of the cells is running, PreflightError when reports cannot be
    written, and RunInterrupted and UnwrittenError with the report of what was done.
    """
    ids = [c.id for c in asked.cells]
    on_wait = tell if asked.wait else None
    with locking.held(places.reports, pipeline.name, ids, on_wait):
        name = reporting.run_name(time.time())
        directory = reporting.new_directory(places.reports, pipeline.name, name)
        earlier = reporting.history(
            places.reports, pipeline.name, before=directory.name, limit=_EARLIER
        )
        children, watch = Children(places.environ, program), watch.guarded()
        recorder = Recorder(pipeline.name, asked.cells, directory, watch)
        for note in notes:
            recorder.note(note)
        recorder.begin()
        begun(directory)
        night = Night(pipeline, asked, places, directory, children, recorder, watch, tuple(earlier))
        caught = _Work(night, tell).run()
        with _undisturbed():
            report, unwritten = _finish(night, interrupted=caught is not None)
    if caught:
        signum = signal.SIGINT if caught.exit_code is ExitCode.INTERRUPTED else signal.SIGTERM
        raise RunInterrupted(signum, report, directory)
    if unwritten:
        raise UnwrittenError(unwritten, report, directory) from unwritten
    return report, directory


class _Work:
    """The threads of a run. Signals come to the main one, which waits for nothing else."""

    def __init__(self, night: Night, tell: Callable[[str], None]) -> None:
        self._night = night
        self._tell = tell
        self._failed: dict[str, bool] = {}
        self._ended: queue.Queue[None] = queue.Queue()
        self._open = 0

    def run(self) -> Interrupted | None:
        """All cells; the signal that has cut them off, if one has."""
        caught: Interrupted | None = None
        cells = self._night.asked.cells
        try:
            self._start([lambda: self._mirrors([c for c in cells if isinstance(c, MirrorCell)])], 1)
            self._wait()
            images = [c for c in cells if isinstance(c, ImageCell)]
            jobs = [lambda c=c: self._image(c) for c in images]
            self._start(jobs, self._night.asked.jobs)
            self._wait()
        except Interrupted as exc:
            caught = exc
            self._stop(exc)
        return caught

    def _mirrors(self, cells: Sequence[MirrorCell]) -> None:
        for cell in cells:
            self._failed[cell.id] = True  # until it is known to be there
            with self._told(cell):
                self._failed[cell.id] = not run_mirror(self._night, cell)

    def _image(self, cell: ImageCell) -> None:
        held_by = ""
        if cell.gates.mirrors is OnMirrorFailure.HOLD:
            held_by = ", ".join(m for m in cell.after if self._failed.get(m))
        with self._told(cell):
            ImageRun(self._night, cell, held_by).run()

    @contextmanager
    def _told(self, cell: Cell) -> Iterator[None]:
        """What goes wrong outside of phases is a phase that failed: it must not be lost, and is
        none of the cells' that come after.
        """
        try:
            yield
        except Interrupted:
            raise
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - one cell's trouble is not the others'
            known = self._night.recorder.report(complete=False).cell(cell.id)
            done = {(p.phase, p.target) for p in known.phases} if known else set()
            asked = [p for p in cell.phases if self._night.asked.has(p)] or list(cell.phases)
            phase = next((p for p in asked if (p, "") not in done), asked[-1])
            report = PhaseReport(phase, Status.FAILED, error=error_of(exc))
            self._night.recorder.add(cell.id, report)

    def _start(self, jobs: Sequence[Callable[[], None]], number: int) -> None:
        waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)

        def work() -> None:
            try:
                while not waiting.empty():
                    try:
                        job = waiting.get_nowait()
                    except queue.Empty:
                        break
                    job()
            except BaseException as exc:  # noqa: BLE001 - told; the thread must say that it ended
                self._night.recorder.note(f"a part of the run ended by {type(exc).__name__}: {exc}")
            finally:
                self._ended.put(None)

        for _ in range(min(number, len(jobs))):
            self._open += 1
            threading.Thread(target=work, daemon=True).start()

    def _wait(self, seconds: float | None = None) -> bool:
        """Wait for all threads. A queue, not `join`: see publish/clouds.py."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._open:
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._ended.get(timeout=left)
            except queue.Empty:
                return False
            self._open -= 1
        return True

    def _stop(self, exc: Interrupted) -> None:
        """Pass the signal on, and wait; who asks again does not want to wait any more."""
        children, recorder = self._night.children, self._night.recorder
        signum = signal.SIGINT if exc.exit_code is ExitCode.INTERRUPTED else signal.SIGTERM
        children.stop(signum)
        try:
            self._tell("ending what runs; once more, and it is killed")
            if not self._wait(GRACE):
                recorder.note("children that did not end were killed")
                children.kill()
        except Interrupted:
            children.kill()
        try:
            self._wait(_LAST)
            # Cells that no thread has come to.
            for cell in self._night.asked.cells:
                known = recorder.report(complete=False).cell(cell.id)
                if known and not known.phases:
                    self._mirrors([cell]) if isinstance(cell, MirrorCell) else self._image(cell)
        except Interrupted:
            pass
        recorder.interrupt(Interrupted(signum).to_json())


def _finish(night: Night, *, interrupted: bool) -> tuple[RunReport, PreflightError | None]:
    """Older artifacts and reports go, and the report is written, whole; or why it is not."""
    recorder, retained = night.recorder, night.pipeline.retention
    report = recorder.report(complete=True)
    has_built = night.asked.has(Phase.BUILD) and not interrupted
    if retained.artifacts and has_built:
        bad = (c for c in report.cells if c.status not in GOOD and c.artifact)
        gone = retention.prune(
            night.places.images, report.cells, retained.artifacts, since=report.started,
            spare=[Path(c.artifact) for c in bad],
        )  # fmt: skip
        if gone:
            recorder.note("older artifacts are removed: " + ", ".join(p.name for p in gone))
    report = recorder.report(complete=True)
    try:
        reporting.write(report, night.directory, list(night.earlier))
    except PreflightError as exc:
        recorder.note(f"{exc.what}: {exc.where}")
        return recorder.report(complete=True), exc
    try:
        reporting.prune(night.places.reports, night.pipeline.name, retained.reports)
    except Interrupted:
        raise
    except ImagebuildError as exc:
        recorder.note(f"{exc.what}: {exc.where}")
    return report, None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait until the block's end: it takes a moment, and is not done again."""
    signals = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
