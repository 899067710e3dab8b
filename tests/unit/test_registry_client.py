"""The registry client against servers that ask for logins, redirect, limit, cut and lie."""

from __future__ import annotations

import base64
import email.utils
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagebuild.errors import BuildError, ConfigError, PreflightError, TemporaryError
from imagebuild.events import Event, Note
from imagebuild.mirror.giveup import concerns_all
from imagebuild.registry import exchange
from imagebuild.registry.client import Client
from imagebuild.registry.credentials import NoLoginError
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings, is_loopback
from tests.container_images import image, layer, sha256
from tests.registry_server import LOOPBACK, RegistryServer
from tests.unit.registry_fake import Fake, Handler, noise, serve
from tests.unit.test_archive import closed_port

TINY = image([layer({"hello": b"hello"})])
PASSWORD = "hunter2"  # noqa: S105
OTHER = "hunter3"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serve() as running:
        running.add("trove/mysql", TINY, "8.4")
        yield running


def reference(fake: Fake | RegistryServer, version: str = ":8.4") -> Reference:
    return Reference.parse(f"{fake.host}/trove/mysql{version}")


def connect(fake: Fake, home: Path = Path("/nonexistent"), **settings: str) -> Client:
    registry = RegistrySettings(fake.host, plain_http=True, **settings)  # type: ignore[arg-type]
    return Client([registry], environ={"HOME": str(home)})


