"""Serve a stand-in archive on loopback, Debian's package files through a cache."""

from __future__ import annotations

import http.server
import io
import re
import ssl
import threading
import urllib.parse
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO

from imagebuild.errors import ImagebuildError
from tests.images.standin import mirror
from tests.images.standin.archive import Archive

_POOL = re.compile(r"ubuntu/pool/(debian|debian-security)/(.+)")
#: The layout of snapshot.ubuntu.com: a point in time behind the archive's name.
_SNAPSHOT = re.compile(r"(ubuntu|docker)/(\d{8}T\d{6}Z)/(.+)")


class Server(http.server.ThreadingHTTPServer):
    """HTTP(S) on a free loopback port, in threads of this process, until `stop()`."""

    daemon_threads = True

    def __init__(self, archive: Archive, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.archive = archive
        self.requests: list[str] = []
        self._guard = threading.Lock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def locate(self, url_path: str) -> Path | None:
        """The file behind a request, fetched from the Debian mirror when it must be."""
        relative = urllib.parse.unquote(url_path.split("?")[0]).strip("/")
        if any(part in ("", ".", "..") for part in relative.split("/")):
            return None
        if pinned := _SNAPSHOT.fullmatch(relative):
            # There is one state: from its making on, and none before.
            if pinned[2] < self.archive.made:
                return None
            relative = f"{pinned[1]}/{pinned[3]}"
        pooled = _POOL.fullmatch(relative)
        if pooled is None:
            static = relative.startswith(("ubuntu/", "docker/"))
            return self.archive.root / relative if static else None
        archive, rest = pooled[1], f"pool/{pooled[2]}"
        cached = self.archive.pool / archive / rest
        with self._guard:
            lock = self._locks[relative]
        with lock:
            if not cached.exists():
                url = f"{self.archive.mirrors[archive]}/{urllib.parse.quote(rest)}"
                mirror.download_to(url, cached)
        return cached


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Files only; SimpleHTTPRequestHandler adds length, date and If-Modified-Since."""
        self.server.requests.append(self.path)
        try:
            path = self.server.locate(self.path)
        except FileNotFoundError:
            path = None
        except ImagebuildError as exc:
            self.send_error(http.HTTPStatus.BAD_GATEWAY, exc.what, f"{exc.where}: {exc.detail}")
            return None
        if path is None or not path.is_file():
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return None
        self._found = str(path)
        return super().send_head()

    def translate_path(self, path: str) -> str:  # noqa: ARG002 - found by locate()
        return self._found

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: `requests` is the log."""
