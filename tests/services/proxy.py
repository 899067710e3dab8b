"""A proxy on loopback that does to requests what networks and loaded services do to them.

It stands before one service. Bodies pass through it as they come, in their own framing
(a length, or chunks), and are never held as a whole. Each request has a connection of its
own to the service; the client's stays open as long as nothing is wrong with it.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType

_BLOCK = 64 << 10
#: Of a body, how much the record of a request keeps: what tests read is JSON, not images.
_KEPT = 64 << 10
#: The first byte of a connection with TLS (RFC 8446, 5.1).
_TLS_HANDSHAKE = b"\x16"
_SECONDS = 120.0
_LINGER_SECONDS = 30.0


# What a rule may do to the requests it is for.


@dataclass(frozen=True)
class Answer:
    """Answer in the service's place; the body of the request is read before, `after` bytes of
    it when that is given, and thrown away. 401 is how a token expires.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    after: int | None = None


@dataclass(frozen=True)
class CutRequest:
    """Pass `after` bytes of the request's body on, then cut both connections.

    The service sees a connection that broke, or with `ends` one that was ended in order, as
    the kernel does for a client that was killed.
    """

    after: int = 0
    ends: bool = False


@dataclass(frozen=True)
class CutAnswer:
    """Pass the head and `after` bytes of the answer's body, then cut the client's connection."""

    after: int = 0


@dataclass(frozen=True)
class LoseAnswer:
    """Let the service do its work and finish; the client's connection is cut without a word,
    or with `status`, as a gateway says that it waited too long.
    """

    status: int | None = None
    body: bytes = b""


@dataclass(frozen=True)
class Damage:
    """Pass all on, with one byte of a body changed: the `at`th (from 0) of the answer's, or with
    `request` of the request's.
    """

    at: int = 0
    request: bool = False


@dataclass(frozen=True)
class Delay:
    """Pass the request on after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Slow:
    """Pass the request's body, and the answer's, so many bytes a second."""

    rate: float


@dataclass(frozen=True)
class Call:
    """Call a function of the test before the request goes on: what somebody else does
    meanwhile. What it returns, if not None, is done to the request.
    """

    function: Callable[[Request], Action | None]


Action = Answer | CutRequest | CutAnswer | LoseAnswer | Damage | Delay | Slow | Call


@dataclass
class Rule:
    """What is done to requests: to the `nth` (from 1) that fits, or to `times` from it on.

    `path` is searched for in the path with its query, as a regular expression; `when` is a
    further condition. `times` None: to all of them. `hits` counts those that it was done to.
    """

    method: str
    path: str
    action: Action
    nth: int = 1
    times: int | None = 1
    when: Callable[[Request], bool] | None = None
    seen: int = 0
    hits: int = 0

    def takes(self, request: Request) -> bool:
        """Whether it is for this request, which is counted."""
        fits = (
            self.method in (request.method, "*")
            and re.search(self.path, request.path) is not None
            and (self.when is None or self.when(request))
        )
        if not fits:
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass
class Request:
    """A request that came, and what became of it. Header names are in lower case.

    `headers` has no tokens: `token` numbers them in the order of their coming, 0 is none.
    """

    method: str
    path: str
    headers: dict[str, str]
    token: int = 0
    action: Action | None = None
    status: int | None = None
    sent: int = 0
    received: int = 0
    body: bytes = b""
    answer: bytes = b""
    seconds: float = 0.0
    finished: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status or 'nothing'}"


class _CutError(Exception):
    """The client's connection is to be cut, at once."""


class _GoneError(Exception):
    """The other side has ended the connection."""


