"""Registries that want a login to be written to: tokens of a token server, and htpasswd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import read_manifest
from imagebuild.registry.reference import Reference
from tests.registry.blobs import BLOB, DATA, TINY, Reader, blob_of, connect, push_blobs
from tests.registry_proxy import UPLOADS, RegistryProxy
from tests.registry_server import RegistryServer
from tests.services.proxy import Answer, Call, Request, Rule
from tests.token_server import SERVICE, TokenServer

PASSWORD = "hunter2"  # noqa: S105
ME = {"username": "me", "password": PASSWORD}


@pytest.fixture(scope="module")
def shared_tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    directory = tmp_path_factory.mktemp("tokens")
    with TokenServer(directory, {"me": PASSWORD}, anonymous=("pull",)) as running:
        yield running


@pytest.fixture(scope="module")
def closed(
    shared_tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    directory = tmp_path_factory.mktemp("closed")
    with RegistryServer(directory, tokens=shared_tokens, deletes=True) as running:
        yield running


@pytest.fixture
def tokens(shared_tokens: TokenServer) -> TokenServer:
    shared_tokens.asked.clear()
    shared_tokens.anonymous, shared_tokens.denied = ("pull",), ()
    shared_tokens.hidden = ()
    shared_tokens.expired = 0
    return shared_tokens


def in_repository(host: str, name: str) -> Reference:
    return Reference.parse(f"{host}/{name}:1")


def test_scopes_that_each_step_asks_for(tokens: TokenServer, closed: RegistryServer) -> None:
    reference = in_repository(closed.host, "scopes/a")
    copy = in_repository(closed.host, "scopes/b")
    manifest = read_manifest(TINY.manifest, TINY.media_type, "test")
    with connect(closed.host, **ME) as client:
        push_blobs(client, reference, *TINY.blobs)
        assert tokens.scopes() == ["repository:scopes/a:pull,push"]
        client.put_manifest(reference, manifest)
        assert len(tokens.asked) == 1, "a token is used as long as it lasts"
        assert client.mount_blob(copy, blob_of(TINY.blobs[0]), "scopes/a")
        assert tokens.asked[-1].scopes == (
            "repository:scopes/b:pull,push", "repository:scopes/a:pull",
        )  # fmt: skip
        assert client.head_manifest(reference)
        assert tokens.scopes()[-1] == "repository:scopes/a:pull"
        assert client.delete_manifest(reference.at(manifest.digest))
        assert tokens.scopes()[-1] == "repository:scopes/a:delete"
    assert {a.user for a in tokens.asked} == {"me"}


def test_mount_from_a_repository_that_may_not_be_read(
    tokens: TokenServer, closed: RegistryServer
) -> None:
    """Then the bytes are sent; it is no error."""
    with connect(closed.host, **ME) as client:
        client.push_blob(in_repository(closed.host, "unread/a"), BLOB, Reader())
        tokens.hidden = ("unread/a",)
        copy = in_repository(closed.host, "unread/b")
        assert not client.mount_blob(copy, BLOB, "unread/a")
        assert client.push_blob(copy, BLOB, Reader()) == BLOB.size


def test_who_is_not_logged_in_reads_but_does_not_write(
    tokens: TokenServer, closed: RegistryServer
) -> None:
    assert tokens.anonymous == ("pull",)
    reference = in_repository(closed.host, "anonymous")
    reader = Reader()
    with connect(closed.host) as client:
        assert client.head_manifest(reference) is None
        with pytest.raises(PreflightError, match="wants a login") as caught:
            client.push_blob(reference, BLOB, reader)
    assert "/nonexistent/.docker/config.json" in caught.value.detail
    assert reader.times == 0, "nothing is read before the registry takes it"


def test_upload_is_cancelled_with_the_right_to_delete(
    tokens: TokenServer, closed: RegistryServer
) -> None:
    reference = in_repository(closed.host, "cancelled")
    with connect(closed.host, **ME) as client, pytest.raises(Exception, match="not what its"):
        client.push_blob(reference, blob_of(b"x" * BLOB.size), Reader())
    assert tokens.scopes()[-1] == "repository:cancelled:pull,push,delete"
    assert list(closed.data.glob("**/cancelled/_uploads/*/data")) == []


def test_token_that_ends_in_the_middle_of_an_upload(
    tokens: TokenServer, closed: RegistryServer
) -> None:
    """It is renewed, and the body is sent from its first byte on: never what is left of it."""
    challenge = f'Bearer realm="{tokens.realm}",service="{SERVICE}"'
    with RegistryProxy(closed) as proxy, connect(proxy.host, **ME) as client:
        reference = in_repository(proxy.host, "renewed")
        end = Answer(401, b"", (("WWW-Authenticate", challenge),), after=1_000_000)
        rule = proxy.add(Rule("PATCH", UPLOADS, end))
        reader = Reader()
        client.push_blob(reference, BLOB, reader)
        assert rule.hits == 1
        assert reader.times == 2
        assert client.has_blob(reference, BLOB)
        first, second = (r.headers["authorization"] for r in proxy.seen("PATCH"))
    assert first != second
    assert closed.blob_file(BLOB.digest).read_bytes() == DATA
    assert tokens.scopes().count("repository:renewed:pull,push") == 2


def test_token_that_has_ended_before_each_step(tokens: TokenServer, closed: RegistryServer) -> None:
    """A registry that forgets all tokens between two requests."""
    challenge = f'Bearer realm="{tokens.realm}",service="{SERVICE}"'
    seen: set[str] = set()

    def forget(request: Request) -> Answer | None:
        step = f"{request.method} {request.headers.get('authorization', '')[-20:]}"
        if step in seen:
            return None
        seen.add(step)
        first = sum(s.startswith(request.method) for s in seen) == 1
        return Answer(401, b"", (("WWW-Authenticate", challenge),)) if first else None

    with RegistryProxy(closed) as proxy, connect(proxy.host, **ME) as client:
        reference = in_repository(proxy.host, "forgetful")
        proxy.add(Rule("*", "", Call(forget), times=None))
        push_blobs(client, reference, *TINY.blobs)
        client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
        assert [r.status for r in proxy.seen("*", "/manifests/")] == [201]
        assert 401 in [r.status for r in proxy.seen("PUT")]
        assert client.get_manifest(reference).digest == TINY.digest


def test_token_that_has_ended_when_it_comes(tokens: TokenServer, closed: RegistryServer) -> None:
    tokens.expired = 1
    with connect(closed.host, **ME) as client:
        client.push_blob(in_repository(closed.host, "late"), BLOB, Reader())
    assert len(tokens.asked) == 2


def test_wrong_password_is_not_shown(tokens: TokenServer, closed: RegistryServer) -> None:
    with (
        connect(closed.host, username="me", password="hunter3") as client,  # noqa: S106
        pytest.raises(PreflightError, match="gives no token") as caught,
    ):
        client.push_blob(in_repository(closed.host, "wrong"), BLOB, Reader())
    assert "hunter3" not in f"{caught.value!s}{caught.value.hint}"
    assert tokens.asked[-1].status == 401


def test_who_may_not_write(tokens: TokenServer, closed: RegistryServer) -> None:
    tokens.denied = ("push",)
    with connect(closed.host, **ME) as client, pytest.raises(PreflightError) as caught:
        client.push_blob(in_repository(closed.host, "denied"), BLOB, Reader())
    assert "logged in as me" in caught.value.detail
    assert caught.value.what == "the registry refuses access"


def test_htpasswd(tmp_path: Path) -> None:
    with RegistryServer(tmp_path, login=("me", PASSWORD)) as server:
        reference = in_repository(server.host, "basic")
        with connect(server.host, **ME) as client:
            push_blobs(client, reference, *TINY.blobs, DATA)
            client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
            assert client.tags(reference) == ["1"]
            assert client.wants_login(server.host), "the client's own login does not count"
        with connect(server.host) as client, pytest.raises(PreflightError, match="wants a login"):
            client.push_blob(reference, BLOB, Reader())


def test_which_registries_want_a_login(
    tokens: TokenServer, closed: RegistryServer, server: RegistryServer
) -> None:
    with Client(environ={"HOME": "/nonexistent"}) as client:
        assert client.wants_login(server.host) is False
        # Tokens for all, as of Docker Hub: guests can pull.
        assert client.wants_login(closed.host) is False
        tokens.anonymous = ()
        assert client.wants_login(closed.host) is True


def test_store_of_the_blobs_does_not_see_the_token(
    tokens: TokenServer, closed: RegistryServer, tmp_path: Path
) -> None:
    """Blobs from and to another origin, as registries before S3 have it."""
    with (
        RegistryServer(tmp_path, data=closed.data) as opened,
        RegistryProxy(closed) as proxy,
        RegistryProxy(opened) as store,
        connect(proxy.host, **ME) as client,
    ):
        reference = in_repository(proxy.host, "stored")
        client.push_blob(reference, BLOB, Reader())
        proxy.redirect(store.url, "GET")
        proxy.redirect(store.url, "HEAD")
        assert client.has_blob(reference, BLOB)
        assert b"".join(client.open_blob(reference, BLOB)) == DATA
        assert [r.method for r in store.seen()] == ["HEAD", "GET"]
        assert not any("authorization" in r.headers for r in store.seen())
        assert all("s3cret" in r.path for r in store.seen())
        assert all("authorization" in r.headers for r in proxy.seen("GET", "/blobs/"))
    assert tokens.scopes() == ["repository:stored:pull,push", "repository:stored:pull"]
