"""How much is asked of one registry: transfers at a time, requests per second, its quota.

A registry that says "come back later" says it to all threads: those that have not asked yet
wait, too. Docker Hub counts pulls, and says in each answer how many are left
(docs.docker.com/docker-hub/usage/pulls, "View pull rate and limit").
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_PERIOD = 0.1
_QUOTA = re.compile(r"\s*(\d+)\s*(?:;\s*w\s*=\s*(\d+))?")


@dataclass(frozen=True)
class Quota:
    """Pulls that are left of `limit` in `seconds` (0: not said)."""

    remaining: int
    limit: int
    seconds: int = 0

    def __str__(self) -> str:
        span = f" in {self.seconds / 3600:g} h" if self.seconds else ""
        return f"{self.remaining} of {self.limit} pulls{span} are left"


class Limits:
    """Of one registry, for all threads. `wait` waits for seconds, or raises.

    Downloads and uploads are counted apart: an upload waits for the download that feeds it,
    which may be of the same registry.
    """

    def __init__(self, concurrency: int, per_second: float, wait: Callable[[float], None]) -> None:
        self.downloads = Slots(concurrency, wait)
        self.uploads = Slots(concurrency, wait)
        self._interval = 1 / per_second if per_second else 0.0
        self._wait = wait
        self._lock = threading.Lock()
        self._next = 0.0
        self._not_before = 0.0
        self.quota: Quota | None = None

    def turn(self) -> None:
        """Wait until a request may be sent."""
        waited_for = 0.0
        while self._not_before > waited_for:
            waited_for = self._not_before
            self._wait(max(waited_for - time.monotonic(), 0))
        if self._interval:
            with self._lock:
                at = max(self._next, time.monotonic())
                self._next = at + self._interval
            self._wait(max(at - time.monotonic(), 0))

    def hold(self, seconds: float) -> bool:
        """Send nothing for so long; whether that is (much) news."""
        until = time.monotonic() + seconds
        with self._lock:
            is_news = until > self._not_before + 1
            self._not_before = max(self._not_before, until)
        return is_news

    def learn(self, headers: Mapping[str, str]) -> bool:
        """Read an answer's headers; whether they say that the last pull was that."""
        limit = _QUOTA.match(headers.get("RateLimit-Limit", ""))
        remaining = _QUOTA.match(headers.get("RateLimit-Remaining", ""))
        if not limit or not remaining:
            return False
        quota = Quota(int(remaining[1]), int(limit[1]), int(limit[2] or remaining[2] or 0))
        with self._lock:
            before, self.quota = self.quota, quota
        return quota.remaining == 0 and (before is None or before.remaining > 0)


class Slots:
    """So many at a time."""

    def __init__(self, number: int, wait: Callable[[float], None]) -> None:
        self._free = threading.Semaphore(number)
        self._wait = wait

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a slot, and hold it until the end of the block."""
        while not self._free.acquire(timeout=_PERIOD):
            self._wait(0)  # raises when the client is closed
        try:
            yield
        finally:
            self._free.release()
