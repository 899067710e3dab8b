"""A container's layer is what docker's store has more than before."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuild import inventory, layers
from imagebuild.errors import BuildError
from imagebuild.layers import Layer
from imagebuild.registry.manifest import Descriptor
from imagebuild.stages import containers, dockerlayer
from imagebuild.stages.imagetar import LocalImage
from imagebuild.stages.stack import Stack
from imagebuild.store.objects import TREE
from tests.unit.layer_objects import TIME, base_object, by_path, write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts: needs root")

STORE = "var/lib/docker"


class FakeDocker:
    """Stands for containers.load: keeps what it is given, changes the store as it is told."""

    def __init__(self) -> None:
        self.before: dict[str, str] = {}
        self.lower: list[Path] = []
        self.change: Callable[[Path], object] = lambda _out: None

    def load(
        self, lower: list[Path], before: Path | None, image: LocalImage, out: Path,
        *, scratch: Path, seconds: float | None, epoch: int,
    ) -> dict[str, Any]:  # fmt: skip
        assert (list(scratch.iterdir()), seconds, epoch) == ([], 9, TIME)
        self.lower = list(lower)
        self.before = {}
        out.mkdir()
        if before:
            self.before = {
                str(p.relative_to(before)): p.read_text()
                for p in before.rglob("*")
                if p.is_file() and not p.is_symlink()
            }
            subprocess.run(["cp", "-a", f"{before}/.", out], check=True)
        write(out, {f"{STORE}/image/": "", "var/lib/containerd/": ""})
        self.change(out)
        inventory.clamp_times(out, TIME)
        return {"of": image.config.digest}


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker()
    monkeypatch.setattr(containers, "load", fake.load)
    return fake


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return base_object(tmp_path / "base", {"etc/passwd": "x", "var/lib/dpkg/status": "x"})


def image() -> LocalImage:
    part = Descriptor("application/vnd.oci.image.config.v1+json", f"sha256:{'1' * 64}", 7)
    return LocalImage("r.example/db:1", "/layout", part, part, (), ())


def load(below: list[Path], place: Path) -> Layer:
    scratch = place.with_name(f"{place.name}-scratch")
    for directory in (place, scratch):
        directory.mkdir()
    report = dockerlayer.load(Stack.of(below), image(), place, scratch, seconds=9, epoch=TIME)
    assert report == {"of": f"sha256:{'1' * 64}"}
    assert list(scratch.iterdir()) == []
    return layers.read(place / layers.FILE_NAME)


def files(layer: Layer) -> set[str]:
    return {e.path.removeprefix(f"/{STORE}/") for e in layer.entries if e.kind == "file"}


def test_one_container(docker: FakeDocker, base: Path, tmp_path: Path) -> None:
    docker.change = lambda out: write(
        out, {f"{STORE}/overlay2/one/diff/x": "1", "etc/passwd": "docker's own"}
    )
    layer = load([base], tmp_path / "one")
    assert docker.lower == [base / TREE]
    assert docker.before == {}
    assert layer.removed == ()
    assert files(layer) == {"overlay2/one/diff/x"}
    # Nothing but docker's directories, and what lies above them only where the base lacks it.
    assert not [e.path for e in layer.entries if e.path in ("/etc", "/etc/passwd", "/var/lib")]
    assert (tmp_path / "one/tree" / STORE / "overlay2/one/diff/x").read_text() == "1"
    entries = by_path(layers.merge(Stack.of([base]).entries(), layer))
    assert entries["/etc/passwd"].size == 1


def test_the_second_holds_only_what_is_new(docker: FakeDocker, base: Path, tmp_path: Path) -> None:
    docker.change = lambda out: write(
        out, {f"{STORE}/overlay2/shared/diff/x": "1", f"{STORE}/image/names.json": "one"}
    )
    first = load([base], tmp_path / "one")
    docker.change = lambda out: write(
        out, {f"{STORE}/overlay2/own/diff/y": "2", f"{STORE}/image/names.json": "one, two"}
    )
    second = load([base, tmp_path / "one"], tmp_path / "two")
    assert docker.lower == [base / TREE], "docker runs on the base alone"
    assert docker.before == {
        f"{STORE}/overlay2/shared/diff/x": "1", f"{STORE}/image/names.json": "one",
    }  # fmt: skip
    assert files(second) == {"overlay2/own/diff/y", "image/names.json"}
    assert second.removed == ()
    found = by_path(layers.merge(Stack.of([base]).entries(), first, second))
    assert {f"/{STORE}/overlay2/{n}" for n in ("shared/diff/x", "own/diff/y")} <= found.keys()
    docker.change = lambda _out: None
    third = load([base, tmp_path / "one", tmp_path / "two"], tmp_path / "three")
    assert docker.before[f"{STORE}/image/names.json"] == "one, two"
    assert files(third) == set()


def test_what_docker_removes_is_gone_for_those_after(
    docker: FakeDocker, base: Path, tmp_path: Path
) -> None:
    docker.change = lambda out: write(
        out, {f"{STORE}/image/old/a": "1", f"{STORE}/image/b": "1", f"{STORE}/image/kept": "1"}
    )
    load([base], tmp_path / "one")

    def remove(out: Path) -> None:
        shutil.rmtree(out / STORE / "image/old")
        (out / STORE / "image/b").unlink()
        (out / STORE / "image/b").mkdir()
        write(out, {f"{STORE}/image/b/inside": "2"})

    docker.change = remove
    second = load([base, tmp_path / "one"], tmp_path / "two")
    assert set(second.removed) == {f"/{STORE}/image/old", f"/{STORE}/image/b"}
    docker.change = lambda out: write(out, {f"{STORE}/image/third": "3"})
    third = load([base, tmp_path / "one", tmp_path / "two"], tmp_path / "three")
    assert docker.before == {f"{STORE}/image/b/inside": "2", f"{STORE}/image/kept": "1"}
    assert (files(third), third.removed) == ({"image/third"}, ())


def test_whiteouts_of_a_container_are_files_of_the_layer(
    docker: FakeDocker, base: Path, tmp_path: Path
) -> None:
    """overlayfs would take them for its own: what a container removed would be seen in it."""

    def change(out: Path) -> None:
        write(out, {f"{STORE}/overlay2/one/diff/etc/": ""})
        os.mknod(out / STORE / "overlay2/one/diff/etc/gone", 0o020000, os.makedev(0, 0))
        os.setxattr(out / STORE / "overlay2/one/diff/etc", "trusted.overlay.opaque", b"y")

    docker.change = change
    layer = load([base], tmp_path / "one")
    found = by_path(list(layer.entries))
    gone = found[f"/{STORE}/overlay2/one/diff/etc/gone"]
    assert (gone.kind, gone.data, layer.removed) == ("char", "0:0", ())
    assert found[f"/{STORE}/overlay2/one/diff/etc"].xattrs == {"trusted.overlay.opaque": "79"}
    # They also survive into the store that the next container joins.
    kept: dict[str, object] = {}

    def look(out: Path) -> None:
        path = out / STORE / "overlay2/one/diff/etc"
        kept["gone"] = (path / "gone").lstat().st_rdev
        kept["opaque"] = os.getxattr(path, "trusted.overlay.opaque")

    docker.change = look
    load([base, tmp_path / "one"], tmp_path / "two")
    assert kept == {"gone": 0, "opaque": b"y"}


def test_nothing_is_left_of_one_that_fails(docker: FakeDocker, base: Path, tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        raise BuildError("docker cannot load the container", where=str(out))

    docker.change = fail
    with pytest.raises(BuildError):
        load([base], tmp_path / "one")
    assert list((tmp_path / "one-scratch").iterdir()) == []
    assert list((tmp_path / "one").iterdir()) == []
