"""The containers stage by itself: the docker of a built tree, in the privileged worker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from imagebuild import layers
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.host.worker import Worker
from imagebuild.stages.imagetar import LocalImage
from imagebuild.store.objects import INVENTORY, TREE
from tests.images.builds import Built
from tests.unit.container_images import TIME, Files, make_image

pytestmark = pytest.mark.image

AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
EPOCH = 1_650_000_000
BELOW: Files = {"bin/tool": b"tool" * 1000, "etc/gone": "x", "data/old": "x"}


@pytest.fixture
def base(bookworm: Built) -> Path:
    """The object of a base, which has docker in it."""
    return bookworm.object("base")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(lambda _event: None) as started:
        yield started


@pytest.fixture
def place(bookworm: Built, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory beside the cache: an overlay may not lie on another one."""
    path = bookworm.cache / f"test-{request.node.name}"
    path.mkdir()
    yield path
    run([*AS_ROOT, "rm", "-rf", "--one-file-system", path])


def load(worker: Worker, below: Sequence[Path], image: LocalImage, out: Path) -> dict[str, Any]:
    """Make the layer of a container in the new directory `out`, an object like those below."""
    scratch = out.with_name(f"{out.name}.scratch")
    scratch.mkdir()
    out.mkdir()
    return worker.call(
        "load_container",
        below=[str(p) for p in below],
        image=image.to_json(),
        draft=str(out),
        scratch_dir=str(scratch),
        seconds=120,
        epoch=EPOCH,
    )


def listing(out: Path) -> str:
    """Everything in a directory but times of change and inode numbers, read by root."""
    code = (
        "import sys, json; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from imagebuild import inventory\n"
        "for e in inventory.walk(Path(sys.argv[2])): print(json.dumps(e.to_json()))"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = run([*AS_ROOT, sys.executable, "-I", "-c", code, root, out])
    return done.stdout.decode()


def test_two_containers_twice(worker: Worker, base: Path, place: Path) -> None:
    """The same bytes each time; the second joins the first and shares its layer."""
    layout = place / "layout"
    above: Files = {"etc/.wh.gone": "", "data/.wh..wh..opq": "", "data/new": "x"}
    one = make_image(layout, "r.example/one:1", [BELOW, above])
    two = make_image(layout, "docker.io/library/two:2", [BELOW, {"two": "2"}], "zstd")
    found = []
    for name in ("a", "b"):
        first, second = place / name, place / f"{name}-2"
        report = load(worker, [base], one, first)
        assert (report["store"], report["driver"]) == ("docker", "overlay2")
        load(worker, [base, first], two, second)
        lists = [(p / layers.FILE_NAME).read_bytes() for p in (first, second)]
        found.append((listing(first / TREE), listing(second / TREE), lists))
    assert found[0] == found[1]
    layer, above_it = (layers.read(place / n / layers.FILE_NAME) for n in ("a", "a-2"))
    # What both containers have is in the first one's layer alone.
    assert [e.path for e in layer.entries if e.path.endswith("/diff/bin/tool")]
    assert not [e.path for e in above_it.entries if e.path.endswith("/diff/bin/tool")]
    entries = {e.path: e.to_json() for e in layers.merge([], layer, above_it)}
    store = "/var/lib/docker/overlay2"
    assert len([p for p in entries if p.startswith(f"{store}/l/")]) == 3
    tools = [e for p, e in entries.items() if p.endswith("/diff/bin/tool")]
    assert [e["mtime"] for e in tools] == [TIME], "a container's files keep their times"
    gone = [e for p, e in entries.items() if p.endswith("/etc/gone") and e["kind"] == "char"]
    assert [e["data"] for e in gone] == ["0:0"]
    assert [e["xattrs"] for p, e in entries.items() if p.endswith("/data") and e.get("xattrs")] == [
        {"trusted.overlay.opaque": "79"}
    ]
    made = {e["mtime"] for p, e in entries.items() if "/diff/" not in p}
    assert made == {EPOCH}
    assert {p.split("/")[4] for p in entries if p.count("/") > 3} == {"image", "overlay2"}
    path = place / "a-2/tree/var/lib/docker/image/overlay2/repositories.json"
    names = json.loads(run([*AS_ROOT, "cat", path]).stdout)["Repositories"]
    assert names["r.example/one"] == {"r.example/one:1": one.config.digest}
    assert names["two"] == {"two:2": two.config.digest}


def test_a_layer_that_is_not_what_it_says(worker: Worker, base: Path, place: Path) -> None:
    image = make_image(place / "layout", "r.example/bad:1", [BELOW])
    path = image.path(image.layers[0])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BuildError) as caught:
        load(worker, [base], image, place / "out")
    assert caught.value.what == "docker cannot load the container"
    assert "unexpected EOF" in caught.value.detail
    # The worker goes on, and nothing is left behind.
    good = make_image(place / "layout-2", "r.example/good:1", [BELOW])
    load(worker, [base], good, place / "out-2")


@pytest.fixture
def with_nonsense(base: Path, place: Path) -> Iterator[Path]:
    """A base whose docker has a setting that it does not know."""
    other, above = place / "other", place / "above"
    (above / "etc/docker").mkdir(parents=True)
    (above / "etc/docker/daemon.json").write_text('{"storage-driver": "nonsense"}')
    (other / TREE).mkdir(parents=True)
    (other / INVENTORY).write_bytes((base / INVENTORY).read_bytes())
    lower = f"lowerdir={above}:{base / TREE}"
    run([*AS_ROOT, "mount", "-t", "overlay", "overlay", "-o", lower, other / TREE])
    yield other
    run([*AS_ROOT, "umount", other / TREE])


def test_a_docker_that_does_not_start(with_nonsense: Path, worker: Worker, place: Path) -> None:
    image = make_image(place / "layout", "r.example/one:1", [BELOW])
    with pytest.raises(BuildError) as caught:
        load(worker, [with_nonsense], image, place / "out")
    assert caught.value.what == "dockerd of the image has ended by itself"
    assert "nonsense" in caught.value.detail
