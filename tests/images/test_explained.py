"""Real builds that fail on their way: the error says why, and ends with the right code.

The mirror is good while the plan is made, and not afterwards.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.test_archive import Signing, two_signings

pytestmark = pytest.mark.image


class _Fickle(http.server.ThreadingHTTPServer):
    """Serves one InRelease to whoever asks first; then `later` happens."""

    daemon_threads = True

    def __init__(self, first: bytes, later: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [first]
        self.later = later
        self.url = f"http://127.0.0.1:{self.server_address[1]}/debian"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Fickle

    def do_GET(self) -> None:
        body = self.server.answers.pop() if self.server.answers else self.server.later
        assert body is not None
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.server.later is None:
            threading.Thread(target=self.server.shutdown).start()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Silent."""


@contextmanager
def mirror(first: bytes, later: bytes | None) -> Iterator[str]:
    """The mirror's URL. Without `later` nobody listens there after the first answer."""
    server = _Fickle(first, later)

    def serve() -> None:
        server.serve_forever(0.02)
        server.server_close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()


Build = Callable[[str, bytes], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def run(url: str, keyring: bytes) -> subprocess.CompletedProcess[str]:
        key = tmp_path / "mirror.gpg"
        key.write_bytes(keyring)
        return subprocess.run(
            [sys.executable, "-m", "imagebuild", "build", "debian", "bookworm",
             "--mirror", url, "--keyring", key, "--set", "mirror.suites=[bookworm]",
             "--set", "mirror.security=null", "--cache-dir", tmp_path / "cache",
             "--images-dir", tmp_path / "images"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def signings() -> Iterator[tuple[Signing, Signing]]:
    with two_signings() as made:
        yield made


def test_a_mirror_that_goes_away_is_worth_another_try(
    signings: tuple[Signing, Signing], build: Build
) -> None:
    ours, _ = signings
    with mirror(ours.in_release, None) as url:
        done = build(url, ours.public)
    host = url.split("/")[2]
    assert done.returncode == 75, done.stderr
    assert "error: element debootstrap: hook root.d/08-debootstrap failed\n" in done.stderr
    assert f"  cause: the package mirror {host} cannot be reached\n" in done.stderr
    assert f"  try: curl -sI http://{host}/" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mirror_that_changes_its_key_is_not(
    signings: tuple[Signing, Signing], build: Build
) -> None:
    ours, other = signings
    with mirror(ours.in_release, other.in_release) as url:
        done = build(url, ours.public)
    assert done.returncode == 1, done.stderr
    assert f"  cause: the archive is signed with key {other.fingerprint[-16:]}, " in done.stderr
    assert "  try: imagebuild build … --keyring FILE" in done.stderr
    assert "Traceback" not in done.stderr