def blob_of(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", sha256(data), len(data))


def offer(fake: Fake, data: bytes) -> Descriptor:
    """A blob in the registry."""
    fake.content[f"/v2/trove/mysql/blobs/{sha256(data)}"] = ("text/plain", data)
    return blob_of(data)


# --- manifests ---


def test_head_says_what_a_tag_stands_for(fake: Fake) -> None:
    with connect(fake) as client:
        found = client.head_manifest(reference(fake))
        assert found == Descriptor(TINY.media_type, TINY.digest, len(TINY.manifest))
        assert client.head_manifest(reference(fake, ":9")) is None
    assert {method for method, *_ in fake.asked} == {"HEAD"}, "a GET costs pull quota"


def test_head_without_a_digest_becomes_a_get(fake: Fake) -> None:
    def meddle(handler: Handler) -> bool:
        if handler.command == "HEAD":
            handler.answer(200)
        return handler.command == "HEAD"

    fake.meddle = meddle
    with connect(fake) as client:
        found = client.head_manifest(reference(fake))
    assert found == Descriptor(TINY.media_type, TINY.digest, len(TINY.manifest))


def test_manifest_is_asked_for_by_digest_when_there_is_one(fake: Fake) -> None:
    with connect(fake) as client:
        manifest = client.get_manifest(reference(fake).at(TINY.digest))
    assert (manifest.data, manifest.digest) == (TINY.manifest, TINY.digest)
    assert fake.requests() == [f"GET /v2/trove/mysql/manifests/{TINY.digest}"]


def test_manifest_with_another_digest_is_refused(fake: Fake) -> None:
    asked = f"sha256:{'0' * 64}"
    fake.content[f"/v2/trove/mysql/manifests/{asked}"] = (TINY.media_type, TINY.manifest)
    with connect(fake) as client, pytest.raises(BuildError) as caught:
        client.get_manifest(reference(fake).at(asked))
    assert asked in caught.value.where
    assert TINY.digest in caught.value.detail


def test_manifest_that_has_no_end(fake: Fake) -> None:
    fake.content["/v2/trove/mysql/manifests/8.4"] = (TINY.media_type, b"[" * (5 << 20))
    with connect(fake) as client, pytest.raises(ConfigError, match="too large"):
        client.get_manifest(reference(fake))


def test_image_that_is_not_there(fake: Fake) -> None:
    with connect(fake) as client, pytest.raises(ConfigError) as caught:
        client.get_manifest(reference(fake, ":5.7"))
    for word in (f"registry {fake.host}", "repository trove/mysql", "tag 5.7"):
        assert word in caught.value.where
    assert "not here" in caught.value.detail


# --- what may pass ---


def test_server_that_recovers(fake: Fake) -> None:
    left = [503, 502]

    def meddle(handler: Handler) -> bool:
        if left:
            handler.answer(left.pop())
            return True
        return False

    fake.meddle = meddle
    with connect(fake) as client:
        assert client.get_manifest(reference(fake)).digest == TINY.digest
    assert len(fake.asked) == 3


def test_server_that_does_not_recover(fake: Fake) -> None:
    fake.meddle = lambda handler: handler.answer(503)
    with connect(fake) as client, pytest.raises(TemporaryError, match="fails") as caught:
        client.get_manifest(reference(fake))
    assert "HTTP 503" in caught.value.detail
    assert len(fake.asked) == 4


@pytest.mark.parametrize("as_date", [False, True])
def test_limit_is_waited_for_as_long_as_the_registry_says(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, as_date: bool
) -> None:
    waits: list[float] = []
    told: list[Event] = []
    after = email.utils.formatdate(time.time() + 30, usegmt=True) if as_date else "30"
    left = [429]

    def meddle(handler: Handler) -> bool:
        if left:
            handler.answer(left.pop(), Retry_After=after)
            return True
        return False

    fake.meddle = meddle
    registry = RegistrySettings(fake.host, plain_http=True)
    with Client([registry], environ={"HOME": "/nonexistent"}, emit=told.append) as client:
        monkeypatch.setattr(client._exchange.closed, "wait", waits.append)
        assert client.head_manifest(reference(fake))
    assert len(waits) == 1
    assert 28 <= waits[0] <= 30
    assert isinstance(told[0], Note)
    assert "HTTP 429" in told[0].text


def test_limit_of_hours_is_said_at_once(fake: Fake) -> None:
    fake.meddle = lambda handler: handler.answer(429, Retry_After="21600")
    with connect(fake) as client, pytest.raises(TemporaryError) as caught:
        client.head_manifest(reference(fake))
    assert "21600 s" in caught.value.detail
    assert "docker login" in caught.value.hint
    assert len(fake.asked) == 1


def test_registry_that_is_not_there() -> None:
    host = closed_port().removeprefix("http://")
    with (
        Client(environ={"HOME": "/nonexistent"}) as client,
        pytest.raises(TemporaryError) as caught,
    ):
        client.head_manifest(Reference.parse(f"{host}/a"))
    assert host in caught.value.where
    assert caught.value.detail == "Connection refused"


def test_close_ends_the_waiting_of_other_threads(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 30)
    fake.meddle = lambda handler: handler.answer(503)
    client = connect(fake)
    caught: list[Exception] = []

    def ask() -> None:
        try:
            client.head_manifest(reference(fake))
        except TemporaryError as exc:
            caught.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not fake.asked:
        time.sleep(0.01)
    client.close()
    thread.join(5)
    assert len(caught) == 1


@pytest.mark.parametrize("cuts", [3, 4])
def test_manifest_that_breaks_off_is_asked_for_again(fake: Fake, cuts: int) -> None:
    fake.meddle = lambda h: len(fake.asked) <= cuts and h.cut(b"{", 1000)
    with connect(fake) as client:
        if cuts == 3:
            assert client.get_manifest(reference(fake)).digest == TINY.digest
        else:
            with pytest.raises(TemporaryError, match="broke off"):
                client.get_manifest(reference(fake))
    assert len(fake.asked) == 4


# --- blobs ---


def test_cut_download_is_continued_where_it_broke(fake: Fake) -> None:
    data = noise(300_000)
    blob = offer(fake, data)
    at: list[int] = []

    def meddle(handler: Handler) -> bool:
        start = handler.start()
        at.append(start)
        if len(at) == 3:
            return False
        status = 206 if start else 200
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        handler.cut(data[start : start + 100_000], len(data) - start, status, Content_Range=span)
        return True

    fake.meddle = meddle
    with connect(fake) as client:
        assert b"".join(client.open_blob(reference(fake), blob)) == data
    assert at == [0, 100_000, 200_000]


def test_server_that_knows_no_ranges(fake: Fake) -> None:
    data = noise(600_000)
    blob = offer(fake, data)
    fake.meddle = lambda handler: handler.answer(200, data)
    with connect(fake) as client:
        assert b"".join(client.open_blob(reference(fake), blob, 500_000)) == data[500_000:]
    assert fake.asked[0][2]["Range"] == "bytes=500000-"


def test_server_that_answers_with_another_range(fake: Fake) -> None:
    data = noise(1000)
    blob = offer(fake, data)
    fake.meddle = lambda h: h.answer(206, data, Content_Range="bytes 0-999/1000")
    with connect(fake) as client, pytest.raises(BuildError, match="does not give"):
        list(client.open_blob(reference(fake), blob, 500))


def test_download_that_breaks_again_and_again(fake: Fake) -> None:
    blob = offer(fake, noise(1000))
    fake.meddle = lambda handler: handler.cut(b"", 1000)
    with connect(fake) as client, pytest.raises(TemporaryError) as caught:
        list(client.open_blob(reference(fake), blob))
    assert "after 0 of 1000 bytes" in caught.value.detail
    assert len(fake.asked) == 4


def test_blob_that_is_longer_than_it_should_be(fake: Fake) -> None:
    data = noise(1000)
    blob = offer(fake, data)
    fake.meddle = lambda handler: handler.answer(200, data + b"more")
    with connect(fake) as client, pytest.raises(BuildError, match="something else"):
        list(client.open_blob(reference(fake), blob))


def test_small_blob_with_another_digest(fake: Fake) -> None:
    blob = offer(fake, b"right")
    fake.meddle = lambda handler: handler.answer(200, b"wrong")
    with connect(fake) as client, pytest.raises(BuildError) as caught:
        client.get_blob(reference(fake), blob)
    assert sha256(b"wrong") in caught.value.detail


def test_small_blob_that_is_large(fake: Fake) -> None:
    with connect(fake) as client, pytest.raises(ConfigError, match="too large"):
        client.get_blob(reference(fake), Descriptor("x", sha256(b""), 1 << 30))
    assert not fake.asked


# --- logins ---


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class TokenServer:
    """Makes a registry want tokens, and gives them: each good for `uses` requests."""

    def __init__(self, fake: Fake, login: str = "", realm: str = "") -> None:
        self.fake = fake
        self.login = login
        self.realm = realm or f"{fake.url}/token"
        self.uses = 1000
        self.private = ""
        self.given: dict[str, int] = {}
        self.forms: list[str] = []
        fake.meddle = self.meddle

    def meddle(self, handler: Handler) -> bool:
        login = handler.headers.get("Authorization", "")
        if handler.path.startswith("/token"):
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            self.forms.append(body.decode())
            if self.login and login != self.login and not body:
                handler.answer(401)
                return True
            if self.private and self.private in handler.path:
                handler.answer(403)
                return True
            token = f"token{len(self.given)}"
            self.given[f"Bearer {token}"] = self.uses
            handler.answer(200, json.dumps({"token": token, "expires_in": 300}).encode())
            return True
        if self.given.get(login, 0) > 0:
            self.given[login] -= 1
            return False
        challenge = f'Bearer realm="{self.realm}",service="a, \\"b\\"",scope="x"'
        handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"token, please"}]}',
                       WWW_Authenticate=challenge)  # fmt: skip
        return True


