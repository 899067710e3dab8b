"""Threads for small pieces of work, the most urgent first.

Not those of concurrent.futures: their end is waited for when the tool ends, and a silent
server would hold up Ctrl-C. A piece of work must not wait for another of the same workers.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

#: Seconds between two looks at whether the work is to stop.
_PERIOD = 0.1


class StoppedError(Exception):
    """The thread was told to stop; nobody needs to read this."""


class Workers:
    """A few threads, started when there is work; `stop` ends them after what they are doing."""

    def __init__(self, count: int, stop: threading.Event) -> None:
        self._count = count
        self._stop = stop
        self._order = itertools.count()
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def put(self, job: Callable[[], None], urgency: int = 0) -> None:
        """Have a job done, before those of less urgency. It must not raise."""
        self._jobs.put((-urgency, next(self._order), job))
        with self._lock:
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, daemon=True)
                thread.start()
                # After that: one that a signal has kept from starting cannot be joined.
                self._threads.append(thread)

    def map(self, function: Callable[[A], B], values: Iterable[A]) -> list[B]:
        """What the function makes of each value, in their order.

        Raises the first error there is, when all have been tried; StoppedError.
        """
        todo: Sequence[A] = list(values)
        results: dict[int, B] = {}
        errors: dict[int, Exception] = {}
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()

        def one(number: int) -> None:
            try:
                results[number] = function(todo[number])
            except Exception as exc:  # noqa: BLE001 - raised in the caller's thread
                errors[number] = exc
            ended.put(None)

        for number in range(len(todo)):
            self.put(lambda number=number: one(number))  # type: ignore[misc]
        for _ in todo:
            wait_for(ended, self._stop)
        if errors:
            raise errors[min(errors)]
        return [results[n] for n in range(len(todo))]

    def join(self, deadline: float) -> None:
        """Wait for the threads to end, which they do after `stop`; until time.monotonic()'s."""
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                job = self._jobs.get(timeout=_PERIOD)[2]
            except queue.Empty:
                continue
            job()


def wait_for(news: queue.SimpleQueue[A], stop: threading.Event) -> A:
    """The next of a queue. Raises StoppedError when `stop` is set before."""
    while not stop.is_set():
        try:
            return news.get(timeout=_PERIOD)
        except queue.Empty:
            continue
    raise StoppedError