class FaultProxy:
    """Listens on a port of 127.0.0.1 (0: a free one) for what is meant for another one."""

    def __init__(self, port: int, target: int) -> None:
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self._target = target
        self._lock = threading.Lock()
        self._tokens: dict[str, int] = {}
        self._clients: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def add(self, rule: Rule) -> Rule:
        """From now on, the first rule that is for a request has its way with it."""
        with self._lock:
            self.rules.append(rule)
        return rule

    def reset(self) -> None:
        """Forget rules, records and tokens; connections that are open are cut."""
        with self._lock:
            self.rules, self.requests, self._tokens = [], [], {}
            clients = list(self._clients)
        for client in clients:
            with contextlib.suppress(OSError):  # its own thread closes it
                client.shutdown(socket.SHUT_RDWR)

    def count(self, method: str = "*", path: str = "") -> int:
        """How many such requests came."""
        return len(self.seen(method, path))

    def seen(self, method: str = "*", path: str = "") -> list[Request]:
        """The requests that came, in their order."""
        with self._lock:
            return [
                r for r in self.requests if method in (r.method, "*") and re.search(path, r.path)
            ]

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = _Reader(client)
        try:
            if client.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
                raise _CutError  # who asks whether there is TLS is not left waiting
            while self._one(client, reader):
                pass
            _linger(client)
        except (_CutError, _GoneError, OSError):
            _cut(client)
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()

    def _one(self, client: socket.socket, reader: _Reader) -> bool:
        """One request from its head to its answer; whether another may come."""
        try:
            head = _Head.read(reader)
        except _GoneError:
            return False
        started = time.monotonic()
        method, path, _ = head.first.split(" ", 2)
        headers = {name.lower(): value for name, value in head.fields}
        token = headers.pop("x-auth-token", "")
        request = Request(method, path, headers)
        with self._lock:
            if token:
                request.token = self._tokens.setdefault(token, len(self._tokens) + 1)
            self.requests.append(request)
            rule = next((r for r in self.rules if r.takes(request)), None)
        action = rule.action if rule else None
        while isinstance(action, Call):
            action = action.function(request)
        request.action = action
        try:
            if isinstance(action, Answer):
                return self._answer(client, reader, head, request, action)
            if isinstance(action, Delay):
                time.sleep(action.seconds)
            return self._pass(client, reader, head, request, action)
        finally:
            request.seconds = time.monotonic() - started
            request.finished = True

    def _answer(
        self, client: socket.socket, reader: _Reader, head: _Head, request: Request, what: Answer
    ) -> bool:
        wants = "100-continue" in request.headers.get("expect", "").lower()
        if wants and what.after != 0:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        whole = True
        for block in head.body(reader, is_request=True):
            request.received += len(block.data)
            if what.after is not None and request.received >= what.after:
                whole = False
                break
        request.status = what.status
        _say(client, what.status, what.body, what.headers, closes=not whole)
        return whole

    def _pass(
        self,
        client: socket.socket,
        reader: _Reader,
        head: _Head,
        request: Request,
        action: Action | None,
    ) -> bool:
        pace = _Pace(action.rate if isinstance(action, Slow) else None)
        try:
            upstream = socket.create_connection(("127.0.0.1", self._target), timeout=_SECONDS)
        except OSError:
            # As when nobody listens: there is no service to speak of.
            raise _CutError from None
        with upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upstream.sendall(head.closing())
            answers = _Reader(upstream)
            if "100-continue" in request.headers.get("expect", "").lower():
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            whole = self._send_body(upstream, head, reader, request, action, pace)
            try:
                answer = _Head.read(answers)
                while answer.status < HTTPStatus.OK:
                    answer = _Head.read(answers)
            except _GoneError:
                raise _CutError from None
            return self._relay(client, answers, answer, request, action, pace, whole)

    def _send_body(
        self,
        upstream: socket.socket,
        head: _Head,
        reader: _Reader,
        request: Request,
        action: Action | None,
        pace: _Pace,
    ) -> bool:
        """Whether the service has taken all of it: it may have answered before the end."""
        cut = action if isinstance(action, CutRequest) else None
        damage = action if isinstance(action, Damage) and action.request else None
        for block in head.body(reader, is_request=True):
            data = block.data
            if cut and request.received + len(data) >= cut.after:
                data = data[: cut.after - request.received]
                with contextlib.suppress(OSError):
                    upstream.sendall(data)
                request.received += len(data)
                if not cut.ends:
                    _cut(upstream)
                raise _CutError
            if len(request.body) < _KEPT:
                request.body += data[: _KEPT - len(request.body)]
            if damage:
                block = block.damaged(damage.at - request.received)
            pace.wait(len(data))
            request.received += len(data)
            if data and _speaks(upstream):
                return False
            try:
                upstream.sendall(block.raw)
            except OSError:
                return False
        return True

    def _relay(
        self,
        client: socket.socket,
        answers: _Reader,
        answer: _Head,
        request: Request,
        action: Action | None,
        pace: _Pace,
        whole: bool,
    ) -> bool:
        request.status = answer.status
        if isinstance(action, LoseAnswer):
            for block in answer.body(answers, is_request=False, method=request.method):
                request.answer = (request.answer + block.data)[:_KEPT]
            if action.status is None:
                raise _CutError
            _say(client, action.status, action.body, (), closes=not whole)
            return whole
        ends = answer.ends_with_connection(request.method)
        client.sendall(answer.open(closes=ends or not whole))
        limit = action.after if isinstance(action, CutAnswer) else None
        if limit == 0:
            raise _CutError
        damage = action if isinstance(action, Damage) and not action.request else None
        for block in answer.body(answers, is_request=False, method=request.method):
            data = block.data
            if limit is not None and request.sent + len(data) >= limit:
                client.sendall(data[: limit - request.sent])
                request.sent = limit
                raise _CutError
            if len(request.answer) < _KEPT:
                request.answer += data[: _KEPT - len(request.answer)]
            if damage:
                block = block.damaged(damage.at - request.sent)
            pace.wait(len(data))
            client.sendall(block.raw)
            request.sent += len(data)
        return whole and not ends


