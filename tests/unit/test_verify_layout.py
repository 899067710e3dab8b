"""Where partitions are, and preloaded containers in docker's stores."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from imagebuild.errors import VerifyError
from imagebuild.verify.layout import read_layout
from imagebuild.verify.results import Outcome
from imagebuild.verify.static import check_static
from imagebuild.verify.superblock import read_superblock
from imagebuild.verify.tree import Tree
from tests.unit.disk_image import MIB, SIZE, File, debugfs, make_disk, text
from tests.unit.small_guest import CONTENT, asked, guest

DIFFS = ["sha256:" + hashlib.sha256(x).hexdigest() for x in (b"one", b"two")]
CHAIN = hashlib.sha256(" ".join(DIFFS).encode()).hexdigest()
CONFIG = "ab" * 32
CLASSIC = "/var/lib/docker/image/overlay2"
BLOBS = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
NAME = "registry.example:5000/mariadb:11.4"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk", {"/etc/one": text("1")})


def test_root_of_a_gpt_is_found(disk: Path) -> None:
    layout = read_layout(disk)
    assert (layout.kind, layout.root.offset, layout.root.name) == ("gpt", MIB, "root")


def test_root_of_an_mbr_is_found(disk: Path) -> None:
    """As diskimage-builder makes it: one partition, no GPT."""
    record = struct.pack("<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), 2048, SIZE // 512)
    with disk.open("r+b") as file:
        file.write(bytes(34 * 512))
        file.seek(446)
        file.write(record + bytes(48) + b"\x55\xaa")
    layout = read_layout(disk)
    assert (layout.kind, layout.root.offset) == ("mbr", MIB)
    assert Tree(disk, layout.partitions, layout.root).read_text("/etc/one") == "1"
    checks = {c.name: c for c in check_static(disk, disk.parent)}
    assert checks["static/disk/partitions"].outcome is Outcome.WARNING
    assert checks["static/filesystem/clean"].outcome is Outcome.PASSED


def test_filesystem_without_a_table_is_the_root(disk: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    with disk.open("rb") as file:
        file.seek(MIB)
        bare.write_bytes(file.read(SIZE))
    layout = read_layout(bare)
    assert (layout.kind, layout.root.offset) == ("none", 0)
    assert Tree(bare, layout.partitions, layout.root).exists("/etc/one")


def test_disk_without_a_filesystem_is_refused(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(bytes(MIB))
    with pytest.raises(VerifyError):
        read_layout(disk)


def test_superblock_is_what_debugfs_says(disk: Path) -> None:
    debugfs(disk, ["set_super_value volume_name some-label"])
    block = read_superblock(Tree(disk).fs)
    said = debugfs(disk, ["stats -h"])
    assert block.label == "some-label"
    assert f"Free blocks:              {block.free_blocks}\n" in said
    assert f"Free inodes:              {block.free_inodes}\n" in said
    assert f"Filesystem UUID:          {block.uuid}\n" in said
    assert ("metadata_csum_seed" in said) == ("metadata_csum_seed" in block.young_features)


def store(*, layers: int = 2, config: str = CONFIG) -> dict[str, File]:
    """moby's store with an image of two layers, of which `layers` are there."""
    names = {"registry.example:5000/mariadb": {NAME: f"sha256:{config}"}}
    found = {
        f"{CLASSIC}/repositories.json": text(json.dumps({"Repositories": names})),
        f"{CLASSIC}/imagedb/content/sha256/{config}": text(
            json.dumps({"rootfs": {"diff_ids": DIFFS}})
        ),
    }
    for number, chain in enumerate((DIFFS[0][7:], CHAIN)[:layers]):
        found[f"{CLASSIC}/layerdb/sha256/{chain}/cache-id"] = text(f"layer{number}")
        found[f"/var/lib/docker/overlay2/layer{number}/diff/x"] = text("")
    return found


CONTAINERD = {f"{BLOBS}/{'cd' * 32}": text(""), f"{BLOBS}/{CONFIG}": text("")}


@pytest.mark.parametrize(
    ("files", "outcome"),
    [
        (store(), Outcome.PASSED),
        (store(layers=1), Outcome.FAILED),
        (store(config="cd" * 32), Outcome.FAILED),
        ({f"{CLASSIC}/repositories.json": text('{"Repositories": {}}')}, Outcome.FAILED),
        ({f"{CLASSIC}/repositories.json": text('{"Repo')}, Outcome.FAILED),
        ({}, Outcome.FAILED),
        (CONTAINERD, Outcome.PASSED),
        (dict(list(CONTAINERD.items())[:1]), Outcome.FAILED),
    ],
    ids=["classic", "layer", "other", "none", "damaged", "no-store", "containerd", "blob"],
)
def test_preloaded_image_is_whole(files: dict[str, File], outcome: Outcome, tmp_path: Path) -> None:
    entry = {"target": NAME, "config": f"sha256:{CONFIG}", "manifest": f"sha256:{'cd' * 32}"}
    content = json.dumps({**CONTENT, "containers": [entry]})
    subject = guest(tmp_path, {**files, "/etc/imagebuild/content.json": text(content)})
    (check,) = asked(subject, "static/containers")
    assert check.outcome is outcome, (check.what, check.evidence)