def test_token_for_nobody_is_fetched_once(fake: Fake) -> None:
    TokenServer(fake)
    with connect(fake) as client:
        assert client.head_manifest(reference(fake))
        client.get_manifest(reference(fake))
    scope = "service=a%2C+%22b%22&scope=repository%3Atrove%2Fmysql%3Apull"
    assert fake.requests() == [
        "HEAD /v2/trove/mysql/manifests/8.4",
        f"GET /token?{scope}",
        "HEAD /v2/trove/mysql/manifests/8.4",
        "GET /v2/trove/mysql/manifests/8.4",
    ]
    assert "Authorization" not in fake.asked[1][2]


def test_token_that_has_expired_is_renewed(fake: Fake) -> None:
    tokens = TokenServer(fake)
    tokens.uses = 1
    with connect(fake) as client:
        for _ in range(3):
            assert client.head_manifest(reference(fake))
    assert len(tokens.given) == 3


def test_token_server_gets_the_login_and_the_registry_only_the_token(fake: Fake) -> None:
    TokenServer(fake, basic("me", PASSWORD))
    with connect(fake, username="me", password=PASSWORD) as client:
        assert client.head_manifest(reference(fake))
    for _, path, headers in fake.asked:
        login = headers.get("Authorization", "")
        assert login.startswith("Basic ") == path.startswith("/token")


def test_token_server_refuses_the_login(fake: Fake) -> None:
    TokenServer(fake, basic("me", PASSWORD))
    with (
        connect(fake, username="me", password=OTHER) as client,
        pytest.raises(PreflightError) as caught,
    ):
        client.head_manifest(reference(fake))
    assert "gives no token" in caught.value.what
    assert OTHER not in str(caught.value)
    assert concerns_all(caught.value)


