"""Docker's store after us: nothing random, nothing of the machine, and still whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from imagebuild import inventory
from imagebuild.stages import dockerstore

EPOCH = 1_600_000_000


def classic(out: Path, layers: int = 2, before: int = 0) -> None:
    """What dockerd leaves: layers `before` to `layers`, each upon the one below."""
    docker = out / "var/lib/docker"
    store, database = docker / "overlay2", docker / "image/overlay2/layerdb/sha256"
    (store / "l").mkdir(parents=True, exist_ok=True)
    links = [dockerstore._names(f"{n:064x}")[1] for n in range(before)]
    for number in range(before, layers):
        cache, link = secrets.token_hex(32), secrets.token_hex(13).upper()
        (store / cache / "diff").mkdir(parents=True)
        (store / cache / "diff/file").write_text(str(number))
        os.utime(store / cache / "diff/file", (12, 12))
        (store / cache / "link").write_text(link)
        if links:
            (store / cache / "lower").write_text(":".join(f"l/{x}" for x in reversed(links)))
        links.append(link)
        (store / "l" / link).symlink_to(f"../{cache}/diff")
        chain = database / f"{number:064x}"
        chain.mkdir(parents=True)
        (chain / "cache-id").write_text(cache)


def check(out: Path, layers: int = 2) -> None:
    """Go through the store as docker does."""
    docker = out / "var/lib/docker"
    store = docker / "overlay2"
    for number in range(layers):
        chain = docker / f"image/overlay2/layerdb/sha256/{number:064x}"
        layer = store / (chain / "cache-id").read_text()
        assert (layer / "diff/file").read_text() == str(number)
        assert (store / "l" / (layer / "link").read_text() / "file").read_text() == str(number)
        assert len((layer / "link").read_text()) == 26
        lower = (layer / "lower").read_text().split(":") if number else []
        found = [(store / name / "file").read_text() for name in lower]
        assert found == [str(n) for n in reversed(range(number))]
    assert len(list(store.iterdir())) == layers + 1
    assert len(list((store / "l").iterdir())) == layers


def test_names_are_the_same_in_every_build(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        out = tmp_path / name
        classic(out, 3)
        started = dockerstore.start(out)
        assert started > 12e9
        dockerstore.rename_layers(out, "overlay2")
        # As when all of it had been made after the start.
        dockerstore.set_times(out, 13_000_000_000, EPOCH)
        check(out, 3)
        found.append(list(inventory.walk(out)))
    assert found[0] == found[1]
    assert {e.mtime for e in found[0]} == {EPOCH, 12}, "a container's own files keep their times"


def test_layers_join_those_that_are_there(tmp_path: Path) -> None:
    classic(tmp_path, 2)
    dockerstore.rename_layers(tmp_path, "overlay2")
    before = {p.name for p in (tmp_path / "var/lib/docker/overlay2").iterdir()}
    classic(tmp_path, 4, before=2)
    dockerstore.rename_layers(tmp_path, "overlay2")
    check(tmp_path, 4)
    assert before < {p.name for p in (tmp_path / "var/lib/docker/overlay2").iterdir()}


def test_other_drivers_are_left_alone(tmp_path: Path) -> None:
    classic(tmp_path)
    before = list(inventory.walk(tmp_path))
    dockerstore.rename_layers(tmp_path, "vfs")
    assert list(inventory.walk(tmp_path)) == before


def left(out: Path) -> set[str]:
    return {str(p.relative_to(out / "var/lib")) for p in out.rglob("*") if not p.is_dir()}


@pytest.mark.parametrize("store", ["docker", "containerd"])
def test_only_images_stay(tmp_path: Path, store: str) -> None:
    names = [
        "docker/engine-id", "docker/network/files/local-kv.db", "docker/buildkit/cache.db",
        "docker/image/overlay2/repositories.json", "docker/image/overlay2/distribution/x",
        "docker/image/overlay2/imagedb/content/sha256/aa",
        "docker/image/overlay2/imagedb/metadata/sha256/aa/lastUpdated",
        "docker/overlay2/aa/diff/file", "docker/overlay2/backingFsBlockDev",
        "containerd/io.containerd.content.v1.content/blobs/sha256/aa",
        "containerd/io.containerd.content.v1.content/ingest/x",
        "containerd/io.containerd.metadata.v1.bolt/meta.db",
        "containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db",
        "containerd/io.containerd.snapshotter.v1.native/metadata.db",
        "containerd/io.containerd.grpc.v1.introspection/uuid",
    ]  # fmt: skip
    for name in names:
        (tmp_path / "var/lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "var/lib" / name).write_text(name)
    dockerstore.tidy(tmp_path, store, "overlay2" if store == "docker" else "overlayfs")
    if store == "docker":
        assert left(tmp_path) == {names[3], names[5], names[7]}
        assert not (tmp_path / "var/lib/containerd").exists()
        assert (tmp_path / "var/lib/docker/image/overlay2/imagedb/metadata/sha256").is_dir()
    else:
        assert left(tmp_path) == {names[9], names[11], names[12]}
        assert (tmp_path / "var/lib/docker").is_dir()
