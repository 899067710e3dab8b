"""Artifacts are opened by any of their names; what is not whole is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuild import artifact, components, inventory, manifest, sbom
from imagebuild.digest import of_file
from imagebuild.errors import ConfigError
from imagebuild.manifest import Unit, open_artifact
from tests.unit.made_up import make_artifact, make_tree


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory of images with one artifact and the link to it."""
    images = tmp_path / "images"
    made = make_artifact(make_tree(tmp_path / "tree"), images)
    artifact.link_newest(made, "trove-guest-debian-bookworm-amd64")
    return images


@pytest.fixture
def made(images: Path) -> Path:
    return (images / "trove-guest-debian-bookworm-amd64").resolve()


def test_every_name_of_an_artifact(images: Path, made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copied.qcow2"
    shutil.copyfile(next(made.glob("*.qcow2")), copy)
    (tmp_path / "link.qcow2").symlink_to(next(made.glob("*.qcow2")))
    for path in (
        made, images / "trove-guest-debian-bookworm-amd64", made / "manifest.json",
        next(made.glob("*.qcow2")), Path(made.name), Path("trove-guest-debian-bookworm-amd64"),
        copy, tmp_path / "link.qcow2",
    ):  # fmt: skip
        assert open_artifact(path, images).directory == made, path


def test_what_it_says(made: Path) -> None:
    view = open_artifact(made)
    document = json.loads((made / "manifest.json").read_text())
    assert (view.name, view.build_id) == (made.name, document["build_id"])
    assert view.rootfs == document["rootfs"]["sha256"]
    assert view.content["packages"]["dpkg"] == "1.21.22"
    assert view.stage("agent")["id"] == document["stages"][1]["id"]
    assert view.stage("nothing") == {}
    (image,) = view.images
    assert (image.format, image.size, image.virtual_size) == ("qcow2", 5, 5 << 30)
    assert image.allocated is not None
    image.path.unlink()
    assert image.allocated is None
    assert len(view.inventory) == len(view.components.owners) == document["rootfs"]["entries"]
    assert view.timing["seconds"] == 70
    assert view.sbom(sbom.SPDX)["spdxVersion"] == "SPDX-2.3"


def test_units(made: Path) -> None:
    assert manifest.units(open_artifact(made).inventory) == [
        Unit("apt-daily.timer", (), True),
        Unit("docker.socket", ("sockets.target",)),
        Unit("guest-agent.service", ("multi-user.target",)),
    ]


def test_sums(made: Path) -> None:
    # A dev image's artifact has a directory.
    (made / "dev").mkdir()
    (made / "dev/key").write_text("key")
    with (made / "SHA256SUMS").open("a") as file:
        file.write(f"{of_file(made / 'dev/key')}  dev/key\n")
    view = open_artifact(made)
    assert set(view.sums) == {view.images[0].path.name, *artifact.DESCRIPTIONS, "dev/key"}
    assert view.wrong_sums() == {}
    view.images[0].path.write_text("imago")
    (made / "packages.txt").unlink()
    assert view.wrong_sums() == {view.images[0].path.name: "differs", "packages.txt": "missing"}


@pytest.mark.parametrize(
    "text", ["no sums\n", f"{'1' * 64}  ../elsewhere\n", f"{'1' * 64}  /etc/passwd\n", "\n"]
)
def test_sums_that_are_none(made: Path, text: str) -> None:
    (made / "SHA256SUMS").write_text(text)
    with pytest.raises(ConfigError, match="cannot read a file of the artifact"):
        open_artifact(made).wrong_sums()


def changed(made: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = made / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "what", "detail"),
    [
        (lambda d: d.update(schema_version=99), "of a kind that this version", "is 99, known: 1"),
        (lambda d: d.pop("schema_version"), "of a kind that this version", "is None"),
        (lambda d: d.pop("content"), "not whole", "content is missing or of a wrong type"),
        (lambda d: d.update(name=5), "not whole", "name is missing or of a wrong type"),
        (lambda d: d["outputs"][0].pop("size"), "not whole", r"outputs\[0\].size is missing"),
        (lambda d: d.update(outputs=["x"]), "not whole", r"outputs\[0\].file is missing"),
    ],
)
def test_manifests_that_are_refused(
    made: Path, change: Callable[[dict[str, Any]], object], what: str, detail: str
) -> None:
    changed(made, change)
    with pytest.raises(ConfigError, match=what) as caught:
        open_artifact(made)
    assert re.search(detail, caught.value.detail)
    assert caught.value.where == str(made / "manifest.json")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_manifests_that_are_no_json(made: Path, text: str) -> None:
    (made / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="cannot read a file of the artifact"):
        open_artifact(made)


def test_what_is_no_artifact(images: Path, made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.qcow2"
    other.write_text("other")
    os.mkfifo(tmp_path / "pipe.json")
    for path, what in (
        (Path("nothing-of-that-name"), "there is no such artifact"),
        (tmp_path / "nothing", "there is no such artifact"),
        (tmp_path, "this is no artifact"),
        (tmp_path / "pipe.json", "this is no artifact"),
        (other, "no manifest describes this file"),
        # Beside a manifest, but not one of its images.
        (made / "packages.txt", "no manifest describes this file"),
    ):
        with pytest.raises(ConfigError, match=what):
            open_artifact(path, images)


def test_files_of_another_image_are_refused(made: Path, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree2", **{"etc/more": "more"})
    other = make_artifact(tree, tmp_path / "images2")
    for name in (inventory.FILE_NAME, components.FILE_NAME):
        shutil.copyfile(other / name, made / name)
    view = open_artifact(made)
    with pytest.raises(ConfigError, match="of another image"):
        _ = view.inventory
    with pytest.raises(ConfigError, match="the list of components is of another image"):
        _ = view.components


def test_files_that_are_not_there(made: Path) -> None:
    for name in (inventory.FILE_NAME, components.FILE_NAME, "timing.json"):
        (made / name).unlink()
    view = open_artifact(made)
    assert not view.has(inventory.FILE_NAME)
    for read in (lambda: view.inventory, lambda: view.components, lambda: view.timing):
        with pytest.raises(ConfigError, match="cannot read"):
            read()