@pytest.mark.parametrize("login", [{}, {"username": "me", "password": PASSWORD}])
def test_token_server_refuses_one_repository(fake: Fake, login: dict[str, Any]) -> None:
    """As GHCR does for what is private, or not there: the others may be asked for."""
    tokens = TokenServer(fake)
    tokens.private = "trove%2Fmysql"
    with connect(fake, **login) as client, pytest.raises(PreflightError) as caught:
        client.head_manifest(reference(fake))
    assert caught.value.where.startswith(f"{fake.host}/trove/mysql, token server")
    assert isinstance(caught.value, NoLoginError) == (not login)
    assert not concerns_all(caught.value)


def test_tokens_that_the_registry_never_takes(fake: Fake) -> None:
    TokenServer(fake).uses = 0
    with connect(fake) as client, pytest.raises(PreflightError) as caught:
        client.get_manifest(reference(fake))
    assert "UNAUTHORIZED: token, please" in caught.value.detail
    assert len(fake.requests("/token")) == 2


def test_refresh_token_goes_to_the_token_server_as_a_form(fake: Fake, tmp_path: Path) -> None:
    entry = {"auth": base64.b64encode(b"me:").decode(), "identitytoken": "r3fresh"}
    write_logins(tmp_path, {"auths": {fake.host: entry}})
    tokens = TokenServer(fake)
    with connect(fake, tmp_path) as client:
        assert client.head_manifest(reference(fake))
    assert "grant_type=refresh_token" in tokens.forms[0]
    assert "refresh_token=r3fresh" in tokens.forms[0]


def test_login_is_not_sent_to_a_token_server_in_clear(tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "r", tls=LOOPBACK) as server:
        registry = RegistrySettings(server.host, server.ca, username="me", password=PASSWORD)
        with Client([registry]) as client:
            authorizer = client._exchange.server(reference(server)).authorizer
            challenge = 'Bearer realm="http://tokens.example.org/",service="x"'
            with pytest.raises(PreflightError, match="without TLS"):
                authorizer.renew(challenge, "repository:a:pull", None)


