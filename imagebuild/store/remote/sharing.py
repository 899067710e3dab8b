"""What of a build goes to the store's remote and comes from there, and when.

Nothing of it fails a build: what does not come is made here, what does not go is said. One
failure of the remote itself is enough, it is not asked again; one bad object is that
object's affair.

Trees are worth it (the base, layers, containers), and the finished images. The disks between
them are not: they are made of the trees in less time than they take on most networks.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.errors import ImagebuildError, Interrupted
from imagebuild.events import Emit, Event, Note
from imagebuild.host.run import which
from imagebuild.host.worker import Worker
from imagebuild.store.objects import Key, Kind, Object
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.stream import DamagedError
from imagebuild.store.store import Call

if TYPE_CHECKING:
    from imagebuild.registry.client import Client
    from imagebuild.store.remote.transfer import Remote

SHARED = frozenset(
    {Kind.BASE, Kind.ENVIRONMENT, Kind.AGENT, Kind.ELEMENTS, Kind.CONTAINER, Kind.FORMATS}
)
#: Seconds that a finished build waits for what is still on its way.
_PATIENCE = 900.0
#: Seconds of that which are worth a word.
_NOTABLE_WAIT = 5.0
#: And seconds for a thread that is told to stop.
_MOMENT = 2.0


@dataclass
class Sharing:
    """The remote of a build while it runs; `close` it. `call`s are those of a worker.

    `scratch` is the build's own; `deadline` a `time.monotonic()` for what is pulled; `environ`
    leads to the user's logins.
    """

    address: RemoteAddress
    scratch: Path
    emit: Emit
    deadline: float | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _client: Client | None = None
    _is_down: bool = False
    _takes_nothing: bool = False
    _bad: set[Key] = field(default_factory=set)
    _offered: set[Key] = field(default_factory=set)
    _jobs: queue.SimpleQueue[Object | None] = field(default_factory=queue.SimpleQueue)
    _sender: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if which("zstd") is None:
            self._fail("zstd is not installed (apt-get install zstd)")

    @property
    def remote(self) -> Remote:
        """The remote, spoken to from now on."""
        with self._lock:
            if self._client is None:
                self._client = client_of(self.address, self.emit, self.environ)
            return remote_of(self.address, self._client)

    def fetch(
        self,
        key: Key,
        inputs: object,
        draft: Callable[[], Path],
        call: Call,
        keep: Callable[[Path, Mapping[str, Any]], Object],
    ) -> Object | None:
        """The object of a key from the remote, whose name is held here; None: make it.

        It is brought into a new directory, which `draft` makes, and `keep` is called with that
        and its facts, to put it into the store.
        """
        if self._is_down or key.kind not in SHARED:
            return None
        place = draft()
        started = time.monotonic()
        found = None
        with self._spool("pull-") as spool:
            try:
                pulled = self.remote.pull(key, inputs, place, spool, call, self.deadline)
                if pulled:
                    found = keep(place, pulled.facts)
            except Interrupted:
                raise
            except DamagedError as exc:
                self._bad.add(key)
                self._say(f"{key.name} in {self.address} is refused, it is made here: {exc}")
            except ImagebuildError as exc:
                self._fail(words(exc))
            except OSError as exc:
                self._say(f"{key.name} cannot be taken from {self.address}: {exc}")
        if found is None:
            call("remove", paths=[str(place)])
            return None
        assert pulled is not None  # noqa: S101 - it was found
        self._offered.add(key)
        seconds = time.monotonic() - started
        self.emit(
            Note(f"{key.kind}: {pulled.bytes / 1e6:.1f} MB from {self.address} in {seconds:.1f} s")
        )
        return found

    def offer(self, found: Object) -> None:
        """Bring an object there, by and by, if it is not there yet. It must stay held."""
        key = found.key
        if self._is_down or self.address.read_only or key.kind not in SHARED:
            return
        if key in self._offered:
            return
        self._offered.add(key)
        self._jobs.put(found)
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_all, daemon=True)
            self._sender.start()

    def finish(self) -> None:
        """Wait until all that was offered is there, or it is clear that it will not be."""
        if self._sender is None:
            return
        self._jobs.put(None)
        self._sender.join(_NOTABLE_WAIT)
        if self._sender.is_alive():
            self.emit(Note(f"what was made here is still on its way to {self.address}"))
            self._sender.join(_PATIENCE)
        if self._sender.is_alive():
            self._say(f"not all is in {self.address} after {_PATIENCE / 60:.0f} minutes")

    def close(self) -> None:
        """Stop what is on its way. Of what is not whole there, nothing has a name."""
        self._stopped.set()
        self._jobs.put(None)
        if self._client:
            self._client.close()
        if self._sender:
            self._sender.join(_MOMENT)

    def _send_all(self) -> None:
        """The thread that pushes, with a worker of its own."""
        try:
            with Worker(self._pass_on, may_ask=False) as worker:
                while (found := self._jobs.get()) and not self._stopped.is_set():
                    if not (self._is_down or self._takes_nothing):
                        self._send(found, worker.call)
        except ImagebuildError as exc:  # no root rights without a password
            self._do_not_send(words(exc))

    def _send(self, found: Object, call: Call) -> None:
        started = time.monotonic()
        owner = (os.getuid(), os.getgid())
        anew = found.key in self._bad
        with self._spool("push-") as spool:
            try:
                pushed = self.remote.push(found, spool, call, owner, anew=anew)
            except (ImagebuildError, OSError) as exc:
                if not self._stopped.is_set():
                    self._do_not_send(words(exc))
                return
        if not pushed.was_there:
            seconds = time.monotonic() - started
            size = f"{pushed.bytes / 1e6:.1f} MB"
            self.emit(Note(f"{found.key.kind}: {size} to {self.address} in {seconds:.1f} s"))

    @contextmanager
    def _spool(self, prefix: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.scratch) as directory:
            yield Path(directory)

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, Note):
            self.emit(event)

    def _fail(self, words: str) -> None:
        self._is_down = True
        self._say(f"the store's remote {self.address} is of no use, the build goes on: {words}")

    def _do_not_send(self, words: str) -> None:
        self._takes_nothing = True
        self._say(
            f"what is made here does not get to the store's remote {self.address}: {words}; "
            "?ro behind it is for machines that may only read"
        )

    def _say(self, text: str) -> None:
        self.emit(Note(text, warning=True))


def client_of(
    address: RemoteAddress, emit: Emit | None = None, environ: Mapping[str, str] = os.environ
) -> Client:
    """A client for the remote's registry, with the logins that the user has."""
    from imagebuild.registry.client import Client

    return Client((address.settings,), environ=environ, emit=emit)


def remote_of(address: RemoteAddress, client: Client) -> Remote:
    """The repository of a remote."""
    from imagebuild.store.remote.transfer import Remote

    return Remote(client, address.reference)


def words(exc: Exception) -> str:
    """An error in one line."""
    if isinstance(exc, ImagebuildError):
        return ": ".join(filter(None, (exc.what, exc.where, exc.detail.partition("\n")[0])))
    return str(exc)
