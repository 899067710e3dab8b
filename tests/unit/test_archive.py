"""Release files: fetched over HTTP, checked with a real key."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest

from imagebuild import archive
from imagebuild.digest import of_bytes
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.host.run import NETWORK_ENV
from tests.images.standin.sign import Key, keys

RELEASE = (
    b"Origin: Test\nSuite: stable\nCodename: bookworm\n"
    b"Date: Sat, 01 Mar 2025 10:00:00 UTC\nSHA256:\n"
)
DATE = 1740823200  # of RELEASE, in seconds since 1970

_BORN = datetime(2025, 1, 1, tzinfo=timezone.utc)
_SIGNED = datetime(2025, 3, 1, 10, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Signing:
    """A key's public half, binary and armored, and RELEASE signed by it."""

    fingerprint: str
    public: bytes
    armored: bytes
    in_release: bytes


def sign(key: Key) -> Signing:
    release = key.home / "Release"
    release.write_bytes(RELEASE)
    user = ["--local-user", key.fingerprint]
    return Signing(
        key.fingerprint,
        key.gpg("--export", key.fingerprint),
        key.gpg("--armor", "--export", key.fingerprint),
        key.gpg(*user, "--digest-algo", "SHA256", "--clearsign", "--output", "-", release),
    )


@contextmanager
def two_signings() -> Iterator[tuple[Signing, Signing]]:
    """Two keys of nobody's; the first has a subkey, as archives' keys have."""
    with keys(["Test archive", "Somebody else"], _BORN, _SIGNED) as (ours, other):
        ours.gpg(
            "--pinentry-mode", "loopback", "--passphrase", "",
            "--quick-add-key", ours.fingerprint, "ed25519", "sign", "never", when=_BORN,
        )  # fmt: skip
        yield sign(ours), sign(other)


class Files(http.server.ThreadingHTTPServer):
    """Serves `answers`, path -> (status, body), on a free loopback port."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        status, body = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Silent."""


@contextmanager
def serve(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    server = Files(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> str:
    """The URL of a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_ENV:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def signings() -> Iterator[tuple[Signing, Signing]]:
    with two_signings() as made:
        yield made


@pytest.fixture(scope="module")
def ours(signings: tuple[Signing, Signing]) -> Signing:
    return signings[0]


@pytest.fixture(scope="module")
def mirror(ours: Signing) -> Iterator[str]:
    with serve(
        {
            "/debian/dists/bookworm/InRelease": (200, ours.in_release),
            "/debian/dists/busy/InRelease": (503, b"later"),
            "/debian/dists/unsigned/InRelease": (200, RELEASE),
            "/debian/dists/altered/InRelease": (200, ours.in_release.replace(b"Test", b"Evil")),
        }
    ) as url:
        yield f"{url}/debian"


@pytest.fixture
def keyring(tmp_path: Path, ours: Signing) -> Path:
    path = tmp_path / "archive.gpg"
    path.write_bytes(ours.public)
    return path


@pytest.mark.parametrize("slash", ["", "/"])
def test_signed_suite(mirror: str, ours: Signing, keyring: Path, slash: str) -> None:
    suite = archive.read_suite(mirror + slash, "bookworm", keyring)
    assert suite == archive.Suite("bookworm", of_bytes(ours.in_release), DATE)


def test_armored_keyring(
    mirror: str, signings: tuple[Signing, Signing], ours: Signing, tmp_path: Path
) -> None:
    path = tmp_path / "archive.asc"
    path.write_bytes(ours.armored)
    assert archive.read_suite(mirror, "bookworm", path).date == DATE
    # Two keys, one block after the other, as key servers and `cat` give them.
    path.write_bytes(signings[1].armored + ours.armored)
    assert archive.read_suite(mirror, "bookworm", path).date == DATE
    assert archive.dearmor(ours.armored, "x") == ours.public


def test_keyring_that_did_not_sign(
    mirror: str, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    path = tmp_path / "other.gpg"
    path.write_bytes(signings[1].public)
    with pytest.raises(ConfigError) as caught:
        archive.read_suite(mirror, "bookworm", path)
    assert caught.value.what == "the archive is not signed by a key of the keyring"
    assert caught.value.where == f"{mirror}/dists/bookworm/InRelease (keyring {path})"
    assert "No public key" in caught.value.detail
    assert "--keyring FILE" in caught.value.hint


@pytest.mark.parametrize("suite", ["unsigned", "altered"])
def test_content_that_nobody_signed(mirror: str, keyring: Path, suite: str) -> None:
    with pytest.raises(ConfigError, match="not signed by a key of the keyring"):
        archive.read_suite(mirror, suite, keyring)


def test_missing_suite(mirror: str, keyring: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        archive.read_suite(mirror, "bokworm", keyring)
    assert caught.value.what == "the mirror has no suite 'bokworm'"
    assert caught.value.where == f"{mirror}/dists/bokworm/InRelease"
    assert caught.value.detail == "HTTP 404"
    assert caught.value.hint == "check mirror.url and mirror.suites"


def test_mirror_that_is_not_there(keyring: Path) -> None:
    url = closed_port()
    with pytest.raises(TemporaryError) as caught:
        archive.read_suite(url, "bookworm", keyring)
    assert caught.value.what == f"cannot reach the package mirror {url}"
    assert caught.value.where == f"{url}/dists/bookworm/InRelease"
    assert caught.value.detail == "[Errno 111] Connection refused"


def test_mirror_that_is_busy(mirror: str, keyring: Path) -> None:
    with pytest.raises(TemporaryError) as caught:
        archive.read_suite(mirror, "busy", keyring)
    assert caught.value.what == f"the package mirror {mirror} answers with HTTP 503"


def test_no_keyring(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        archive.check_signature(b"", tmp_path / "none.gpg", "here")
    assert caught.value.where == str(tmp_path / "none.gpg")
    assert "debian-archive-keyring" in caught.value.hint


def test_armor_around_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.asc"
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="no OpenPGP keyring"):
        archive.check_signature(b"", path, "here")


def test_a_proxy_s_password_stays_out_of_messages(
    keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in (
        f"http://me:hunter2@{closed_port().removeprefix('http://')}",
        "http://me:hunter2@[not-a-host",
        "http://me:hunter2@proxy.invalid:notaport",
    ):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(TemporaryError) as caught:
            archive.read_suite("http://mirror.invalid/debian", "bookworm", keyring)
        assert caught.value.what == "cannot reach the package mirror http://mirror.invalid/debian"
        assert "hunter2" not in str(caught.value.to_json())


def test_fingerprints_are_those_of_primary_keys(signings: tuple[Signing, Signing]) -> None:
    ours, other = signings
    assert archive.fingerprints(ours.armored) == [ours.fingerprint]
    both = archive.fingerprints(ours.public + other.public)
    assert both == [ours.fingerprint, other.fingerprint]
    assert archive.fingerprints(b"no key at all") == []
