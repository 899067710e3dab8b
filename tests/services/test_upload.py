"""`imagebuild upload` against the real Keystone and Glance. What goes wrong on the way is in
test_upload_faults.py.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagebuild.agent.series import SERIES
from imagebuild.cloud.images import Images
from tests.services.cloud import TestCloud
from tests.services.proxy import Answer, Rule
from tests.services.publishing import Published, describe, make, sha256, verify

pytestmark = pytest.mark.services


@pytest.fixture
def published(cloud: TestCloud, tmp_path: Path) -> Published:
    return make(cloud, tmp_path)


@contextlib.contextmanager
def web(port: int, directory: Path, seconds: float = 0.0) -> Iterator[str]:
    """A web server; it answers after so many seconds."""
    over = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            over.wait(seconds)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    handler = partial(Handler, directory=str(directory))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_once_and_again(published: Published) -> None:
    done = published.upload("--cloud=demo", "--datastore=mysql", "--property=a=b", "--json")
    assert done.code == 0, done.err
    (image,) = published.images()
    (row,) = done.json["clouds"]
    assert (row["status"], row["image"]) == ("uploaded", image.id)
    assert published.is_whole(image)
    assert (image.name, image.visibility) == (published.artifact.name, "private")
    assert image.tags == {"trove", "mysql"}
    assert (image.min_disk, image.min_ram, image.disk_format) == (5, 1024, "qcow2")
    assert image.properties == {
        "a": "b",
        "architecture": "x86_64",
        "hw_rng_model": "virtio",
        "os_distro": "debian",
        "os_type": "linux",
        "os_version": "12",
        "imagebuild_agent_series": "2026.1",
        "imagebuild_agent_version": "25.0.0",
        "imagebuild_artifact": published.artifact.name,
        "imagebuild_build_id": published.manifest["build_id"],
        "imagebuild_dev": "false",
        "imagebuild_format": "qcow2",
        "imagebuild_proven": "boot",
        "imagebuild_sha256": sha256(published.image),
        "imagebuild_tags": "trove,mysql",
        **{k: v for k, v in image.properties.items() if k == "stores"},
    }

    again = published.upload("--cloud=demo", "--datastore=mysql", "--property=a=b", "--json")
    assert again.code == 0
    assert [(r["status"], r["image"]) for r in again.json["clouds"]] == [("present", image.id)]
    assert published.images() == [image]


def test_what_differs_is_said_and_changed(published: Published) -> None:
    assert published.upload("--cloud=demo", "--datastore=mysql").code == 0
    (before,) = published.images()
    Images(published.connection("demo").image).add_tag(before.id, "mine")
    wanted = ("--cloud=demo", "--name=other", "--min-ram=2048", "--tag=new", "--community")
    foreseen = published.upload(*wanted, "--dry-run")
    assert foreseen.code == 0
    assert published.images()[0].name == before.name
    done = published.upload(*wanted)
    assert done.code == 0, done.err
    for run in (foreseen, done):
        lines = [x.split("demo:   ")[1] for x in run.err.splitlines() if "demo:   " in x]
        assert lines == [
            f"name: {before.name} -> other",
            "min_ram: 1024 -> 2048",
            "visibility: private -> community",
            "imagebuild_tags: trove,mysql -> trove,mysql,new",
            "tags: mine,mysql,trove -> mine,mysql,new,trove",
        ]
    (image,) = published.images()
    assert (image.id, image.name, image.min_ram) == (before.id, "other", 2048)
    assert image.tags == {"trove", "mysql", "mine", "new"}
    # Neither a community image nor a hidden one is in the list that Glance gives unasked.
    change = {"op": "replace", "path": "/os_hidden", "value": True}
    Images(published.connection("demo").image).patch(image.id, [change])
    again = published.upload("--cloud=demo", "--name=other", "--min-ram=2048", "--json")
    assert [(r["status"], r["image"]) for r in again.json["clouds"]] == [("present", image.id)]


def test_tags_come_when_all_is_right(published: Published) -> None:
    done = published.upload("--cloud=admin-proxied", "--public", "--datastore=mysql")
    assert done.code == 0, done.err
    (image,) = published.images("admin")
    assert (image.visibility, sorted(image.tags)) == ("public", ["mysql", "trove"])
    requests = published.cloud.proxies.glance.seen()
    last = [r for r in requests if r.method == "PATCH"][-1]
    sent = next(r for r in requests if r.path.endswith("/file"))
    assert requests.index(sent) < requests.index(last)
    before = requests[: requests.index(last)]
    assert not any(b'"tags"' in r.body or b"/tags" in r.body for r in before)
    # While the bytes come in, it is nobody else's.
    early = [r for r in before if b"visibility" in r.body]
    assert b'"value": "private"' in early[-1].body.replace(b'":"', b'": "')
    assert requests.index(early[-1]) < requests.index(sent)


def test_a_candidate_has_no_tags(published: Published) -> None:
    assert published.upload("--cloud=demo", "--datastore=mysql", "--candidate").code == 0
    (image,) = published.images()
    assert not image.tags
    assert image.properties["imagebuild_tags"] == "trove,mysql"


def test_tags_that_were_taken_away_stay_away(published: Published) -> None:
    assert published.upload("--cloud=demo").code == 0
    images = Images(published.connection("demo").image)
    (image,) = published.images()
    images.remove_tag(image.id, "trove")
    images.patch(image.id, [{"op": "add", "path": "/imagebuild_withdrawn", "value": "x,trove"}])
    done = published.upload("--cloud=demo", "--datastore=mysql")
    assert done.code == 0
    assert f"warning: demo: {image.id} was withdrawn: it does not get trove again" in done.err
    assert published.images()[0].tags == {"mysql"}


def test_several_clouds(published: Published) -> None:
    done = published.upload("--cloud=demo", "--cloud=nowhere", "--cloud=other", "--json")
    assert done.code == 6
    rows = {r["cloud"]: r for r in done.json["clouds"]}
    assert [rows[c]["status"] for c in ("demo", "nowhere", "other")] == [
        "uploaded", "failed", "uploaded",
    ]  # fmt: skip
    assert rows["nowhere"]["error"]["exit_code"] == 4
    assert rows["demo"]["image"] != rows["other"]["image"]
    again = published.upload("--cloud=demo", "--cloud=other", "--parallel", "--json")
    assert again.code == 0
    assert [r["status"] for r in again.json["clouds"]] == ["present", "present"]
    assert published.upload("--cloud=nowhere", "--cloud=neither").code == 4


def test_at_the_same_time(published: Published) -> None:
    done = published.upload("--cloud=demo", "--cloud=other", "--parallel", "--json")
    assert done.code == 0, done.err
    for name in ("demo", "other"):
        (image,) = published.images(name)
        assert published.is_whole(image)


def test_the_environment_says_which_cloud(published: Published) -> None:
    done = published.upload(env={"OS_CLOUD": "other"})
    assert done.code == 0, done.err
    assert len(published.images("other")) == 1
    variables = published.cloud.openrc("demo") | {"OS_CLIENT_CONFIG_FILE": "/nonexistent"}
    assert published.upload(env=variables).code == 0
    assert len(published.images("demo")) == 1


def test_nothing_is_changed_by_a_dry_run(published: Published) -> None:
    done = published.upload("--cloud=demo", "--dry-run", "--json")
    assert done.code == 0
    assert [r["status"] for r in done.json["clouds"]] == ["would upload"]
    assert published.images() == []


def test_raw_for_stores_that_want_it(published: Published) -> None:
    options = ("--cloud=demo", "--cloud=other", "--convert")
    done = published.upload(*options, "--json")
    assert done.code == 0, done.err
    raw = published.directory / "expected"
    subprocess.run(["qemu-img", "convert", "-O", "raw", published.image, raw], check=True)
    for name in ("demo", "other"):
        (image,) = published.images(name)
        assert (image.disk_format, image.size) == ("raw", raw.stat().st_size)
        assert published.is_whole(image, raw)
        assert image.properties["imagebuild_sha256"] == sha256(raw)
        assert image.properties["imagebuild_source_sha256"] == sha256(published.image)
    assert done.err.count("converting") == 1
    assert not list((published.directory / "cache/scratch").glob("*"))
    again = published.upload(*options, "--json")
    assert [r["status"] for r in again.json["clouds"]] == ["present", "present"]
    assert "converting" not in again.err


def test_the_artifacts_own_raw_when_that_is_the_verified_one(published: Published) -> None:
    raw = published.image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", published.image, raw], check=True)
    describe(published.artifact, [published.image, raw])
    verify(published.artifact, raw)
    done = published.upload("--cloud=demo", "--convert")
    assert done.code == 0, done.err
    assert "converting" not in done.err
    (image,) = published.images()
    assert published.is_whole(image, raw)
    # The qcow2 is not what was verified.
    assert published.upload("--cloud=demo").code == 7


def test_glance_direct(published: Published) -> None:
    done = published.upload("--cloud=demo", "--method=glance-direct")
    assert done.code == 0, done.err
    (image,) = published.images()
    assert published.is_whole(image)
    assert image.tags == {"trove"}


def test_web_download(published: Published) -> None:
    with web(published.cloud.ports.web[0], published.artifact) as url:
        done = published.upload("--cloud=demo", f"--url={url}/{published.image.name}")
    assert done.code == 0, done.err
    (image,) = published.images()
    assert published.is_whole(image)
    assert image.tags == {"trove"}


def test_other_bytes_at_the_url(published: Published) -> None:
    other = published.directory / published.image.name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "9M"], check=True)
    with web(published.cloud.ports.web[0], published.directory) as url:
        done = published.upload("--cloud=demo", f"--url={url}/{other.name}")
    assert done.code == 6
    assert "damaged on its way" in done.err
    assert (published.images(), published.stored()) == ([], [])


def test_a_download_that_fails(published: Published) -> None:
    with web(published.cloud.ports.web[0], published.artifact) as url:
        done = published.upload("--cloud=demo", f"--url={url}/nothing")
        assert done.code == 6
        assert "error: the import failed" in done.err
        assert (published.images(), published.stored()) == ([], [])
        again = published.upload("--cloud=demo", f"--url={url}/{published.image.name}")
        assert again.code == 0


def test_an_import_that_is_stuck(published: Published) -> None:
    with web(published.cloud.ports.web[0], published.artifact, seconds=60) as url:
        options = ("--cloud=demo", f"--url={url}/{published.image.name}", "--timeout=2s")
        done = published.upload(*options)
    assert done.code == 75, done.err
    assert "the import is stuck" in done.err
    assert published.images() == []
    with web(published.cloud.ports.web[1], published.artifact) as url:
        again = published.upload("--cloud=demo", f"--url={url}/{published.image.name}")
    assert again.code == 0, again.err
    assert [i.status for i in published.images()] == ["active"]


def test_a_method_that_the_cloud_does_not_have(published: Published) -> None:
    with published.cloud.configured("glance", {"DEFAULT": {"enabled_import_methods": "[]"}}):
        done = published.upload("--cloud=demo", "--method=glance-direct")
    assert done.code == 4
    assert "the cloud has no import method glance-direct" in done.err
    assert published.images() == []


def test_the_role_for_public_images_is_missing(published: Published) -> None:
    done = published.upload("--cloud=demo-proxied", "--public")
    assert done.code == 4
    assert "the credentials do not allow a public image" in done.err
    assert "publicize_image" in done.err
    assert published.images() == []
    assert published.cloud.proxies.glance.count("PUT") == 0  # before the bytes went
    # As it is when the policy of a change is another one than that of a new record.
    rule = Rule("PATCH", "/images/", Answer(403, b"not authorized to publicize"), nth=2)
    published.cloud.proxies.glance.add(rule)
    late = published.upload("--cloud=admin-proxied", "--public")
    assert late.code == 4
    assert rule.hits == 1
    assert (published.images("admin"), published.stored()) == ([], [])
    assert published.upload("--cloud=admin-proxied", "--public").code == 0


def test_a_dev_image_is_for_nobody_else(cloud: TestCloud, tmp_path: Path) -> None:
    published = make(cloud, tmp_path, "agent.mode=dev")
    for visibility in ("--public", "--community"):
        done = published.upload("--cloud=admin", visibility, "--unverified")
        assert done.code == 7
        assert "a dev image is never" in done.err
    assert published.images("admin") == []
    assert published.upload("--cloud=admin").code == 0


def test_only_what_is_proven(published: Published) -> None:
    (published.artifact / "verify.json").unlink()
    done = published.upload("--cloud=demo")
    assert done.code == 7
    assert "the image was never verified" in done.err
    verify(published.artifact, published.image, "failed")
    assert published.upload("--cloud=demo").code == 7
    assert published.images() == []
    loud = published.upload("--cloud=demo", "--unverified")
    assert loud.code == 0
    assert "warning: the image failed its verification" in loud.err
    (image,) = published.images()
    assert image.properties["imagebuild_proven"] == "none"
    verify(published.artifact, published.image)
    assert published.upload("--cloud=demo").code == 0
    assert published.images()[0].properties["imagebuild_proven"] == "boot"


def test_an_agent_of_the_control_planes_series(published: Published) -> None:
    agent = json.loads((published.artifact / "manifest.json").read_text())["content"]["agent"]
    other = next(s.name for s in SERIES if s.name != agent["series"])
    done = published.upload("--cloud=demo", f"--control-plane-series={other}")
    assert done.code == 7
    assert f"the control plane of {other}" in done.err
    assert published.images() == []
    assert published.upload("--cloud=demo", f"--control-plane-series={agent['series']}").code == 0


def test_a_damaged_image_does_not_get_there(published: Published) -> None:
    with published.image.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"other")
    done = published.upload("--cloud=demo")
    assert done.code == 6
    assert "the image is not what its manifest says" in done.err
    assert (published.images(), published.stored()) == ([], [])