@dataclass(frozen=True)
class _Block:
    """A piece of a body: what it is, and what goes over the wire for it."""

    data: bytes
    raw: bytes

    def damaged(self, at: int) -> _Block:
        """With another byte at this place, if it is in this block."""
        if not 0 <= at < len(self.data):
            return self
        data = bytearray(self.data)
        data[at] ^= 0x20
        return _Block(bytes(data), bytes(data))


class _Reader:
    """Reads lines and blocks from a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._held = b""

    def line(self) -> bytes:
        """The next line, with its end."""
        while b"\n" not in self._held:
            self._fill()
        line, _, self._held = self._held.partition(b"\n")
        return line + b"\n"

    def some(self, limit: int) -> bytes:
        """At most so many bytes, at least one; nothing at the end."""
        if not self._held:
            try:
                self._fill()
            except _GoneError:
                return b""
        data, self._held = self._held[:limit], self._held[limit:]
        return data

    def _fill(self) -> None:
        try:
            data = self._source.recv(_BLOCK)
        except OSError:
            data = b""
        if not data:
            raise _GoneError
        self._held += data


@dataclass
class _Head:
    """The first line and the header fields of a message (RFC 9112)."""

    first: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, reader: _Reader) -> _Head:
        """The next one. Raises _GoneError when none comes."""
        first = reader.line().decode("latin-1").rstrip("\r\n")
        while not first:
            first = reader.line().decode("latin-1").rstrip("\r\n")
        head = cls(first)
        while line := reader.line().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            head.fields.append((name, value.strip()))
        return head

    @property
    def status(self) -> int:
        """The status, of an answer."""
        return int(self.first.split(" ", 2)[1])

    def get(self, name: str) -> str:
        """The value of a field, "" when it is not there."""
        return next((v for n, v in self.fields if n.lower() == name), "")

    def closing(self) -> bytes:
        """For the service: it is to close the connection after its answer."""
        return self._rendered({"connection", "expect"}, "close")

    def open(self, *, closes: bool) -> bytes:
        """For the client, with or without a connection that stays."""
        return self._rendered({"connection", "keep-alive"}, "close" if closes else "keep-alive")

    def _rendered(self, without: set[str], connection: str) -> bytes:
        lines = [self.first, *(f"{n}: {v}" for n, v in self.fields if n.lower() not in without)]
        return "\r\n".join([*lines, f"Connection: {connection}", "", ""]).encode("latin-1")

    def ends_with_connection(self, method: str) -> bool:
        """Whether an answer's body has no end of its own."""
        if self._has_no_body(method):
            return False
        return not self._is_chunked() and not self.get("content-length")

    def body(self, reader: _Reader, *, is_request: bool, method: str = "") -> Iterator[_Block]:
        """The body, block by block. Raises _GoneError when it ends before its end."""
        if not is_request and self._has_no_body(method):
            return
        if self._is_chunked():
            yield from _chunks(reader)
        elif length := self.get("content-length"):
            yield from _sized(reader, int(length))
        elif not is_request:
            while data := reader.some(_BLOCK):
                yield _Block(data, data)

    def _is_chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    def _has_no_body(self, method: str) -> bool:
        return method == "HEAD" or self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


def _sized(reader: _Reader, left: int) -> Iterator[_Block]:
    while left:
        data = reader.some(min(left, _BLOCK))
        if not data:
            raise _GoneError
        left -= len(data)
        yield _Block(data, data)


def _chunks(reader: _Reader) -> Iterator[_Block]:
    """Chunks in their own sizes, and the trailer (RFC 9112, 7.1)."""
    while True:
        line = reader.line()
        yield _Block(b"", line)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while (trailer := reader.line()) not in (b"\r\n", b"\n"):
                yield _Block(b"", trailer)
            yield _Block(b"", trailer)
            return
        yield from _sized(reader, size)
        yield _Block(b"", reader.line())


class _Pace:
    """Keeps a stream to a rate."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._passed = 0

    def wait(self, size: int) -> None:
        """Wait until so many bytes more may have passed."""
        if self._rate is None:
            return
        self._passed += size
        time.sleep(max(0.0, self._started + self._passed / self._rate - time.monotonic()))


def _say(
    client: socket.socket,
    status: int,
    body: bytes,
    headers: tuple[tuple[str, str], ...],
    *,
    closes: bool,
) -> None:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{n}: {v}" for n, v in headers)]
    lines += [f"Content-Length: {len(body)}", f"Connection: {'close' if closes else 'keep-alive'}"]
    client.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def _speaks(other: socket.socket) -> bool:
    """Whether there is something to read, or the end."""
    poll = select.poll()
    poll.register(other, select.POLLIN)
    return bool(poll.poll(0))


def _cut(connection: socket.socket) -> None:
    """End a connection of this thread with a reset, as a network that breaks does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _linger(client: socket.socket) -> None:
    """Let the client read what was said to the end, though it may be sending still."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(1.0)
        deadline = time.monotonic() + _LINGER_SECONDS
        while client.recv(_BLOCK) and time.monotonic() < deadline:
            pass
