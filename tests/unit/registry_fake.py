"""A registry, token server or store of blobs that misbehaves as a test wants it to."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.container_images import Image, sha256


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    fake: Fake

    def do_GET(self) -> None:
        self.fake.asked.append((self.command, self.path, dict(self.headers)))
        if self.fake.meddle and self.fake.meddle(self):
            return
        path = self.path.partition("?")[0]
        if path not in self.fake.content:
            errors = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}'
            self.answer(404, errors, "application/json")
            return
        kind, data = self.fake.content[path]
        headers = {"Docker-Content-Digest": sha256(data)} if "/manifests/" in path else {}
        start = self.start()
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if start else 200, data[start:], kind, **headers)

    # The names that the base class calls.
    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_CONNECT = do_GET  # noqa: N815

    def start(self) -> int:
        """The first byte that is wanted."""
        return int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))

    # Both return True, so that a `meddle` may be one line.
    def answer(
        self, status: int, body: bytes = b"", kind: str = "text/plain", /, **headers: str
    ) -> bool:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def cut(self, body: bytes, length: int, status: int = 200, **headers: str) -> bool:
        """Promise `length` bytes, send fewer, and hang up."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


@dataclass
class Fake:
    """What the server has, by path: media type and bytes; and what it was asked.

    `meddle` may answer a request in its own way; then it returns True.
    """

    port: int = 0
    content: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    meddle: Callable[[Handler], bool] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def add(self, repository: str, image: Image, tag: str = "") -> None:
        """Offer an image or index."""
        for child in image.children:
            self.add(repository, child)
        for blob in image.blobs:
            self.content[f"/v2/{repository}/blobs/{sha256(blob)}"] = ("text/plain", blob)
        for name in filter(None, (tag, image.digest)):
            place = f"/v2/{repository}/manifests/{name}"
            self.content[place] = (image.media_type, image.manifest)

    def requests(self, part: str = "") -> list[str]:
        """Method and path of what was asked, as far as the path holds `part`."""
        return [f"{method} {path}" for method, path, _ in self.asked if part in path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextlib.contextmanager
def serve() -> Iterator[Fake]:
    """Run a server until the end of the block."""
    fake = Fake()
    handler = type("Handler", (Handler,), {"fake": fake})
    server = _Server(("127.0.0.1", 0), handler)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller, the same each time."""
    return hashlib.shake_128(b"noise").digest(size)
