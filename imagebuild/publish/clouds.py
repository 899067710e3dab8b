"""Several clouds: each with its own result, one after the other or at the same time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imagebuild.cloud.connection import connect
from imagebuild.errors import ExitCode, ImagebuildError, Interrupted
from imagebuild.events import Emit
from imagebuild.publish.job import Job
from imagebuild.publish.payload import Payload, Source, ready
from imagebuild.publish.upload import FAILED, Result, upload

#: Seconds that uploads in threads get to remove what they have made, once they are to end.
_GRACE = 60.0


class Payloads:
    """The file for all clouds: converted once, when the first one needs it."""

    def __init__(self, source: Source, cache: Path, emit: Emit) -> None:
        self._source, self._cache, self._emit = source, cache, emit
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._made: Payload | None = None

    def __call__(self) -> Payload:
        """The file; raises as `payload.ready`."""
        with self._lock:
            if self._made is None:
                made = ready(self._source, self._cache, self._emit)
                self._made = self._stack.enter_context(made)
            return self._made

    @contextmanager
    def held(self) -> Iterator[Payloads]:
        """Remove at the end what was made."""
        with self._stack:
            yield self


def publish(
    names: Sequence[str | None],
    job: Job,
    emit: Emit,
    *,
    parallel: bool = False,
    done: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """Upload to every cloud named (None: as OS_* say), each once; results in their order.

    What goes wrong with one is in its result and does not hinder the others. `done` gets each
    result as it comes. Raises Interrupted, and nothing else.
    """
    stop, connecting = threading.Event(), threading.Lock()
    unique = list(dict.fromkeys(names))

    def one(name: str | None) -> Result:
        label = name or "environment"
        try:
            with connecting:  # the SDK imports what it needs then, not safe for threads
                cloud = connect(name)
                label = cloud.name
                cloud.image  # noqa: B018 - made when it is first asked for
            result = upload(cloud, job, payloads, emit, stop)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            result = Result(label, FAILED, error=exc)
        done(result)
        return result

    with Payloads(job.source, job.way.cache, emit).held() as payloads:
        if not parallel or len(unique) < 2:
            return [one(name) for name in unique]
        return _together(unique, one, stop)


def _together(
    names: Sequence[str | None], one: Callable[[str | None], Result], stop: threading.Event
) -> list[Result]:
    """All at the same time, in threads that do not keep the process from ending."""
    # A queue, not `join`: a signal that breaks off a join makes Python 3.11 and older take
    # the thread for dead (bpo-45274).
    ended: queue.Queue[tuple[str | None, Result | BaseException]] = queue.Queue()

    def work(name: str | None) -> None:
        try:
            ended.put((name, one(name)))
        except BaseException as exc:  # noqa: BLE001 - raised again in the main thread
            ended.put((name, exc))

    for name in names:
        threading.Thread(target=work, args=(name,), daemon=True).start()
    found: dict[str | None, Result | BaseException] = {}
    try:
        while len(found) < len(names):
            found.update([ended.get()])
    except BaseException:
        stop.set()
        deadline = time.monotonic() + _GRACE
        with contextlib.suppress(queue.Empty):
            while len(found) < len(names):
                found.update([ended.get(timeout=max(0.0, deadline - time.monotonic()))])
        raise
    results = []
    for name in names:
        outcome = found[name]
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


def exit_code(results: Sequence[Result]) -> ExitCode:
    """0 when all is well, the code of the error when all failed by the same one, 75 when what
    failed may do better later, else 6.
    """
    codes = {ExitCode(r.error.exit_code) if r.error else ExitCode.OK for r in results}
    if codes == {ExitCode.OK, ExitCode.TEMPORARY}:
        return ExitCode.TEMPORARY  # what the other clouds have is not sent again
    return codes.pop() if len(codes) == 1 else ExitCode.PUBLISH
