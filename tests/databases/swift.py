"""The little of Swift that Trove's backups need, on loopback, in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Swift:
    """An account: `objects` by path, each with its metadata (headers in lower case)."""

    url: str
    token: str
    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)


@contextmanager
def swift(token: str) -> Iterator[Swift]:
    """Serve an empty account to who has the token, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self._body()
            if source := self.headers.get("X-Copy-From"):
                body = account.objects[f"/v1/AUTH_test/{source.lstrip('/')}"][0]
            metadata = {
                k.lower(): v
                for k, v in self.headers.items()
                if k.lower().startswith("x-object-meta-")
            }
            account.objects[self.path] = body, metadata
            self._answer(201, {"ETag": hashlib.md5(body).hexdigest()})  # noqa: S324 - Swift's own

        def do_GET(self) -> None:
            found = account.objects.get(self.path)
            if found is None:
                self._answer(404)
            else:
                etag = hashlib.md5(found[0]).hexdigest()  # noqa: S324 - Swift's own
                self._answer(200, {"ETag": f'"{etag}"', **found[1]}, found[0])

        do_HEAD = do_GET  # noqa: N815 - the name that the class has for it

        def do_DELETE(self) -> None:
            self._answer(204 if account.objects.pop(self.path, None) else 404)

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if self.headers.get("X-Auth-Token") != account.token:
                self._answer(401)
                return False
            return True

        def log_message(self, *_: object) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(
            self, status: int, headers: dict[str, str] | None = None, body: bytes = b""
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    account = Swift(f"http://127.0.0.1:{server.server_port}/v1/AUTH_test", token)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
