"""Blobs into a real registry, through a proxy that does not always let them."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, PreflightError, PublishError, TemporaryError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.push import Upload
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from tests.container_images import sha256
from tests.registry.blobs import BLOB, DATA, TINY, Reader, blob_of, connect
from tests.registry_proxy import BLOBS, UPLOADS, RegistryProxy
from tests.registry_server import LOOPBACK, RegistryServer
from tests.services.proxy import Answer, Call, CutRequest, Request, Rule
from tests.unit.registry_fake import Handler, noise, serve


def kept(server: RegistryServer, reference: Reference) -> list[Path]:
    """Bytes of uploads that the registry holds still."""
    found = server.data.glob(f"**/{reference.repository}/_uploads/*/data")
    return list(found)


def test_blob_is_sent_in_one_piece_with_its_length(
    client: Client, proxy: RegistryProxy, reference: Reference, server: RegistryServer
) -> None:
    told: list[int] = []
    assert not client.has_blob(reference, BLOB)
    assert client.push_blob(reference, BLOB, Reader(), told.append) == BLOB.size
    assert client.has_blob(reference, BLOB)
    assert server.blob_file(BLOB.digest).read_bytes() == DATA
    (patch,) = proxy.seen("PATCH")
    assert patch.headers["content-length"] == str(BLOB.size)
    assert "transfer-encoding" not in patch.headers
    assert proxy.counts() == {
        "HEAD blob": 2, "POST upload": 1, "PATCH upload": 1, "PUT upload": 1,
    }  # fmt: skip
    assert client.request_counts == {"HEAD": 2, "POST": 1, "PATCH": 1, "PUT": 1}
    assert told == sorted(told)
    assert told[-1] == BLOB.size


def test_blob_of_no_bytes(client: Client, proxy: RegistryProxy, reference: Reference) -> None:
    empty = Descriptor("x", sha256(b""), 0)
    assert client.push_blob(reference, empty, Reader(b"")) == 0
    assert client.has_blob(reference, empty)
    assert proxy.count("PATCH") == 0
    assert not any("transfer-encoding" in r.headers for r in proxy.seen())


def test_blob_of_another_size_is_not_the_blob(client: Client, reference: Reference) -> None:
    client.push_blob(reference, BLOB, Reader())
    assert not client.has_blob(reference, Descriptor("x", BLOB.digest, BLOB.size + 1))


def test_memory_does_not_grow_with_the_blob(client: Client, reference: Reference) -> None:
    block = b"\0" * (1 << 18)
    size = 64 << 20
    blob = Descriptor("x", f"sha256:{'0' * 64}", size)
    tracemalloc.start()
    with pytest.raises(BuildError, match="not what its digest says"):
        client.push_blob(reference, blob, lambda _: (block for _ in range(size // len(block))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (Descriptor("x", sha256(DATA + b"!"), BLOB.size + 1), "it is shorter"),
        (Descriptor("x", sha256(DATA[:-1]), BLOB.size - 1), "it is longer"),
        (Descriptor("x", sha256(b"other"), BLOB.size), f"it is {BLOB.digest}"),
    ],
)
def test_bytes_that_are_not_the_blob_never_become_one(
    client: Client, proxy: RegistryProxy, reference: Reference, blob: Descriptor, why: str
) -> None:
    reader = Reader()
    with pytest.raises(BuildError) as caught:
        client.push_blob(reference, blob, reader)
    assert why in caught.value.detail
    assert reader.times == 1, "the same bytes would come again"
    assert proxy.count("PUT") == 0
    assert proxy.count("DELETE", UPLOADS) == 1
    assert not client.has_blob(reference, blob)


def test_cancelled_upload_leaves_no_bytes(
    client: Client, reference: Reference, server: RegistryServer
) -> None:
    with pytest.raises(BuildError):
        client.push_blob(reference, Descriptor("x", sha256(b"other"), BLOB.size), Reader())
    assert kept(server, reference) == []


class OwnError(OSError):
    """An error of the side that gives the bytes."""


def test_error_of_the_source_comes_out_as_it_is(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    def read(start: int) -> Iterator[bytes]:
        yield DATA[start:2_000_000]
        raise OwnError("the disk")

    with pytest.raises(OwnError, match="the disk"):
        client.push_blob(reference, BLOB, read)
    assert proxy.counts() == {"POST upload": 1, "PATCH upload": 1, "DELETE upload": 1}


def test_source_is_closed_when_the_target_fails(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    """What it holds, a connection say, does not wait for the garbage collector."""
    open_ones: list[int] = []
    held: list[Iterator[bytes]] = []

    def blocks(start: int) -> Iterator[bytes]:
        open_ones.append(1)
        try:
            yield from Reader()(start)
        finally:
            open_ones.pop()

    def read(start: int) -> Iterator[bytes]:
        held.append(blocks(start))
        return held[-1]

    proxy.fail("PATCH", status=403)
    with pytest.raises(PreflightError, match="refuses access"):
        client.push_blob(reference, BLOB, read)
    assert open_ones == []


@pytest.mark.parametrize(
    "fault",
    [
        lambda p: p.cut_upload(after=1_000_000),
        lambda p: p.cut_upload(after=0, times=3),
        lambda p: p.lose_answer("PATCH", UPLOADS),
        lambda p: p.fail("PATCH", status=502),
        lambda p: p.fail("PATCH", status=404),
        lambda p: p.corrupt_upload(at=1_234_567),
        lambda p: p.fail("PUT", status=404),
    ],
    ids=["cut", "cut-thrice", "lost", "502", "404", "corrupt", "put-404"],
)
def test_upload_that_breaks_is_begun_anew(
    client: Client,
    proxy: RegistryProxy,
    reference: Reference,
    server: RegistryServer,
    fault: Callable[[RegistryProxy], Rule],
) -> None:
    rule = fault(proxy)
    reader = Reader()
    sent = client.push_blob(reference, BLOB, reader)
    assert rule.hits >= 1
    assert reader.times == rule.hits + 1, "each attempt has the bytes from the first on"
    assert proxy.count("POST", UPLOADS) == rule.hits + 1
    assert sent > BLOB.size or rule.action.__class__.__name__ == "CutRequest"
    assert client.has_blob(reference, BLOB)
    assert server.blob_file(BLOB.digest).read_bytes() == DATA


def test_answer_that_was_lost_is_not_asked_for_again(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    """The registry has the blob: a second upload would cost its bytes once more."""
    proxy.lose_answer("PUT", UPLOADS)
    assert client.push_blob(reference, BLOB, Reader()) == BLOB.size
    assert proxy.count("PATCH") == 1


def test_registry_that_gets_other_bytes_each_time(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    proxy.corrupt_upload(at=5, times=None)
    with pytest.raises(PublishError) as caught:
        client.push_blob(reference, BLOB, Reader())
    assert "DIGEST_INVALID" in caught.value.detail
    assert BLOB.digest in caught.value.what
    assert not client.has_blob(reference, BLOB)


def test_registry_whose_storage_fails(
    client: Client, reference: Reference, server: RegistryServer
) -> None:
    """Its disk is full, say: what it tells of that is passed on."""
    TINY.push(server, "makes-the-directory", "1")
    place = server.data / "docker/registry/v2/repositories" / reference.repository
    place.write_text("where a directory should be")
    with pytest.raises(TemporaryError, match="the registry fails") as caught:
        client.push_blob(reference, BLOB, Reader())
    assert "HTTP 500" in caught.value.detail
    assert f"/{reference.repository}" in caught.value.detail, "the path that it cannot write"


def test_registry_that_fails_in_the_middle(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    body = b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Err":28}}]}'
    proxy.fail("PATCH", status=500, body=body, times=None)
    with pytest.raises(TemporaryError) as caught:
        client.push_blob(reference, BLOB, Reader())
    assert caught.value.detail == 'HTTP 500\nUNKNOWN: unknown error; {"Err": 28}'
    assert proxy.count("PATCH") == 4


def test_registry_that_cuts_each_time(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    proxy.cut_upload(after=1000, times=None)
    with pytest.raises(TemporaryError) as caught:
        client.push_blob(reference, BLOB, Reader())
    assert proxy.host in caught.value.where
    assert proxy.count("PATCH") == 4


@pytest.mark.parametrize("says_why", [True, False])
def test_body_that_is_too_large_goes_in_pieces(
    client: Client,
    proxy: RegistryProxy,
    reference: Reference,
    server: RegistryServer,
    says_why: bool,
) -> None:
    """A proxy that limits bodies answers 413, or hangs up on what is too large for it."""
    data = noise(40 << 20) + (b"1" if says_why else b"2")
    blob = blob_of(data)
    limit = 20 << 20

    def check(request: Request) -> Answer | CutRequest | None:
        large = int(request.headers.get("content-length", "0")) > limit
        refusal = Answer(413) if says_why else CutRequest(after=1_000_000)
        return refusal if large else None

    proxy.add(Rule("PATCH", UPLOADS, Call(check), times=None))
    client.push_blob(reference, blob, Reader(data, 1_000_000))
    assert server.blob_file(blob.digest).read_bytes() == data
    whole = [None] if says_why else [None, None]
    pieces = [r.headers.get("content-range") for r in proxy.seen("PATCH")]
    assert pieces == [*whole, "0-16777215", "16777216-33554431", "33554432-41943040"]


def test_upload_that_is_sent_to_another_place(
    client: Client, proxy: RegistryProxy, server: RegistryServer, reference: Reference
) -> None:
    with RegistryProxy(server) as store:
        proxy.redirect(store.url, "PATCH", UPLOADS)
        reader = Reader()
        client.push_blob(reference, BLOB, reader)
        assert reader.times == 2
        assert store.bytes_in("PATCH") == BLOB.size
    assert client.has_blob(reference, BLOB)


def test_login_stays_with_the_registry_when_uploads_go_elsewhere() -> None:
    """The place of an upload: another host, a query of its own, a path without a host."""
    data = noise(1000)
    blob = Descriptor("x", sha256(data), len(data))
    with serve() as fake, serve() as store:
        uploads = "/v2/a/blobs/uploads/"
        store_asked: list[tuple[str, str]] = []

        def registry(handler: Handler) -> bool:
            if not handler.headers.get("Authorization"):
                return handler.answer(401, WWW_Authenticate='Basic realm="x"')
            if handler.command == "POST":
                return handler.answer(202, Location=f"{store.url}/up?key=s3cret")
            return False

        def elsewhere(handler: Handler) -> bool:
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            store_asked.append((handler.command, handler.path))
            if handler.command == "PATCH":
                return handler.answer(202, Location="/up?key=s3cret&at=1000")
            return handler.answer(201)

        fake.meddle, store.meddle = registry, elsewhere
        settings = RegistrySettings(fake.host, plain_http=True, username="me", password="hunter2")  # noqa: S106
        with Client([settings]) as client:
            client.push_blob(Reference.parse(f"{fake.host}/a:1"), blob, Reader(data))
        assert fake.requests() == [f"POST {uploads}"] * 2
        assert store_asked == [
            ("PATCH", "/up?key=s3cret"),
            ("PUT", f"/up?key=s3cret&at=1000&digest={blob.digest}"),
        ]
        assert not any("Authorization" in headers for _, _, headers in store.asked)


def test_uploads_are_never_sent_without_tls_that_was_there(tmp_path: Path) -> None:
    with (
        RegistryServer(tmp_path, tls=LOOPBACK) as tls,
        connect(tls.host, ca=tls.ca) as client,
    ):
        reference = Reference.parse(f"{tls.host}/a:1")
        exchange = client._exchange
        upload = Upload(exchange, reference, BLOB, Reader(), None)
        answer = exchange.request("POST", reference, "blobs/uploads/", actions="pull,push")
        with answer, pytest.raises(PreflightError, match="without TLS"):
            upload._place(answer, f"http://{tls.host}/v2/a/blobs/uploads/1?_state=s3cret")


def test_registry_that_names_another_digest(proxy: RegistryProxy, reference: Reference) -> None:
    other = f"sha256:{'1' * 64}"
    proxy.fail("PUT", UPLOADS, status=201, headers=(("Docker-Content-Digest", other),))
    with connect(proxy.host) as client, pytest.raises(BuildError) as caught:
        client.push_blob(reference, BLOB, Reader())
    assert other in caught.value.detail


def test_close_ends_an_upload(proxy: RegistryProxy, reference: Reference) -> None:
    proxy.slow(200_000, "PATCH", UPLOADS)
    caught: list[Exception] = []
    begun = threading.Event()
    client = connect(proxy.host)

    def send() -> None:
        try:
            client.push_blob(reference, BLOB, Reader(), lambda _: begun.set())
        except TemporaryError as exc:
            caught.append(exc)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    assert begun.wait(10)
    client.close()
    thread.join(10)
    assert [e.what for e in caught if isinstance(e, TemporaryError)] == [
        "the registry is no longer asked"
    ]
    assert proxy.count("PUT") == 0
    assert proxy.count("DELETE", UPLOADS) == 1


# --- mounts ---


def test_blob_is_mounted_without_its_bytes(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    source = Reference(reference.registry, f"{reference.repository}-source", "1")
    client.push_blob(source, BLOB, Reader())
    proxy.reset()
    assert client.mount_blob(reference, BLOB, source.repository)
    assert client.has_blob(reference, BLOB)
    assert proxy.count("PATCH") == 0


def test_blob_that_cannot_be_mounted(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    unknown = Descriptor("x", sha256(b"nobody has this"), 15)
    assert not client.mount_blob(reference, unknown, "not/there")
    # What the registry has begun in its place is ended.
    assert proxy.counts() == {"POST upload": 1, "DELETE upload": 1}
    proxy.fail("POST", UPLOADS, status=403)
    assert not client.mount_blob(reference, unknown, "not/there")


# --- downloads ---


def test_download_is_continued_and_its_bytes_counted_once(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    client.push_blob(reference, BLOB, Reader())
    proxy.reset()
    proxy.cut_download(after=1_500_000)
    assert b"".join(client.open_blob(reference, BLOB)) == DATA
    assert proxy.count("GET", BLOBS) == 2
