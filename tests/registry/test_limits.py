"""How much is asked of a registry, and what is done when it is too much."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from imagebuild.errors import TemporaryError
from imagebuild.events import Event, Note
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from tests.registry.blobs import BLOB, Reader, blob_of, connect
from tests.registry_proxy import UPLOADS, RegistryProxy
from tests.services.proxy import Call, Delay, Request, Rule
from tests.unit.registry_fake import noise


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "HEAD"])
def test_limit_is_waited_for_in_every_step(
    client: Client, proxy: RegistryProxy, reference: Reference, method: str
) -> None:
    rule = proxy.limit(method, "/blobs/", retry_after="1")
    started = time.monotonic()
    assert not client.has_blob(reference, BLOB)
    client.push_blob(reference, BLOB, Reader())
    assert rule.hits == 1
    assert 0.9 < time.monotonic() - started < 5
    assert client.has_blob(reference, BLOB)


def test_all_threads_stand_back_when_one_is_told_to(
    proxy: RegistryProxy, reference: Reference
) -> None:
    told: list[Event] = []
    proxy.limit("HEAD", "/manifests/", retry_after="1")
    with connect(proxy.host, emit=told.append) as client:
        first = threading.Thread(target=client.head_manifest, args=(reference,))
        first.start()
        while not proxy.count("HEAD") or proxy.seen("HEAD")[0].finished is False:
            time.sleep(0.01)
        time.sleep(0.1)  # for the answer to be read
        threads = [
            threading.Thread(target=client.has_blob, args=(reference, BLOB)) for _ in range(4)
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in (first, *threads):
            thread.join()
        assert time.monotonic() - started > 0.5
    assert proxy.count("HEAD") == 6
    assert told == [], "a second is not worth a word"


def test_wait_of_all_threads_is_told_once(proxy: RegistryProxy, reference: Reference) -> None:
    told: list[Event] = []
    proxy.limit("HEAD", "/manifests/", retry_after="6")
    with connect(proxy.host, emit=told.append) as client:

        def ask() -> None:
            with contextlib.suppress(TemporaryError):
                client.head_manifest(reference)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while not told:
            time.sleep(0.01)
        client.close()
        for thread in threads:
            thread.join()
    assert [e.text for e in told if isinstance(e, Note)] == [
        f"http://{proxy.host}: HTTP 429; trying again in 6 s"
    ]


def test_requests_per_second_are_kept_to(proxy: RegistryProxy, reference: Reference) -> None:
    settings = RegistrySettings(proxy.host, plain_http=True, requests_per_second=20)
    with Client([settings]) as client:
        started = time.monotonic()
        threads = [
            threading.Thread(target=client.has_blob, args=(reference, BLOB)) for _ in range(11)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - started >= 0.5
    assert proxy.count("HEAD") == 11


def test_transfers_at_a_time(proxy: RegistryProxy, reference: Reference) -> None:
    """Two at a time, though six threads send; and a source in the same registry is no dead-lock."""
    settings = RegistrySettings(proxy.host, plain_http=True, concurrency=2)
    running: list[int] = [0, 0]
    lock = threading.Lock()
    blobs = [noise(300_000 + n) for n in range(6)]

    def count(_: Request) -> Delay:
        with lock:
            running[0] += 1
            running[1] = max(running)
        return Delay(0.1)

    with Client([settings]) as client:

        def send(data: bytes) -> None:
            blob = blob_of(data)
            client.push_blob(reference, blob, Reader(data))
            source = client.open_blob
            target = Reference(reference.registry, f"{reference.repository}-copy", "1")

            def read(start: int) -> Iterator[bytes]:
                yield from source(reference, blob, start)

            client.push_blob(target, blob, read)

        proxy.add(Rule("PATCH", UPLOADS, Call(count), times=None))
        done = Rule("PUT", UPLOADS, Call(lambda _: _less(running, lock)), times=None)
        proxy.add(done)
        threads = [threading.Thread(target=send, args=(b,), daemon=True) for b in blobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(t.is_alive() for t in threads)
    assert done.hits == 12
    assert running[1] == 2


def _less(running: list[int], lock: threading.Lock) -> None:
    with lock:
        running[0] -= 1


def test_quota_is_told_and_named_when_it_is_used_up(
    proxy: RegistryProxy, reference: Reference
) -> None:
    told: list[Event] = []
    left = [("RateLimit-Limit", "100;w=21600"), ("RateLimit-Remaining", "0;w=21600")]
    proxy.limit("HEAD", "/manifests/", retry_after="7200", headers=tuple(left))
    with connect(proxy.host, emit=told.append) as client:
        assert not client.quotas
        with pytest.raises(TemporaryError) as caught:
            client.head_manifest(reference)
        assert client.quotas == ((proxy.host, 0, 100),)
    assert "0 of 100 pulls in 6 h are left" in caught.value.detail
    assert [e.text for e in told if isinstance(e, Note)] == [
        f"http://{proxy.host}: 0 of 100 pulls in 6 h are left"
    ]
