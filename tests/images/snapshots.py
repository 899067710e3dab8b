"""Debian's snapshot service on loopback: its URL layout over the mirror of this host's apt.

There is one point in time, the one of the start: what is asked for once stays as it is.
A later time is redirected to it, as the real service redirects to what it has; of an
earlier one nothing was kept.
"""

from __future__ import annotations

import http.server
import re
import threading
import time
import urllib.parse
from pathlib import Path

from imagebuild.errors import ImagebuildError
from tests.images.standin import mirror

_LAYOUT = re.compile(r"/archive/(debian|debian-security)/(\d{8}T\d{6}Z)/(.+)")


class Snapshots(http.server.ThreadingHTTPServer):
    """Serves until `stop()`; `requests` are the paths that were asked for."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kept = directory
        self.made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.requests: list[str] = []
        self.mirrors = dict(
            zip(("debian", "debian-security"), mirror.host_debian_mirror(), strict=True)
        )
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def options(self) -> list[str]:
        """What a build of debian bookworm must be told to use it."""
        url = f"http://127.0.0.1:{self.server_address[1]}/archive"
        return [
            "--set", f"mirror.snapshot_url={url}/debian/{{snapshot}}",
            "--set", f"mirror.security.snapshot_url={url}/debian-security/{{snapshot}}",
        ]  # fmt: skip

    def locate(self, archive: str, rest: str) -> Path:
        """The kept file, fetched from the mirror when it is first asked for."""
        kept = self.kept / archive / urllib.parse.unquote(rest)
        with self._lock:
            if not kept.exists():
                mirror.download_to(f"{self.mirrors[archive]}/{rest}", kept)
        return kept


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Snapshots

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        found = _LAYOUT.fullmatch(self.path)
        if not found or ".." in self.path or found[2] < self.server.made:
            self._answer(404)
        elif found[2] > self.server.made:
            place = f"/archive/{found[1]}/{self.server.made}/{found[3]}"
            self._answer(302, headers={"Location": place})
        else:
            try:
                self._answer(200, self.server.locate(found[1], found[3]).read_bytes())
            except FileNotFoundError:
                self._answer(404)
            except ImagebuildError:
                self._answer(502)

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: `requests` is the log."""