def write_logins(home: Path, document: object) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with TLS and a login."""
    directory = tmp_path_factory.mktemp("closed")
    with RegistryServer(directory, tls=LOOPBACK, login=("me", PASSWORD)) as server:
        TINY.push(server, "trove/mysql", "8.4")
        yield server


def test_login_from_dockers_file(closed: RegistryServer, tmp_path: Path) -> None:
    auth = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    write_logins(tmp_path, {"auths": {closed.host: {"auth": auth}}})
    registry = RegistrySettings(closed.host, closed.ca)
    with Client([registry], environ={"HOME": str(tmp_path)}) as client:
        assert client.get_manifest(reference(closed)).data == TINY.manifest


def test_login_of_netrc_is_not_sent(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with connect(fake, tmp_path) as client:
        client.head_manifest(reference(fake))
    assert "Authorization" not in fake.asked[0][2]


@pytest.mark.parametrize("login", ["", OTHER])
def test_registry_that_wants_another_login(closed: RegistryServer, login: str) -> None:
    registry = RegistrySettings(
        closed.host, closed.ca, username="me" if login else "", password=login
    )
    with (
        Client([registry], environ={"HOME": "/nonexistent"}) as client,
        pytest.raises(PreflightError) as caught,
    ):
        client.head_manifest(reference(closed))
    if login:
        assert "logged in as me" in caught.value.detail
        assert login not in str(caught.value)
    else:
        assert "/nonexistent/.docker/config.json" in caught.value.detail
        assert "/nonexistent/.config/containers/auth.json" in caught.value.detail


# --- TLS ---


def test_registry_whose_ca_is_not_known(
    closed: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on loopback there is no way back to plain http or to any certificate."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with Client(certs_d=tmp_path) as client, pytest.raises(PreflightError) as caught:
        client.head_manifest(reference(closed))
    assert "certificate is not trusted" in caught.value.what
    assert f"certs.d/{closed.host}/ca.crt" in caught.value.hint


def test_ca_where_docker_looks_for_it(closed: RegistryServer, tmp_path: Path) -> None:
    (tmp_path / closed.host).mkdir()
    (tmp_path / closed.host / "ca.crt").write_bytes(closed.ca.read_bytes())
    registry = RegistrySettings(closed.host, username="me", password=PASSWORD)
    with Client([registry], certs_d=tmp_path) as client:
        assert client.head_manifest(reference(closed))


def test_bundle_of_the_environment_does_not_hide_the_registrys_ca(
    closed: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RegistryServer(tmp_path / "other", tls=LOOPBACK) as other:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca))
        registry = RegistrySettings(closed.host, closed.ca, username="me", password=PASSWORD)
        with Client([registry]) as client:
            assert client.head_manifest(reference(closed))
            # And the bundle counts, too.
            assert client.head_manifest(reference(other)) is None


def test_ca_that_is_none(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    registry = RegistrySettings(fake.host, tmp_path / "ca.pem")
    with Client([registry]) as client, pytest.raises(PreflightError) as caught:
        client.head_manifest(reference(fake))
    assert caught.value.where == str(tmp_path / "ca.pem")


def test_plain_http_of_loopback_is_found_out(tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "plain") as server:
        TINY.push(server, "trove/mysql", "8.4")
        with Client(certs_d=tmp_path) as client:
            assert client.head_manifest(reference(server))
        # Where a CA says that there is TLS, there is no other way.
        with RegistryServer(tmp_path / "tls", tls=LOOPBACK) as other:
            registry = RegistrySettings(server.host, other.ca)
            with Client([registry]) as client, pytest.raises(PreflightError, match="speak TLS"):
                client.head_manifest(reference(server))


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.1.2.3:5000", True), ("[::1]:1", True),
        ("[::1]", True), ("localhost.example.org", False), ("10.0.0.1:5000", False),
        ("quay.io", False), ("128.0.0.1", False),
    ],
)  # fmt: skip
def test_which_hosts_are_this_one(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


# --- proxies and redirects ---


def test_redirected_blob_gets_no_login(fake: Fake) -> None:
    data = noise(1000)
    blob = offer(fake, data)
    with serve() as store:
        store.content["/signed"] = ("text/plain", data)

        def meddle(handler: Handler) -> bool:
            if not handler.headers.get("Authorization"):
                handler.answer(401, WWW_Authenticate='Basic realm="x"')
            else:
                # Twice: within a host the login may stay.
                target = "/here" if handler.path != "/here" else f"{store.url}/signed?key=s3cret"
                handler.answer(307, Location=target)
            return True

        fake.meddle = meddle
        with connect(fake, username="me", password=PASSWORD) as client:
            assert b"".join(client.open_blob(reference(fake), blob, 100)) == data[100:]
            assert "Authorization" in fake.asked[-1][2]
            assert [path for _, path, _ in store.asked] == ["/signed?key=s3cret"]
            assert "Authorization" not in store.asked[0][2]
            assert store.asked[0][2]["Range"] == "bytes=100-"
            store.meddle = lambda handler: handler.answer(503)
            with pytest.raises(TemporaryError) as caught:
                client.get_blob(reference(fake), blob)
    assert store.host in caught.value.where
    assert "s3cret" not in str(caught.value)


def test_store_cannot_ask_for_the_login(fake: Fake) -> None:
    """Its challenge would name a token server of its own."""
    blob = offer(fake, noise(1000))
    with serve() as store:
        store.meddle = lambda h: h.answer(
            401, WWW_Authenticate=f'Bearer realm="{store.url}/token",service="x"'
        )
        fake.meddle = lambda h: h.answer(307, Location=f"{store.url}/signed")
        with (
            connect(fake, username="me", password=PASSWORD) as client,
            pytest.raises(PreflightError),
        ):
            client.get_blob(reference(fake), blob)
        assert [path for _, path, _ in store.asked] == ["/signed"]


def test_redirects_without_end(fake: Fake) -> None:
    fake.meddle = lambda handler: handler.answer(307, Location=handler.path)
    with connect(fake) as client, pytest.raises(TemporaryError) as caught:
        client.head_manifest(reference(fake))
    assert "too many redirects" in caught.value.detail


def test_proxy_is_used_but_not_for_this_host(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        with connect(fake) as client:
            assert client.head_manifest(reference(fake))
        assert not proxy.asked
        registry = RegistrySettings("registry.example.org", plain_http=True)
        with Client([registry], environ={"HOME": "/nonexistent"}) as client:
            assert client.head_manifest(Reference.parse("registry.example.org/a:1")) is None
    assert proxy.requests() == ["HEAD http://registry.example.org/v2/a/manifests/1"]


def test_threads_share_a_token(fake: Fake) -> None:
    tokens = TokenServer(fake)
    blobs = [offer(fake, noise(size)) for size in range(1000, 1010)]
    with connect(fake) as client, ThreadPoolExecutor(len(blobs)) as pool:
        found = list(pool.map(lambda blob: client.get_blob(reference(fake), blob), blobs))
    assert [len(data) for data in found] == list(range(1000, 1010))
    # Those that came first may all have been refused; one of them asked, for all.
    assert len(tokens.given) == 1
