"""The bytes of an image into Glance, and the proof that they are the right ones.

`imagebuild verify` has left the digest that Glance makes of what it gets: they must be the same,
and nothing is hashed here. Where there is none (never verified, a converted file), or Glance's
is another, the file is hashed on the way: it is read once, and while a block is on
its way to the cloud, two threads hash it (hashlib lets go of the interpreter for that). What
was read must be what the manifest says before its last block is sent; what arrived must be
what was read.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from imagebuild.cloud.images import Image
from imagebuild.errors import PublishError
from imagebuild.files import open_regular
from imagebuild.publish.payload import Payload

#: Bytes that are read, hashed and sent in one piece.
BLOCK = 256 << 10
#: Blocks that may be read before their hashes are made: so much memory it takes.
_AHEAD = 4
#: Seconds between two reports of progress.
_PERIOD = 0.2
#: What the file is hashed with: the first for the manifest, the second is what Glance's
#: `os_hash_algo` is unless its operator chose another.
SHA256, SHA512 = "sha256", "sha512"

Progress = Callable[[int, int], None]


class Stopped(Exception):  # noqa: N818 - whoever stopped it knows why
    """The upload is to end (see `Body`)."""


class Hashes:
    """Several digests of one stream, each made by a thread of its own."""

    def __init__(self, *algorithms: str) -> None:
        self._digests = {a: hashlib.new(a) for a in algorithms}
        self._threads = [ThreadPoolExecutor(1) for _ in algorithms]
        self._waiting: deque[list[Future[None]]] = deque()

    def update(self, block: bytes) -> None:
        """Add a block; waits while too many are not hashed yet."""
        pairs = zip(self._threads, self._digests.values(), strict=True)
        self._waiting.append([t.submit(d.update, block) for t, d in pairs])
        while len(self._waiting) > _AHEAD:
            self._settle()

    def digests(self) -> dict[str, str]:
        """`{algorithm: hex}` of all that was added."""
        while self._waiting:
            self._settle()
        return {name: d.hexdigest() for name, d in self._digests.items()}

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)

    def _settle(self) -> None:
        for done in self._waiting.popleft():
            done.result()


class Body:
    """The body of a request: iterated, it gives the file's blocks; it can be iterated again.

    `digests` is filled in when a pass comes to its end: with what the payload says where that
    is enough for Glance's `algorithm`, else, and with `hashes`, with what was found. A pass
    raises PublishError when the file is not what the payload says, as far as that is seen, and
    Stopped when `stop` is set: the request then ends before its last byte.
    """

    def __init__(
        self,
        payload: Payload,
        progress: Progress = lambda _done, _total: None,
        stop: threading.Event | None = None,
        algorithm: str = SHA512,
        *,
        hashes: bool = False,
    ) -> None:
        self._payload = payload
        self._progress = progress
        self._stop = stop
        said = {SHA256: payload.sha256, SHA512: payload.sha512}
        self._said = {name: value for name, value in said.items() if value}
        wanted = tuple(dict.fromkeys((SHA256, algorithm)))
        self._algorithms = wanted if hashes or not {*wanted} <= {*self._said} else ()
        self.digests: dict[str, str] = {}

    def __len__(self) -> int:
        return self._payload.size

    def __iter__(self) -> Iterator[bytes]:
        self.digests = {}
        hashes = Hashes(*self._algorithms)
        sent, said = 0, 0.0
        try:
            with open_regular(self._payload.path) as file:
                descriptor = file.fileno()
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while block := os.read(descriptor, BLOCK):
                    if self._stop and self._stop.is_set():
                        raise Stopped
                    hashes.update(block)
                    sent += len(block)
                    if sent >= len(self):
                        self._finish(hashes, sent)
                    yield block
                    if (now := time.monotonic()) - said >= _PERIOD:
                        said = now
                        self._progress(sent, len(self))
            if sent < len(self):
                raise self._damaged(f"it ended after {sent} bytes")
            self._progress(sent, len(self))
        finally:
            hashes.close()

    def _finish(self, hashes: Hashes, sent: int) -> None:
        if sent > len(self):
            raise self._damaged("it grows")
        found = hashes.digests() or self._said
        wanted = self._payload.sha256
        if wanted and found[SHA256] != wanted:
            raise self._damaged(f"its sha256 is {found[SHA256][:16]}…, not {wanted[:16]}…")
        self.digests = found

    def _damaged(self, detail: str) -> PublishError:
        return PublishError(
            "the image is not what its manifest says", where=str(self._payload.path),
            detail=detail, hint="copy the artifact anew, or build the image anew",
        )  # fmt: skip


def read_through(body: Body) -> None:
    """Fill in a body's digests without sending it anywhere."""
    deque(body, maxlen=0)


def arrived(image: Image, payload: Payload, digests: dict[str, str]) -> str:
    """What is wrong with the image that the cloud has; empty when it is what was sent."""
    if image.size is not None and image.size != payload.size:
        return f"the cloud has {image.size} of {payload.size} bytes"
    algorithm = image.os_hash_algo
    if algorithm and algorithm not in digests and algorithm in hashlib.algorithms_available:
        again = Body(payload, algorithm=algorithm)
        read_through(again)
        digests.update(again.digests)
    if algorithm in digests:
        if digests[algorithm] != image.os_hash_value:
            # Whose fault it is: raises when the file is another than was said.
            read_through(Body(payload, hashes=True))
            return f"the cloud's {algorithm} is another"
        return ""
    return "the cloud does not say what it has: its image has no digest"
