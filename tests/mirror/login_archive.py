"""Debian's archive on loopback for who has a login: the host's own mirror is behind it."""

from __future__ import annotations

import base64
import shutil
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.images.standin.mirror import host_debian_mirror


class LoginArchive:
    """Serves `/debian` and `/debian-security` until the end of the block.

    `paths` are what was asked for with the login, `refused` without it.
    """

    def __init__(self, user: str, password: str) -> None:
        main, security = host_debian_mirror()
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        outer = self
        self.paths: list[str] = []
        self.refused: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != f"Basic {token}":
                    outer.refused.append(self.path)
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="archive"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                outer.paths.append(self.path)
                url = self.path.replace("/debian-security", security, 1)
                url = url if url != self.path else self.path.replace("/debian", main, 1)
                try:
                    with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310 - http(s)
                        self.send_response(200)
                        self.send_header("Content-Length", reply.headers["Content-Length"])
                        self.end_headers()
                        shutil.copyfileobj(reply, self.wfile, 1 << 20)
                except urllib.error.HTTPError as exc:
                    self.send_response(exc.code)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> LoginArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
