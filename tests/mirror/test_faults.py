"""What networks and loaded registries do to a copy: it goes on, or it says why, and no tag lies."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from imagebuild.errors import ExitCode, Interrupted
from imagebuild.events import Event
from imagebuild.mirror.copier import ImageFinished, ImageProgress, run_plan
from imagebuild.mirror.planning import make_plan
from imagebuild.mirror.result import Outcome, RunInterrupted
from imagebuild.registry.client import Client
from tests.container_images import Image, image, layer, noise, sha256
from tests.mirror.mirrors import assert_same, digest_of, item, problems, sync
from tests.registry_proxy import BLOBS, MANIFESTS, UPLOADS, RegistryProxy
from tests.registry_server import RegistryServer
from tests.services.proxy import Answer, Call, CutRequest, Delay, Request, Rule


@pytest.fixture
def out(source: RegistryServer) -> Iterator[RegistryProxy]:
    """Between us and the source."""
    with RegistryProxy(source) as proxy:
        yield proxy


@pytest.fixture
def into(target: RegistryServer) -> Iterator[RegistryProxy]:
    """Between us and the target."""
    with RegistryProxy(target) as proxy:
        yield proxy


def big_image(seed: int, size: int = 400_000) -> Image:
    return image([noise(seed, size), layer({"small": b"1"})])


def test_nothing_to_do_at_the_wire(
    out: RegistryProxy, into: RegistryProxy, source: RegistryServer, client: Client
) -> None:
    big_image(1).push(source, "wire", "1")
    wanted = item(f"{out.host}/wire:1", f"{into.host}/wire:1")
    sync(client, wanted)
    before = len(out.seen()), len(into.seen())
    assert sync(client, wanted)[0].outcome is Outcome.UNCHANGED
    assert [r.method for r in out.seen()[before[0] :]] == ["HEAD"]
    assert [r.method for r in into.seen()[before[1] :]] == ["HEAD"]


def test_broken_connections_and_limits_are_survived(
    out: RegistryProxy, into: RegistryProxy, source: RegistryServer, target: RegistryServer,
    client: Client,
) -> None:  # fmt: skip
    """The source is asked again; the target gets the blob once more, and whole."""
    made = big_image(2)
    made.push(source, "rough", "1")
    digest = sha256(made.blobs[1])
    cut = out.cut_download(f"{BLOBS[:-1]}:{digest[7:]}", after=350_000)
    limited = into.limit("PUT", MANIFESTS, retry_after="1")
    busy = out.fail("GET", MANIFESTS, status=503)
    [result] = sync(client, item(f"{out.host}/rough:1", f"{into.host}/rough:1"))
    assert (result.outcome, result.error) == (Outcome.COPIED, None)
    assert (cut.hits, limited.hits, busy.hits) == (1, 1, 1)
    assert len(out.seen("GET", digest)) == 2
    assert_same(target, "rough", "1", made)

    again = big_image(3)
    again.push(source, "rough", "2")
    large = Rule(
        "PATCH", UPLOADS, CutRequest(100_000),
        when=lambda r: int(r.headers.get("content-length", "0")) > 100_000,
    )  # fmt: skip
    cut = into.add(large)
    [result] = sync(client, item(f"{out.host}/rough:2", f"{into.host}/rough:2"))
    assert (result.outcome, cut.hits) == (Outcome.COPIED, 1)
    assert result.bytes_copied > result.size
    assert_same(target, "rough", "2", again)


@pytest.mark.parametrize("where", ["download", "upload", "manifest"])
def test_corrupted_on_the_way_never_gets_a_tag(
    out: RegistryProxy, into: RegistryProxy, source: RegistryServer, target: RegistryServer,
    client: Client, where: str,
) -> None:  # fmt: skip
    made = big_image(4, 50_000)
    name = f"corrupt/{where}"
    made.push(source, name, "1")
    match where:
        case "download":
            rule = out.corrupt_download(at=1000, times=None)
        case "upload":
            rule = into.corrupt_upload(at=10, times=None)
        case _:
            rule = out.corrupt_download(MANIFESTS, at=200, times=None)
    [result] = sync(client, item(f"{out.host}/{name}:1", f"{into.host}/{name}:1"))
    assert rule.hits
    assert result.outcome is Outcome.FAILED
    assert result.error
    assert not digest_of(target.host, name, "1")
    # The way is clean again.
    out.rules.clear()
    into.rules.clear()
    [result] = sync(client, item(f"{out.host}/{name}:1", f"{into.host}/{name}:1"))
    assert result.outcome is Outcome.COPIED
    assert_same(target, name, "1", made)


def test_schema_1_is_refused(out: RegistryProxy, target: RegistryServer, client: Client) -> None:
    """An old registry's old image: no registry of today would take it from us."""
    document = {"schemaVersion": 1, "name": "old", "tag": "1", "fsLayers": [], "history": []}
    body = json.dumps(document).encode()
    kind = ("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    # It says no digest, as they did.
    out.add(Rule("HEAD", MANIFESTS, Answer(200, b"", (kind,)), times=None))
    out.add(Rule("GET", MANIFESTS, Answer(200, body, (kind,)), times=None))
    [result] = sync(client, item(f"{out.host}/old:1", f"{target.host}/old:1"))
    assert result.outcome is Outcome.FAILED
    assert result.error
    assert "schema 1" in result.error["what"]
    assert not digest_of(target.host, "old", "1")


def test_waiters_are_released_when_the_first_fails(
    out: RegistryProxy, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """Four images want one blob; the sources of some do not give it."""
    base = noise(5, 100_000)
    made = [image([base, layer({f"own-{n}": b"1"})]) for n in range(4)]
    for n in range(4):
        made[n].push(source, f"waiting/{n}", "1")
    # The whole blob is refused to those of the first three repositories, for good.
    out.fail("GET", rf"waiting/[012]/blobs/{sha256(base)}", status=400, times=None)
    results = sync(
        client,
        *(item(f"{out.host}/waiting/{n}:1", f"{target.host}/waiting/{n}:1") for n in range(4)),
    )
    # Who asks after the fourth one mounts what it has brought.
    assert results[3].outcome is Outcome.COPIED
    for n, result in enumerate(results):
        assert result.outcome in (Outcome.COPIED, Outcome.FAILED)
        assert bool(digest_of(target.host, f"waiting/{n}", "1")) == (
            result.outcome is Outcome.COPIED
        )


def test_another_source_of_the_same_blob_is_tried(
    out: RegistryProxy, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """Of two images for one repository, the first one's source does not give their blob."""
    base = noise(6, 50_000)
    for name in ("bad", "good"):
        image([base, layer({name: b"1"})]).push(source, f"sources/{name}", "1")

    def refuse_late(_: Request) -> Answer:
        time.sleep(1.5)
        return Answer(400)

    refused = out.add(Rule("GET", f"bad/blobs/{sha256(base)}", Call(refuse_late), times=None))
    late = out.add(Rule("GET", "good/manifests/", Delay(0.8)))
    bad, good = sync(
        client,
        *(item(f"{out.host}/sources/{n}:1", f"{target.host}/sources:{n}") for n in ("bad", "good")),
    )
    assert (refused.hits, late.hits) == (1, 1)
    assert (bad.outcome, good.outcome) == (Outcome.FAILED, Outcome.COPIED)
    assert good.bytes_copied == good.size
    assert not list(problems(target.host, "sources", "good"))
    assert not digest_of(target.host, "sources", "bad")


def test_limit_that_is_too_long_gives_the_registry_up(
    out: RegistryProxy, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    for n in range(12):
        image([layer({f"{n}": b"1"})]).push(source, f"quota/{n}", "1")
    out.limit("GET", MANIFESTS, retry_after="21600", times=None)
    results = sync(
        client, *(item(f"{out.host}/quota/{n}:1", f"{target.host}/quota/{n}:1") for n in range(12))
    )
    outcomes = [r.outcome for r in results]
    assert set(outcomes) == {Outcome.FAILED, Outcome.SKIPPED}
    assert outcomes.count(Outcome.FAILED) <= 4
    assert all(r.error and "429" in r.error["detail"] for r in results)


def test_stopped_in_the_middle(
    out: RegistryProxy, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """Who stops a run gets an honest report, soon, and the next run does the rest."""
    made = [big_image(10 + n, 1_500_000) for n in range(3)]
    for n in range(3):
        made[n].push(source, f"stopped/{n}", "1")
    items = [item(f"{out.host}/stopped/{n}:1", f"{target.host}/stopped/{n}:1") for n in range(3)]
    slow = out.slow(150_000, "GET", BLOBS)
    stop = threading.Event()
    told: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, ImageProgress) and event.done > 50_000 and not told:
            told.append(time.monotonic())
            stop.set()

    report = run_plan(client, make_plan(client, items), emit=watch, stop=stop)
    assert time.monotonic() - told[0] < 6
    assert slow.hits
    assert {r.outcome for r in report.results} == {Outcome.SKIPPED}
    assert all(not digest_of(target.host, f"stopped/{n}", "1") for n in range(3))
    out.rules.clear()
    assert {r.outcome for r in sync(client, *items)} == {Outcome.COPIED}


def test_interrupted(
    out: RegistryProxy, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """Ctrl-C arrives as an exception in the thread that runs the plan."""
    big_image(20, 1_500_000).push(source, "interrupted", "1")
    image([layer({"q": b"quick"})]).push(source, "quick", "1")
    out.slow(250_000, "GET", "interrupted/blobs")
    finished: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, ImageFinished):
            finished.append(event.result.item.target.repository)
        elif finished:
            raise Interrupted(signal.SIGTERM)

    plan = make_plan(
        client,
        [item(f"{out.host}/{n}:1", f"{target.host}/{n}:1") for n in ("interrupted", "quick")],
    )
    with pytest.raises(RunInterrupted) as caught:
        run_plan(client, plan, emit=watch)
    assert caught.value.exit_code == ExitCode.TERMINATED
    slow, quick = caught.value.report.results
    assert (slow.outcome, quick.outcome) == (Outcome.SKIPPED, Outcome.COPIED)
    assert not digest_of(target.host, "interrupted", "1")
    assert not list(problems(target.host, "quick", "1"))
