"""`imagebuild upload` when things go wrong on the way: the exit code is right, nothing half
done stays, and the second run succeeds.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild.cloud.images import Images
from imagebuild.publish.properties import BUILD_ID, FORMAT, UPLOADING
from tests.services.cloud import TestCloud
from tests.services.proxy import Action, Answer, CutRequest, Delay, LoseAnswer, Rule, Slow
from tests.services.publishing import MIB, Published, make

pytestmark = pytest.mark.services

#: For what differs from its neighbours in little.
FULL = pytest.mark.full("publish")

FILE = r"/images/[^/]*/file$"


@pytest.fixture
def published(cloud: TestCloud, tmp_path: Path) -> Published:
    return make(cloud, tmp_path)


def upload(published: Published, *options: str, code: int = 0) -> str:
    done = published.upload("--cloud=demo-proxied", *options)
    assert done.code == code, done.err
    return done.err


def rule(published: Published, method: str, path: str, action: Action, **more: int | None) -> Rule:
    made = Rule(method, path, action, **more)  # type: ignore[arg-type]
    published.cloud.proxies.glance.add(made)
    return made


def check_nothing(published: Published) -> None:
    assert (published.images(), published.stored()) == ([], [])


def check_one(published: Published) -> None:
    (image,) = published.images()
    assert published.is_whole(image)
    assert image.tags == {"trove"}
    assert UPLOADING not in image.properties
    # Glance hears of a broken connection, and then removes what came by it.
    await_(lambda: [p.name for p in published.stored()] == [image.id])


def puts(published: Published) -> int:
    return published.cloud.proxies.glance.count("PUT", FILE)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (Answer(500), "glance cannot do it now"),
        (Answer(503, after=MIB), "glance cannot do it now"),
        (CutRequest(after=3 * MIB // 2), "glance does not answer"),
        pytest.param(Answer(409), "glance refused the request", marks=FULL),
    ],
    ids=["500", "503 before the end", "cut at 50 %", "409"],
)
def test_what_passes_is_tried_again(published: Published, action: Action, says: str) -> None:
    fault = rule(published, "PUT", FILE, action)
    said = upload(published)
    assert fault.hits == 1
    assert f"{says}; trying again" in said
    check_one(published)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Answer(503), 75),
        (CutRequest(after=3 * MIB // 2), 75),
        pytest.param(Answer(409), 6, marks=FULL),
        pytest.param(Answer(413, b"too large"), 4, marks=FULL),
        (Answer(413, b"too large", after=MIB), 4),
        (Answer(401, after=MIB), 4),
        pytest.param(Answer(410), 6, marks=FULL),
    ],
    ids=["503", "cut", "409", "413", "413 before the end", "401 for ever", "410"],
)
def test_what_stays(published: Published, action: Action, code: int) -> None:
    fault = rule(published, "PUT", FILE, action, times=None)
    upload(published, code=code)
    assert fault.hits
    check_nothing(published)
    published.cloud.proxies.glance.reset()
    upload(published)
    check_one(published)


def test_a_token_that_ends_in_the_middle(published: Published) -> None:
    fault = rule(published, "PUT", FILE, Answer(401, after=MIB))
    upload(published)
    assert fault.hits == 1
    first, *_, last = (r.token for r in published.cloud.proxies.glance.seen("PUT", FILE))
    assert last != first
    check_one(published)


def test_a_token_that_ends_soon_is_renewed_before(published: Published) -> None:
    with published.cloud.configured("keystone", {"token": {"expiration": "600"}}):
        upload(published)
    tokens = [r.token for r in published.cloud.proxies.glance.seen() if r.token]
    (sent,) = published.cloud.proxies.glance.seen("PUT", FILE)
    assert sent.token == tokens[-1] != tokens[0]


def test_a_real_quota(published: Published) -> None:
    changes = {"DEFAULT": {"user_storage_quota": "1MB"}}
    with published.cloud.configured("glance", changes):
        said = upload(published, code=4)
    assert "a quota or limit is reached" in said
    assert puts(published) == 1
    check_nothing(published)
    upload(published)
    check_one(published)


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("PUT", FILE, LoseAnswer(504)),
        pytest.param("PUT", FILE, LoseAnswer(), marks=FULL),
        ("POST", "/images$", LoseAnswer()),
        ("PATCH", "/images/", LoseAnswer(502)),
    ],
    ids=["data, 504", "data", "record", "patch"],
)
def test_what_was_done_and_not_answered_is_not_done_again(
    published: Published, method: str, path: str, action: Action
) -> None:
    fault = rule(published, method, path, action)
    upload(published)
    assert fault.hits == 1
    assert puts(published) == 1
    check_one(published)


def test_a_slow_store(published: Published) -> None:
    rule(published, "PUT", FILE, Slow(rate=2 * MIB))
    upload(published)
    check_one(published)


@FULL
def test_a_store_that_says_nothing(published: Published) -> None:
    rule(published, "PUT", FILE, Delay(20), times=None)
    assert "does not answer" in upload(published, "--timeout=1s", code=75)
    check_nothing(published)


def test_staged_data_that_do_not_arrive(published: Published) -> None:
    fault = rule(published, "PUT", "/stage$", CutRequest(after=3 * MIB // 2))
    upload(published, "--method=glance-direct")
    assert fault.hits == 1
    check_one(published)


@FULL
def test_a_cloud_that_is_down(published: Published) -> None:
    rule(published, "*", "/images", Answer(503), times=None)
    upload(published, code=75)
    published.cloud.proxies.glance.reset()
    upload(published)
    check_one(published)


def in_the_middle(published: Published) -> subprocess.Popen[str]:
    """An upload of which some bytes have gone."""
    rule(published, "PUT", FILE, Slow(rate=MIB / 8))
    process = published.start("--cloud=demo-proxied")
    await_(lambda: any(r.received for r in published.cloud.proxies.glance.seen("PUT", FILE)))
    return process


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("signum", "code"), [pytest.param(signal.SIGINT, 130, marks=FULL), (signal.SIGTERM, 143)]
)
def test_an_interrupt(published: Published, signum: signal.Signals, code: int) -> None:
    process = in_the_middle(published)
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert published.images() == []
    await_(lambda: not published.stored())
    upload(published)
    check_one(published)


def test_an_interrupt_of_uploads_at_the_same_time(published: Published) -> None:
    rule(published, "PUT", FILE, Slow(rate=MIB), times=2)
    options = ("--cloud=demo-proxied", "--cloud=other-proxied", "--parallel")
    process = published.start(*options)
    proxy = published.cloud.proxies.glance
    await_(lambda: sum(r.received > 0 for r in proxy.seen("PUT", FILE)) >= 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert published.images("demo") == published.images("other") == []


def test_a_kill(published: Published) -> None:
    process = in_the_middle(published)
    second = published.upload("--cloud=demo-proxied")
    assert second.code == 75
    assert "another process uploads this build to this project" in second.err
    process.kill()
    process.communicate()
    (left,) = published.images()
    assert left.status != "active"
    said = upload(published)
    assert f"removing what a broken-off upload has left: {left.id}" in said
    check_one(published)


def test_a_kill_before_the_tags(published: Published) -> None:
    fault = rule(published, "PATCH", "/images/", Delay(30))
    process = published.start("--cloud=demo-proxied")
    await_(lambda: fault.hits == 1)
    process.kill()
    process.communicate()
    (left,) = published.images()
    assert (left.status, sorted(left.tags)) == ("active", [])
    published.cloud.proxies.glance.reset()
    upload(published)
    assert puts(published) == 0
    check_one(published)
    assert published.images()[0].id == left.id


def test_an_upload_from_another_host(published: Published) -> None:
    images = Images(published.connection("demo").image)
    build_id = published.manifest["build_id"]
    theirs = images.create({
        "id": "6c0f5a24-7c9b-4f0a-9d39-4ef4be1e0f51", "name": "x", "disk_format": "qcow2",
        "container_format": "bare", BUILD_ID: build_id, FORMAT: "qcow2", UPLOADING: "them",
    })  # fmt: skip
    said = upload(published, code=75)
    assert f"openstack image delete {theirs.id}" in said
    assert [i.id for i in published.images()] == [theirs.id]
    images.delete(theirs.id)
    upload(published)
    check_one(published)


def test_the_same_build_with_other_bytes(published: Published) -> None:
    upload(published)
    images = Images(published.connection("demo").image)
    (image,) = published.images()
    change = {"op": "replace", "path": "/imagebuild_sha256", "value": "0" * 64}
    images.patch(image.id, [change])
    assert "the image of this build id has other bytes" in upload(published, code=6)
