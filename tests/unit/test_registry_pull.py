"""Images resolved and pulled: from a real registry, and from one that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, ConfigError, PreflightError, TemporaryError
from imagebuild.registry import exchange
from imagebuild.registry import pull as pull_module
from imagebuild.registry.client import Client
from imagebuild.registry.layout import Layout
from imagebuild.registry.pull import Resolved, pull, resolve
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from tests.container_images import DOCKER, OCI, attestation, image, index, layer, sha256
from tests.registry_server import LOOPBACK, RegistryServer
from tests.unit.registry_fake import Fake, Handler, noise, serve

BASE = layer({"base": noise(50_000)})
SMALL, TOP = layer({"small": b"s"}), layer({"top": noise(9_000)})
AMD64 = image([BASE, SMALL, TOP, SMALL], kinds=OCI, labels={"version": "8.4"})
ARM64 = image([TOP], "arm64", variant="v8", kinds=OCI)
INDEX = index(attestation(AMD64), ARM64, AMD64, attestation(ARM64))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry"), tls=LOOPBACK) as running:
        INDEX.push(running, "trove/mysql", "8.4")
        image([BASE], kinds=DOCKER).push(running, "trove/mysql", "plain")
        index(image([BASE], kinds=DOCKER), image([TOP], "arm64", kinds=DOCKER), kinds=DOCKER).push(
            running, "trove/mysql", "list"
        )
        yield running


@pytest.fixture
def client(server: RegistryServer, tmp_path: Path) -> Iterator[Client]:
    settings = RegistrySettings(server.host, server.ca)
    with Client([settings], environ={"HOME": str(tmp_path)}) as made:
        yield made


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serve() as running:
        running.add("trove/mysql", INDEX, "8.4")
        yield running


@pytest.fixture
def faked(fake: Fake, tmp_path: Path) -> Iterator[Client]:
    settings = RegistrySettings(fake.host, plain_http=True)
    with Client([settings], environ={"HOME": str(tmp_path)}) as made:
        yield made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def name(server: RegistryServer | Fake, tag: str = "8.4") -> Reference:
    return Reference.parse(f"{server.host}/trove/mysql:{tag}")


def test_image_of_an_index(server: RegistryServer, client: Client) -> None:
    resolved = resolve(client, name(server), "amd64")
    assert resolved.target.digest == INDEX.digest
    assert resolved.manifest.digest == AMD64.digest
    assert [d.digest for d in resolved.layers] == [sha256(x) for x in (BASE, SMALL, TOP, SMALL)]
    sizes = {len(x) for x in (*AMD64.blobs,)}
    assert resolved.total_bytes == sum(sizes), "a layer that is there twice is fetched once"
    assert resolve(client, name(server), "arm64").manifest.digest == ARM64.digest
    again = Resolved.from_json(json.loads(json.dumps(resolved.to_json())))
    assert again == resolved


@pytest.mark.parametrize("tag", ["plain", "list"])
def test_image_as_docker_pushes_it(
    server: RegistryServer, client: Client, layout: Layout, tag: str
) -> None:
    resolved = resolve(client, name(server, tag), "amd64")
    assert resolved.manifest.media_type == DOCKER["manifest"]
    assert (resolved.target == resolved.manifest) is (tag == "plain")
    pulled = pull(client, resolved, layout)
    assert [p.read_bytes() for p in pulled.layers] == [BASE]


def test_pulled_image_is_byte_for_byte_the_registrys(
    server: RegistryServer, client: Client, layout: Layout
) -> None:
    told: list[tuple[int, int]] = []
    resolved = resolve(client, name(server), "amd64")
    thread = threading.current_thread()

    def progress(there: int, total: int) -> None:
        assert threading.current_thread() is thread
        told.append((there, total))

    pulled = pull(client, resolved, layout, progress=progress)
    assert pulled.manifest == AMD64.manifest
    assert pulled.config == AMD64.blobs[0]
    assert [p.read_bytes() for p in pulled.layers] == [BASE, SMALL, TOP, SMALL]
    assert len(pulled.image.diff_ids) == 4
    assert pulled.image.labels == {"version": "8.4"}
    assert told[-1] == (resolved.total_bytes, resolved.total_bytes)
    assert [there for there, _ in told] == sorted(there for there, _ in told)
    assert not list((layout.root / "ingest").iterdir())


def test_only_the_guests_platform_is_fetched(
    fake: Fake, faked: Client, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "_AT_ONCE", 1)
    pull(faked, resolve(faked, name(fake), "amd64", layout=layout), layout)
    blobs = [path.rpartition("/")[2] for path in fake.requests("/blobs/")]
    # resolve wants the configuration; of the rest each once, the biggest first.
    assert blobs == [sha256(x) for x in (AMD64.blobs[0], BASE, TOP, SMALL)]


def test_image_that_has_not_changed_costs_one_head(
    fake: Fake, faked: Client, layout: Layout
) -> None:
    first = resolve(faked, name(fake), "amd64", layout=layout)
    pull(faked, first, layout)
    fake.asked.clear()
    again = resolve(faked, name(fake), "amd64", layout=layout)
    assert again == first
    pull(faked, again, layout)
    assert fake.requests() == ["HEAD /v2/trove/mysql/manifests/8.4"]


def test_tag_that_moves_between_resolve_and_pull(fake: Fake, faked: Client, layout: Layout) -> None:
    resolved = resolve(faked, name(fake), "amd64")
    fake.add("trove/mysql", ARM64, "8.4")
    assert pull(faked, resolved, layout).manifest == AMD64.manifest


def test_digest_counts_and_not_the_tag(fake: Fake, faked: Client) -> None:
    resolved = resolve(faked, name(fake).at(ARM64.digest), "arm64")
    assert resolved.target.digest == ARM64.digest
    assert fake.requests("manifests") == [f"GET /v2/trove/mysql/manifests/{ARM64.digest}"]


def test_image_of_another_architecture(fake: Fake, faked: Client) -> None:
    fake.add("trove/mysql", ARM64, "arm")
    with pytest.raises(ConfigError) as caught:
        resolve(faked, name(fake, "arm"), "amd64")
    assert caught.value.detail == "there is: linux/arm64/v8"
    with pytest.raises(ConfigError) as caught:
        resolve(faked, name(fake), "s390x")
    assert caught.value.detail == "there are: linux/amd64, linux/arm64/v8"


def test_tag_that_is_not_there(server: RegistryServer, client: Client) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(client, name(server, "5.7"), "amd64")
    assert "tag 5.7" in caught.value.where
    assert "MANIFEST_UNKNOWN" in caught.value.detail


def test_configuration_with_too_few_layers(fake: Fake, faked: Client) -> None:
    bad = image([BASE, TOP], rootfs={"type": "layers", "diff_ids": [sha256(b"")]})
    fake.add("trove/mysql", bad, "bad")
    with pytest.raises(ConfigError, match="do not fit together"):
        resolve(faked, name(fake, "bad"), "amd64")


def test_damaged_blob_on_disk_is_fetched_again(
    server: RegistryServer, client: Client, layout: Layout
) -> None:
    resolved = resolve(client, name(server), "amd64")
    for damaged in pull(client, resolved, layout).layers[:2]:
        damaged.write_bytes(b"!" * damaged.stat().st_size)
    pulled = pull(client, resolved, layout)
    assert [p.read_bytes() for p in pulled.layers] == [BASE, SMALL, TOP, SMALL]


def test_blob_that_the_registry_has_damaged(tmp_path: Path, layout: Layout) -> None:
    with RegistryServer(tmp_path / "registry") as server:
        AMD64.push(server, "trove/mysql", "8.4")
        kept = server.blob_file(sha256(TOP))
        kept.write_bytes(b"!" * kept.stat().st_size)
        with Client(environ={"HOME": str(tmp_path)}) as client:
            resolved = resolve(client, name(server), "amd64")
            with pytest.raises(BuildError) as caught:
                pull(client, resolved, layout)
    assert sha256(TOP) in caught.value.where
    assert not layout.has(resolved.layers[2])


def test_piece_of_an_earlier_run_is_continued(fake: Fake, faked: Client, layout: Layout) -> None:
    resolved = resolve(faked, name(fake), "amd64")
    piece = layout.root / "ingest" / sha256(BASE)[7:]
    piece.parent.mkdir(parents=True)
    piece.write_bytes(BASE[:30_000])
    pull(faked, resolved, layout)
    ranges = [headers.get("Range") for _, path, headers in fake.asked if sha256(BASE) in path]
    assert ranges == ["bytes=30000-"]


def test_damaged_piece_of_an_earlier_run_is_dropped(
    fake: Fake, faked: Client, layout: Layout
) -> None:
    resolved = resolve(faked, name(fake), "amd64")
    piece = layout.root / "ingest" / sha256(BASE)[7:]
    piece.parent.mkdir(parents=True)
    piece.write_bytes(b"!" * 30_000)
    assert pull(faked, resolved, layout).layers[0].read_bytes() == BASE


def test_failing_blob_ends_the_pull_and_keeps_what_came(
    fake: Fake, faked: Client, layout: Layout
) -> None:
    resolved = resolve(faked, name(fake), "amd64")

    def meddle(handler: Handler) -> bool:
        if sha256(BASE) not in handler.path:
            return False
        start = handler.start()
        span = f"bytes {start}-{len(BASE) - 1}/{len(BASE)}"
        return handler.cut(
            BASE[start : start + 10], len(BASE) - start, 206 if start else 200, Content_Range=span
        )

    fake.meddle = meddle
    with pytest.raises(TemporaryError, match="breaks off"):
        pull(faked, resolved, layout)
    fake.meddle = None
    fake.asked.clear()
    pull(faked, resolved, layout)
    assert [h["Range"] for _, p, h in fake.asked if sha256(BASE) in p] == ["bytes=40-"]


def test_two_pulls_at_once_fetch_each_blob_once(fake: Fake, faked: Client, layout: Layout) -> None:
    resolved = resolve(faked, name(fake), "amd64")
    both = threading.Barrier(2)
    fetched: list[bytes] = []

    def fetch() -> None:
        both.wait(5)
        fetched.append(pull(faked, resolved, Layout(layout.root)).layers[0].read_bytes())

    fake.asked.clear()
    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [BASE, BASE]
    assert len(fake.requests(sha256(BASE))) == 1


def test_offline_with_all_there(fake: Fake, faked: Client, layout: Layout) -> None:
    online = pull(faked, resolve(faked, name(fake), "amd64", layout=layout), layout)
    resolved = resolve(None, name(fake), "amd64", layout=layout)
    assert resolved == online.resolved
    assert pull(None, resolved, layout) == online


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_offline_with_something_missing(
    fake: Fake, faked: Client, layout: Layout, part: str
) -> None:
    resolved = resolve(faked, name(fake), "amd64", layout=layout)
    pull(faked, resolved, layout)
    lost = {
        "manifest": resolved.manifest, "config": resolved.config, "layer": resolved.layers[2]
    }[part]  # fmt: skip
    layout.path(lost.digest).write_bytes(b"damaged")
    with pytest.raises(PreflightError, match="not on this host") as caught:
        pull(None, resolved, layout)
    assert lost.digest in caught.value.detail
    assert caught.value.detail.count("sha256:") == 1


def test_offline_without_knowing_the_name(fake: Fake, layout: Layout) -> None:
    with pytest.raises(PreflightError) as caught:
        resolve(None, name(fake), "amd64", layout=layout)
    assert caught.value.where == str(name(fake))


def test_interrupt_stops_the_threads(
    fake: Fake, faked: Client, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives in the caller's thread, here while the first of the blobs is awaited."""
    monkeypatch.setattr(pull_module, "_AT_ONCE", 1)
    monkeypatch.setattr(pull_module, "_PATIENCE", 0.01)
    resolved = resolve(faked, name(fake), "amd64", layout=layout)
    fake.asked.clear()
    interrupted = threading.Event()

    def progress(there: int, total: int) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    def meddle(handler: Handler) -> bool:  # noqa: ARG001
        assert interrupted.wait(10)
        return False

    fake.meddle = meddle
    with pytest.raises(KeyboardInterrupt):
        pull(faked, resolved, layout, progress=progress)
    interrupted.set()
    for thread in threading.enumerate():
        if "_work" in thread.name:
            thread.join(5)
    assert not fake.requests(sha256(TOP)), "the next blob was asked for"


def test_resolved_of_another_form() -> None:
    with pytest.raises((KeyError, ValueError)):
        Resolved.from_json({"target": {}})
