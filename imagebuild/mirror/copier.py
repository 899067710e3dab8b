"""Plan → registry: blobs mounted, skipped or streamed, manifests byte for byte, tags last.

A thread for each of a few images asks and puts manifests, and waits for the image's blobs,
which threads of their own move (`blobs.py`). In the target's repository come first all blobs,
then manifests, those that are named before those that name them, then what refers to the
image, then the tag that keeps the image from before, and at last the tags: whoever pulls a tag
finds either the old image or the new one, whole.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagebuild.errors import ImagebuildError, Interrupted
from imagebuild.events import Emit, Event
from imagebuild.mirror.blobs import Tally, Transfers
from imagebuild.mirror.giveup import Registries
from imagebuild.mirror.holders import Holders
from imagebuild.mirror.image import ImageCopy, Shared
from imagebuild.mirror.planning import MirrorPlan, Planned
from imagebuild.mirror.referrers import Subjects
from imagebuild.mirror.result import Outcome, Report, Result, RunInterrupted, outcome_of
from imagebuild.mirror.source import Source
from imagebuild.mirror.workers import StoppedError, Workers

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Images at a time; what a single registry is asked is limited by its settings.
_IMAGES = 4
_BLOBS = 6
_QUESTIONS = 8
#: Seconds between two looks at how far the images are.
_PERIOD = 0.1
#: Seconds for threads to notice that they are to stop; a silent server holds one up longer.
_PATIENCE = 2.0


@dataclass(frozen=True)
class ImageProgress(Event):
    """Bytes of one item that are in the target, and in all. `target`: its full name with tag."""

    target: str
    done: int
    total: int


@dataclass(frozen=True)
class ImageFinished(Event):
    """The end of one item."""

    result: Result


def run_plan(
    client: Client,
    plan: MirrorPlan,
    *,
    emit: Emit | None = None,
    deep: bool = False,
    new_referrers: bool = False,
    jobs: int = _IMAGES,
    stop: threading.Event | None = None,
    source: Source | None = None,
) -> Report:
    """Do what the plan says, which was made with the same `source` (the client if not given).
    An item that fails does not stop the others.

    `deep` also walks images whose tags are the same, and sends what the target has lost of
    them; `new_referrers` looks for signatures that came to them since. Both ask more than
    HEADs. `jobs`: images at a time. Who sets `stop` gets the report of what was done till
    then. Events come in the caller's thread. Raises RunInterrupted alone, with the same
    report, and nothing half-tagged.
    """
    return _Run(
        client, source or client, plan, emit, stop or threading.Event(), deep, new_referrers, jobs
    ).run()


class _Run:
    def __init__(
        self,
        client: Client,
        source: Source,
        plan: MirrorPlan,
        emit: Emit | None,
        stop: threading.Event,
        deep: bool,
        new_referrers: bool,
        jobs: int,
    ) -> None:
        self._client = client
        self._plan = plan
        self._emit = emit or (lambda _: None)
        self._asked_to_stop = stop
        # Its own: the caller's is not to be set when all is done.
        self._stop = threading.Event()
        self._looks_closer = deep or new_referrers
        self._began = time.monotonic()
        self._images = Workers(jobs, self._stop)
        self._blobs = Workers(_BLOBS, self._stop)
        self._questions = Workers(_QUESTIONS, self._stop)
        registries = Registries()
        targets = ((p.item.target, p.there is not None) for p in plan.planned)
        holders = Holders(client, targets, source is client)
        self._shared = Shared(
            client,
            source,
            self._questions,
            Transfers(client, source, holders, registries, self._blobs, self._stop),
            registries,
            Subjects(client),
            self._stop,
            deep=deep,
            new_referrers=new_referrers,
        )
        self._results: dict[int, Result] = {}
        self._tallies: dict[int, Tally] = {}
        self._shown: dict[int, tuple[int, int]] = {}
        self._news: queue.SimpleQueue[tuple[int, Result] | BaseException] = queue.SimpleQueue()

    def run(self) -> Report:
        try:
            pending = 0
            for number, planned in enumerate(self._plan.planned):
                if planned.error or not (planned.stale_tags or self._looks_closer):
                    self._finish(number, known_result(planned))
                    continue
                self._tallies[number] = Tally()
                self._images.put(lambda n=number: self._one(n))  # type: ignore[misc]
                pending += 1
            while pending and not self._asked_to_stop.is_set():
                pending -= self._hear()
        except Interrupted as exc:
            self._end()
            raise RunInterrupted(exc, self._report()) from None
        finally:
            self._end()
        return self._report()

    def _hear(self) -> int:
        """Whether another image has ended; else how far they are is told."""
        try:
            news = self._news.get(timeout=_PERIOD)
        except queue.Empty:
            self._tell()
            return 0
        if isinstance(news, BaseException):
            raise news
        self._tell()
        self._finish(*news)
        return 1

    def _tell(self) -> None:
        for number, tally in self._tallies.items():
            state = tally.done, tally.total
            if tally.total and number not in self._results and self._shown.get(number) != state:
                self._shown[number] = state
                self._emit(ImageProgress(str(self._plan.planned[number].item.target), *state))

    def _finish(self, number: int, result: Result) -> None:
        self._results[number] = result
        self._emit(ImageFinished(result))

    def _end(self) -> None:
        """Stop the threads; those that have just ended well are believed."""
        if self._stop.is_set():
            return
        self._stop.set()
        deadline = time.monotonic() + _PATIENCE
        for workers in (self._images, self._questions, self._blobs):
            workers.join(deadline)
        while not self._news.empty():
            news = self._news.get()
            if not isinstance(news, BaseException):
                self._results[news[0]] = news[1]

    def _report(self) -> Report:
        results = tuple(
            self._results.get(number) or skipped_result(planned)
            for number, planned in enumerate(self._plan.planned)
        )
        return Report(
            results,
            time.monotonic() - self._began,
            dict(self._client.request_counts),
            tuple(self._client.quotas),
        )

    def _one(self, number: int) -> None:
        planned = self._plan.planned[number]
        began = time.monotonic()
        try:
            copy = ImageCopy(self._shared, planned, self._tallies[number])
            result = dataclasses.replace(copy.run(), seconds=time.monotonic() - began)
        except StoppedError:
            return
        except Exception as exc:  # noqa: BLE001 - raised in the caller's thread
            self._news.put(exc)
        else:
            self._news.put((number, result))


def known_result(planned: Planned) -> Result:
    """The end of an item that there is nothing to do for."""
    there = planned.there.digest if planned.there else ""
    source = planned.source.digest if planned.source else ""
    if planned.error:
        return Result(
            planned.item, outcome_of(planned.error), digest=there, before=there,
            source_digest=source, error=planned.error.to_json(),
        )  # fmt: skip
    return Result(
        planned.item, Outcome.UNCHANGED, digest=there, before=there, source_digest=source,
        made_as=planned.made_as,
    )  # fmt: skip


def skipped_result(planned: Planned) -> Result:
    there = planned.there.digest if planned.there else ""
    target = str(planned.item.target)
    error = ImagebuildError("not done: the run was interrupted before", where=target)
    return Result(
        planned.item, Outcome.SKIPPED, digest=there, before=there, error=error.to_json(),
        source_digest=planned.source.digest if planned.source else "",
    )  # fmt: skip
