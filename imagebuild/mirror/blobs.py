"""Blobs from registry to registry: already there, mounted from another repository, or streamed.

Each blob goes over the wire once per run, however many images have it: of several
repositories that want it one after another gets its turn, and the later ones mount it. When
the first one fails, the next one tries.
"""

from __future__ import annotations

import enum
import functools
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagebuild.errors import ConfigError
from imagebuild.mirror.giveup import Registries
from imagebuild.mirror.holders import Holders
from imagebuild.mirror.source import Source
from imagebuild.mirror.workers import StoppedError, Workers, wait_for
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Refused mounts after which a registry is not asked for one again.
_REFUSALS = 3


class How(enum.Enum):
    """How a blob came to be there."""

    PRESENT = "present"
    MOUNTED = "mounted"
    COPIED = "copied"


class Tally:
    """How far one image is: bytes by how they came, and those that are on their way."""

    def __init__(self) -> None:
        self.bytes = dict.fromkeys(How, 0)
        self.copied = 0  # blobs
        #: Bytes over the wire, failed attempts counted.
        self.sent = 0
        self.total = 0
        #: Bytes of blobs on their way; a transfer of several images is in each one's.
        self.coming: dict[str, int] = {}

    @property
    def done(self) -> int:
        """Bytes that are in the target."""
        return sum(self.bytes.values()) + sum(list(self.coming.values()))


@dataclass
class _Transfer:
    """One blob for one repository."""

    source: Reference
    target: Reference
    blob: Descriptor
    #: Who waits for it: told it when it has ended.
    waiting: list[tuple[Tally, queue.SimpleQueue[_Transfer]]] = field(default_factory=list)
    how: How | None = None
    sent: int = 0
    error: Exception | None = None
    ended: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.target.name, self.blob.digest

    @property
    def flight(self) -> tuple[str, str]:
        """Transfers of the same blob into one registry take turns."""
        return self.target.registry, self.blob.digest


class _UnwantedError(Exception):
    """Nobody waits for the blob any more."""


class Transfers:
    """All blobs of a run. Several threads may call `bring`, none of them of `workers`."""

    def __init__(
        self,
        client: Client,
        source: Source,
        holders: Holders,
        registries: Registries,
        workers: Workers,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._source = source
        self._holders = holders
        self._registries = registries
        self._workers = workers
        self._stop = stop
        self._lock = threading.Lock()
        self._transfers: dict[tuple[str, str], _Transfer] = {}
        self._flights: dict[tuple[str, str], list[_Transfer]] = defaultdict(list)
        self._refused: dict[str, int] = defaultdict(int)

    def bring(
        self, source: Reference, target: Reference, blobs: Sequence[Descriptor], tally: Tally
    ) -> None:
        """Have the target's repository hold all blobs, the biggest first.

        Raises the first error; what only this image wanted is then not begun any more.
        Raises StoppedError.
        """
        ended: queue.SimpleQueue[_Transfer] = queue.SimpleQueue()
        left = set()
        for blob in sorted(blobs, key=lambda b: -b.size):
            self._join(source, target, blob, tally, ended)
            left.add(blob.digest)
        try:
            while left:
                transfer = wait_for(ended, self._stop)
                tally.coming.pop(transfer.blob.digest, None)
                if transfer.error:
                    unwanted = isinstance(transfer.error, _UnwantedError)
                    if transfer.source.name == source.name and not unwanted:
                        raise transfer.error
                    # Somebody else's: given up by them, or from a source that is not ours.
                    self._join(source, target, transfer.blob, tally, ended)
                    continue
                left.discard(transfer.blob.digest)
                self._count(transfer, tally, ended)
        finally:
            self._leave(target, left, ended)

    def _count(
        self, transfer: _Transfer, tally: Tally, ended: queue.SimpleQueue[_Transfer]
    ) -> None:
        """What one image had sent is there for the others."""
        how = transfer.how or How.PRESENT
        first = transfer.waiting[0][1] is ended if transfer.waiting else False
        how = how if first else How.PRESENT
        tally.sent += transfer.sent if first else 0
        tally.bytes[how] += transfer.blob.size
        tally.copied += how is not How.PRESENT

    def _join(
        self,
        source: Reference,
        target: Reference,
        blob: Descriptor,
        tally: Tally,
        ended: queue.SimpleQueue[_Transfer],
    ) -> None:
        """Wait for a transfer, which is begun unless there is one."""
        with self._lock:
            transfer = self._transfers.get((target.name, blob.digest))
            if transfer and transfer.ended and not transfer.error:
                ended.put(transfer)
                return
            if transfer and not transfer.ended:
                transfer.waiting.append((tally, ended))
                return
            transfer = _Transfer(source, target, blob, [(tally, ended)])
            self._transfers[transfer.key] = transfer
            flight = self._flights[transfer.flight]
            flight.append(transfer)
            if len(flight) == 1:
                self._begin(transfer)

    def _leave(
        self, target: Reference, digests: set[str], ended: queue.SimpleQueue[_Transfer]
    ) -> None:
        with self._lock:
            for digest in digests:
                transfer = self._transfers.get((target.name, digest))
                if transfer and not transfer.ended:
                    transfer.waiting = [w for w in transfer.waiting if w[1] is not ended]

    def _begin(self, transfer: _Transfer) -> None:
        self._workers.put(functools.partial(self._run, transfer), transfer.blob.size)

    def _run(self, transfer: _Transfer) -> None:
        try:
            transfer.how = self._move(transfer)
            self._holders.add(transfer.target, transfer.blob.digest)
        except Exception as exc:  # noqa: BLE001 - raised by those who wait for it
            transfer.error = exc
        with self._lock:
            transfer.ended = True
            flight = self._flights[transfer.flight]
            flight.remove(transfer)
            if flight:
                self._begin(flight[0])
            for _, ended in transfer.waiting:
                ended.put(transfer)

    def _move(self, transfer: _Transfer) -> How:
        target, blob = transfer.target, transfer.blob
        if not transfer.waiting:
            raise _UnwantedError
        with self._registries.asked(target.registry):
            if self._client.has_blob(target, blob):
                return How.PRESENT
            if self._mount(transfer):
                return How.MOUNTED
            read = functools.partial(self._read, transfer)
            transfer.sent = self._client.push_blob(target, blob, read)
        return How.COPIED

    def _mount(self, transfer: _Transfer) -> bool:
        registry = transfer.target.registry
        if self._refused[registry] >= _REFUSALS:
            return False
        holders = self._holders.others(transfer.source, transfer.target, transfer.blob)
        for repository in holders:
            if self._client.mount_blob(transfer.target, transfer.blob, repository):
                self._refused[registry] = 0
                return True
            self._refused[registry] += 1
        return False

    def _read(self, transfer: _Transfer, start: int) -> Iterator[bytes]:
        at = start
        blob = transfer.blob
        try:
            with self._registries.asked(transfer.source.registry):
                for block in self._source.open_blob(transfer.source, blob, start):
                    if self._stop.is_set():
                        raise StoppedError
                    if not transfer.waiting:
                        raise _UnwantedError
                    at += len(block)
                    for tally, _ in transfer.waiting:
                        tally.coming[blob.digest] = at
                    yield block
        except ConfigError as exc:
            raise ConfigError(
                "the source does not have a blob that the image names",
                where=f"{transfer.source.name}@{blob.digest}",
                detail=exc.detail,
                hint="the image is not whole there: push it again to the source",
            ) from exc
