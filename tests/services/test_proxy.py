"""Tests of the fault proxy, before a small server of their own."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from imagebuild.verify.control.ports import Ports
from tests.services.cloud import wait_until
from tests.services.proxy import (
    Answer,
    Call,
    CutAnswer,
    CutRequest,
    Delay,
    FaultProxy,
    LoseAnswer,
    Request,
    Rule,
    Slow,
)


@dataclass
class Server:
    """What came to the server: (method, path, body, its framing), and how many bytes of what
    did not come whole, -1 where the connection broke.
    """

    port: int = 0
    came: list[tuple[str, str, bytes, str]] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _serve(self) -> None:
        seen: Server = self.server.seen
        body, framing = b"", "none"
        if self.headers.get("Transfer-Encoding") == "chunked":
            framing = "chunked"
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        elif length := self.headers.get("Content-Length"):
            framing = "length"
            try:
                body = self.rfile.read(int(length))
            except ConnectionError:
                seen.broken.append(-1)
                raise
            if len(body) < int(length):
                seen.broken.append(len(body))
                self.close_connection = True
                return
        seen.came.append((self.command, self.path, body, framing))
        answer = body or b"hello"
        self.send_response(200)
        self.send_header("X-Served", "yes")
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(answer):x}\r\n".encode() + answer + b"\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_HEAD = _serve  # noqa: N815 - the library's names

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    seen = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http_server:
        http_server.seen = seen  # type: ignore[attr-defined]
        seen.port = http_server.server_address[1]
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield seen
        http_server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with Ports() as ports, FaultProxy(ports.take(), server.port) as made:
        yield made


def ask(
    proxy: FaultProxy,
    method: str = "GET",
    path: str = "/",
    body: Any = None,  # noqa: ANN401 - bytes, a file, an iterable
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as connection:
        connection.request(
            method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None)
        )
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_passes_on_what_has_no_rule(proxy: FaultProxy, server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port)) as connection:
        for path in ("/a?b=c", "/chunked", "/again"):  # one connection for all of them
            connection.request("PUT", path, b"x" * 200_000)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("X-Served")) == (200, "yes")
            assert answer.read() == b"x" * 200_000
        connection.request("HEAD", "/head")
        assert connection.getresponse().read() == b""
    assert [(m, p, f) for m, p, _, f in server.came] == [
        ("PUT", "/a?b=c", "length"), ("PUT", "/chunked", "length"),
        ("PUT", "/again", "length"), ("HEAD", "/head", "none"),
    ]  # fmt: skip
    assert [r.received for r in proxy.seen("PUT")] == [200_000] * 3


def test_a_chunked_body_stays_chunked(proxy: FaultProxy, server: Server) -> None:
    status, answer = ask(proxy, "PUT", "/x", iter([b"a" * 100_000, b"b"]),
                         {"Transfer-Encoding": "chunked"})  # fmt: skip
    assert (status, answer) == (200, b"a" * 100_000 + b"b")
    assert server.came[0][3] == "chunked"
    assert proxy.requests[0].received == 100_001


def test_an_answer_in_the_services_place(proxy: FaultProxy, server: Server) -> None:
    rule = proxy.add(Rule("GET", "^/image", Answer(503, b"busy", (("Retry-After", "1"),)), nth=2))
    asked = [ask(proxy, path=p) for p in ("/image/1", "/other", "/image/2", "/image/3")]
    assert asked == [(200, b"hello"), (200, b"hello"), (503, b"busy"), (200, b"hello")]
    assert [path for _, path, _, _ in server.came] == ["/image/1", "/other", "/image/3"]
    assert (rule.seen, rule.hits) == (3, 1)
    assert proxy.count("GET", "^/image") == 3


def test_a_rule_may_be_for_all_that_fit(proxy: FaultProxy) -> None:
    proxy.add(Rule("*", "/file", Answer(401), times=None, when=lambda r: r.token == 1))
    tokens = ["gAAA-1", "gAAA-2", "gAAA-1"]
    assert [ask(proxy, path="/file", headers={"X-Auth-Token": t})[0] for t in tokens] == [
        401, 200, 401,
    ]  # fmt: skip
    assert [r.token for r in proxy.requests] == [1, 2, 1]
    assert "gAAA" not in repr(proxy.requests)


def test_an_early_answer_leaves_the_rest_of_the_body(proxy: FaultProxy) -> None:
    proxy.add(Rule("PUT", "/", Answer(413, b"too much", after=1000)))
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 1000
            time.sleep(0.002)

    status, answer = ask(proxy, "PUT", "/", body(), {"Transfer-Encoding": "chunked"})
    assert (status, answer) == (413, b"too much")
    assert proxy.requests[0].received < 100_000


@pytest.mark.parametrize("ends", [False, True])
def test_a_request_is_cut(proxy: FaultProxy, server: Server, ends: bool) -> None:
    proxy.add(Rule("PUT", "/", CutRequest(after=500_000, ends=ends)))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(proxy, "PUT", "/", b"x" * 1_000_000)
    wait_until(lambda: bool(server.broken))
    assert server.broken == ([500_000] if ends else [-1])
    assert (proxy.requests[0].received, proxy.requests[0].status) == (500_000, None)
    assert ask(proxy, "PUT", "/", b"second")[0] == 200


def test_an_answer_is_cut(proxy: FaultProxy) -> None:
    proxy.add(Rule("PUT", "/", CutAnswer(after=100)))
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        ask(proxy, "PUT", "/", b"x" * 1000)
    assert (proxy.requests[0].status, proxy.requests[0].sent) == (200, 100)


def test_an_answer_is_lost(proxy: FaultProxy, server: Server) -> None:
    proxy.add(Rule("POST", "/", LoseAnswer()))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(proxy, "POST", "/", b"done")
    proxy.add(Rule("POST", "/", LoseAnswer(504, b"late")))
    assert ask(proxy, "POST", "/", b"done") == (504, b"late")
    assert [body for _, _, body, _ in server.came] == [b"done", b"done"]
    assert [(r.status, r.answer) for r in proxy.requests] == [(200, b"done")] * 2


def test_slow_and_late(proxy: FaultProxy) -> None:
    proxy.add(Rule("PUT", "/", Slow(rate=1_000_000)))
    started = time.monotonic()
    ask(proxy, "PUT", "/", b"x" * 400_000)
    assert time.monotonic() - started >= 0.7  # there and back
    proxy.add(Rule("GET", "/", Delay(0.3)))
    started = time.monotonic()
    ask(proxy)
    assert time.monotonic() - started >= 0.3


def test_something_happens_meanwhile(proxy: FaultProxy) -> None:
    seen: list[Request] = []

    def other(request: Request) -> Answer | None:
        seen.append(request)
        return Answer(409) if len(seen) == 1 else None

    proxy.add(Rule("POST", "/", Call(other), times=None))
    assert [ask(proxy, "POST", "/", b"x")[0] for _ in range(2)] == [409, 200]


def test_nobody_there_is_a_broken_connection(server: Server) -> None:
    with (
        Ports() as ports,
        FaultProxy(ports.take(), ports.take()) as proxy,
        pytest.raises((ConnectionError, http.client.HTTPException)),
    ):
        ask(proxy)
    assert not server.came


def test_reset_forgets(proxy: FaultProxy) -> None:
    proxy.add(Rule("*", "", Answer(500), times=None))
    assert ask(proxy)[0] == 500
    proxy.reset()
    assert ask(proxy)[0] == 200
    assert proxy.count() == 1
