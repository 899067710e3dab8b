"""TLS of one registry: a private CA, any certificate, a certificate of ours; and proxies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import read_manifest
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from imagebuild.registry.transport import Kind, NoAnswerError
from tests.registry.blobs import BLOB, DATA, TINY, Reader, connect, push_blobs
from tests.registry_server import LOOPBACK, RegistryServer
from tests.unit.registry_fake import Handler, serve


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("tls"), tls=LOOPBACK) as running:
        yield running


@pytest.fixture(scope="module")
def wrong_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Its certificate is for somebody else, by a CA that nobody knows."""
    with RegistryServer(tmp_path_factory.mktemp("wrong"), tls="DNS:example.org") as running:
        yield running


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Wants a client certificate."""
    directory = tmp_path_factory.mktemp("mutual")
    with RegistryServer(directory, tls=LOOPBACK, client_certificates=True) as running:
        yield running


def reference_of(server: RegistryServer) -> Reference:
    return Reference.parse(f"{server.host}/a/b:1")


def test_push_by_a_private_ca(tls: RegistryServer) -> None:
    reference = reference_of(tls)
    with connect(tls.host, ca=tls.ca) as client:
        push_blobs(client, reference, *TINY.blobs, DATA)
        client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
        assert client.get_manifest(reference).digest == TINY.digest
    assert tls.blob_file(BLOB.digest).read_bytes() == DATA


def test_any_certificate_is_for_one_registry_alone(
    wrong_name: RegistryServer, tls: RegistryServer
) -> None:
    insecure = RegistrySettings(wrong_name.host, insecure=True)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Client([insecure], environ={"HOME": "/nonexistent"}, first_wait=0) as client:
            reference = reference_of(wrong_name)
            push_blobs(client, reference, *TINY.blobs)
            client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
            assert client.tags(reference) == ["1"]
            with pytest.raises(PreflightError, match="certificate is not trusted"):
                client.head_manifest(reference_of(tls))
    assert [str(w.message) for w in warned] == []
    with connect(wrong_name.host, ca=wrong_name.ca) as client, pytest.raises(PreflightError):
        client.head_manifest(reference)


def test_insecure_registry_does_not_make_its_store_so(
    wrong_name: RegistryServer, tls: RegistryServer
) -> None:
    """A redirect leads to another server, whose certificate counts."""
    settings = RegistrySettings(wrong_name.host, insecure=True)
    with Client([settings], first_wait=0) as client:
        transport = client._exchange.server(reference_of(wrong_name)).host.transport
        assert transport.send("GET", f"https://{wrong_name.host}/v2/", headers={}).ok
        with pytest.raises(Exception, match="certificate"):
            transport.send("GET", f"https://{tls.host}/v2/", headers={})


def test_client_certificate(mutual: RegistryServer, tmp_path: Path) -> None:
    certificate, key = mutual.client_certificate
    reference = reference_of(mutual)
    with connect(
        mutual.host, ca=mutual.ca, client_certificate=certificate, client_key=key
    ) as client:
        client.push_blob(reference, BLOB, Reader())
        assert client.has_blob(reference, BLOB)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    with connect(mutual.host, ca=mutual.ca, client_certificate=both) as client:
        assert client.has_blob(reference, BLOB)


def test_client_certificate_where_docker_looks_for_it(
    mutual: RegistryServer, tmp_path: Path
) -> None:
    certificate, key = mutual.client_certificate
    there = tmp_path / mutual.host
    there.mkdir()
    for source, name in (mutual.ca, "ca.crt"), (certificate, "me.cert"), (key, "me.key"):
        (there / name).write_bytes(source.read_bytes())
    with Client(certs_d=tmp_path, environ={"HOME": "/nonexistent"}) as client:
        assert client.head_manifest(reference_of(mutual)) is None


def test_client_certificate_is_shown_to_its_registry_alone(
    mutual: RegistryServer, tls: RegistryServer
) -> None:
    """Not to where a registry leads, be the CA the same."""
    certificate, key = mutual.client_certificate
    with connect(tls.host, ca=mutual.ca, client_certificate=certificate, client_key=key) as client:
        transport = client._exchange.server(reference_of(tls)).host.transport
        with pytest.raises(NoAnswerError) as caught:
            transport.send("GET", f"https://{mutual.host}/v2/", headers={})
    assert caught.value.kind is Kind.CLIENT_CERTIFICATE


def test_client_certificate_that_is_missing(mutual: RegistryServer) -> None:
    with (
        connect(mutual.host, ca=mutual.ca) as client,
        pytest.raises(PreflightError, match="wants another client certificate") as caught,
    ):
        client.head_manifest(reference_of(mutual))
    assert "client_certificate" in caught.value.hint


def test_client_certificate_that_is_none(mutual: RegistryServer, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    with (
        connect(mutual.host, ca=mutual.ca, client_certificate=tmp_path / "a.pem") as client,
        pytest.raises(PreflightError, match="client certificate cannot be used") as caught,
    ):
        client.head_manifest(reference_of(mutual))
    assert str(tmp_path / "a.pem") in caught.value.where


def test_key_with_a_passphrase_is_not_asked_for(mutual: RegistryServer, tmp_path: Path) -> None:
    from imagebuild.host.run import run

    certificate, key = mutual.client_certificate
    locked = tmp_path / "locked.key"
    run(["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:abcdef", "-out", locked])
    with (
        connect(
            mutual.host, ca=mutual.ca, client_certificate=certificate, client_key=locked
        ) as client,
        pytest.raises(PreflightError, match="client certificate cannot be used") as caught,
    ):
        client.head_manifest(reference_of(mutual))
    assert "passphrase" in caught.value.hint


def test_bundle_of_the_environment_does_not_undo_insecure(
    wrong_name: RegistryServer, tls: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with Client([RegistrySettings(wrong_name.host, insecure=True)]) as client:
        reference = Reference.parse(f"{wrong_name.host}/nothing/here:1")
        assert client.head_manifest(reference) is None


def test_login_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as proxy:
        proxy.meddle = lambda h: h.answer(407)
        monkeypatch.setenv("http_proxy", f"http://me:hunter2@{proxy.host}")
        monkeypatch.setenv("https_proxy", f"http://me:hunter2@{proxy.host}")
        monkeypatch.setenv("no_proxy", "")
        for settings in (
            RegistrySettings("registry.example.org", plain_http=True),
            RegistrySettings("registry.example.org"),
        ):
            with Client([settings], environ={"HOME": "/nonexistent"}, first_wait=0) as client:
                with pytest.raises(PreflightError, match="a proxy wants a login") as caught:
                    client.head_manifest(Reference.parse("registry.example.org/a:1"))
                assert "hunter2" not in str(caught.value.to_json())
                assert "407" in caught.value.detail


def test_body_goes_through_a_proxy_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, bytes]] = []

    def registry(handler: Handler) -> bool:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        seen.append((handler.command, handler.path.partition("?")[0], body))
        place = {"Location": "http://registry.example.org/up"}
        return handler.answer(201 if handler.command == "PUT" else 202, **place)

    with serve() as proxy:
        proxy.meddle = registry
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        settings = RegistrySettings("registry.example.org", plain_http=True)
        with Client([settings], environ={"HOME": "/nonexistent"}) as client:
            client.push_blob(Reference.parse("registry.example.org/a:1"), BLOB, Reader())
    up = "http://registry.example.org/up"
    assert [(m, p) for m, p, _ in seen[1:]] == [("PATCH", up), ("PUT", up)]
    assert seen[1][2] == DATA


def test_cookies_are_not_kept() -> None:
    """With one, Harbor takes a client for a browser."""
    with serve() as registry:
        registry.meddle = lambda h: h.answer(404, Set_Cookie="sid=1; Path=/")
        with connect(registry.host) as client:
            for _ in range(2):
                assert client.head_manifest(Reference.parse(f"{registry.host}/a:1")) is None
        assert [h.get("Cookie") for _, _, h in registry.asked] == [None, None]
