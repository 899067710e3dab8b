"""The artifact: whole or not at all."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from imagebuild import artifact, components, inventory, sbom
from imagebuild.claims import claim_file
from imagebuild.digest import of_file
from imagebuild.errors import BuildError, ConfigError, PreflightError
from imagebuild.host.run import run
from tests.unit.test_plan import make_inputs, plan_of


def make_artifact(directory: Path, text: str = "image") -> dict[str, Any]:
    """An artifact with one image; returns its manifest."""
    directory.mkdir(parents=True)
    inputs = make_inputs()
    plan = plan_of(inputs)
    image = directory / f"{plan.name}.qcow2"
    image.write_text(text)
    content = {"packages": {"adduser": "3.134"}, "python_packages": {"trove": "25.0.0"}}
    for name in (inventory.FILE_NAME, components.FILE_NAME, sbom.SPDX, sbom.CYCLONEDX):
        (directory / name).write_bytes(b"files")
    described = {"content": content, "rootfs": {"sha256": "9" * 64, "entries": 2, "bytes": 5}}
    document = artifact.manifest(plan, inputs, described, [image])
    artifact.write_description(directory, document)
    artifact.write_json(directory / "timing.json", {"seconds": 1.5})
    return document


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_description(tmp_path: Path) -> None:
    document = make_artifact(tmp_path / "a")
    image = f"{document['name']}.qcow2"
    assert names(tmp_path / "a") == sorted(
        [
            image,
            "SHA256SUMS",
            "components.json.gz",
            "manifest.json",
            "packages.txt",
            "rootfs.jsonl.gz",
            "sbom.cdx.json",
            "sbom.spdx.json",
            "timing.json",
        ]
    )
    assert json.loads((tmp_path / "a/manifest.json").read_text()) == document
    plan = plan_of(make_inputs())
    assert (document["schema_version"], document["build_id"]) == (1, plan.build_id)
    assert [s["id"] for s in document["stages"]] == [s.id for s in plan.stages]
    assert document["outputs"] == [
        {
            "file": image,
            "format": "qcow2",
            "size": 5,
            "sha256": of_file(tmp_path / "a" / image),
        }
    ]
    packages = (tmp_path / "a/packages.txt").read_text()
    assert packages == "adduser 3.134\npython:trove 25.0.0\n"


def test_sha256sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    document = make_artifact(tmp_path / "a")
    image = f"{document['name']}.qcow2"
    good = run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path / "a")
    assert good.stdout.decode().splitlines() == [
        f"{image}: OK", "manifest.json: OK", "packages.txt: OK", "rootfs.jsonl.gz: OK",
        "components.json.gz: OK", "sbom.spdx.json: OK", "sbom.cdx.json: OK",
    ]  # fmt: skip
    (tmp_path / "a" / image).write_text("imago")
    bad = run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "a", check=False)
    assert bad.returncode == 1


def test_an_artifact_of_the_same_build_stands(tmp_path: Path) -> None:
    document = make_artifact(tmp_path / "a")
    assert artifact.standing(tmp_path / "a", document["build_id"]) == document
    # What is not of the build itself may be another.
    (tmp_path / "a/timing.json").unlink()
    (tmp_path / "a/notes.txt").touch()
    assert artifact.standing(tmp_path / "a", document["build_id"]) == document
    assert artifact.standing(tmp_path / "a", "0" * 64) is None
    assert artifact.standing(tmp_path / "b", document["build_id"]) is None


@pytest.mark.parametrize(
    "name", ["*.qcow2", "SHA256SUMS", "manifest.json", "packages.txt", "*.gz", "sbom.*"]
)
@pytest.mark.parametrize("harm", ["one bit", "missing", "a directory"])
def test_a_damaged_artifact_does_not_stand(tmp_path: Path, name: str, harm: str) -> None:
    document = make_artifact(tmp_path / "a")
    for path in (tmp_path / "a").glob(name):
        data = path.read_bytes()
        path.unlink()
        if harm == "one bit":
            # In the middle: the last line feed of a document says nothing.
            path.write_bytes(data[:2] + bytes([data[2] ^ 1]) + data[3:])
        elif harm == "a directory":
            path.mkdir()
        assert artifact.standing(tmp_path / "a", document["build_id"]) is None
        if path.is_dir():
            path.rmdir()
        path.write_bytes(data)
        assert artifact.standing(tmp_path / "a", document["build_id"]) == document


@pytest.mark.parametrize("left_out", ["*.qcow2", "manifest.json", "rootfs.jsonl.gz"])
def test_sums_that_leave_something_out_are_no_proof(tmp_path: Path, left_out: str) -> None:
    document = make_artifact(tmp_path / "a")
    sums = tmp_path / "a/SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    (gone,) = (tmp_path / "a").glob(left_out)
    sums.write_text("".join(x for x in lines if not x.endswith(f"  {gone.name}\n")))
    assert artifact.standing(tmp_path / "a", document["build_id"]) is None


def test_sums_that_fit_another_image_are_no_proof(tmp_path: Path) -> None:
    """The manifest has the image's digest, too."""
    document = make_artifact(tmp_path / "a")
    (image,) = (tmp_path / "a").glob("*.qcow2")
    before = of_file(image)
    image.write_text("imago")
    sums = tmp_path / "a/SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, of_file(image)))
    assert artifact.standing(tmp_path / "a", document["build_id"]) is None


def test_place_replaces_an_older_artifact(tmp_path: Path) -> None:
    make_artifact(tmp_path / "final", "old")
    (tmp_path / "final/leftover").touch()
    make_artifact(tmp_path / ".partial", "new")
    artifact.place(tmp_path / ".partial", tmp_path / "final")
    assert names(tmp_path) == ["final"]
    assert not (tmp_path / "final/leftover").exists()
    assert next((tmp_path / "final").glob("*.qcow2")).read_text() == "new"


def test_place_where_nothing_is(tmp_path: Path) -> None:
    make_artifact(tmp_path / ".partial")
    artifact.place(tmp_path / ".partial", tmp_path / "final")
    assert names(tmp_path) == ["final"]


def test_place_that_fails_leaves_the_older_artifact(tmp_path: Path) -> None:
    make_artifact(tmp_path / "final", "old")
    with pytest.raises(OSError, match="No such file"):
        artifact.place(tmp_path / "not-there", tmp_path / "final")
    assert names(tmp_path) == ["final"]
    assert next((tmp_path / "final").glob("*.qcow2")).read_text() == "old"


def test_the_new_one_is_whole_before_the_older_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing takes time, and can be killed: what has the name then is whole."""
    make_artifact(tmp_path / "final", "old")
    make_artifact(tmp_path / ".partial", "new")
    removed = []

    def watch(path: Path) -> None:
        removed.append(path)
        assert next((tmp_path / "final").glob("*.qcow2")).read_text() == "new"
        assert len(names(tmp_path / "final")) == 9
        assert [x for x in names(tmp_path) if not x.startswith(".")] == ["final"]

    monkeypatch.setattr(shutil, "rmtree", watch)
    artifact.place(tmp_path / ".partial", tmp_path / "final")
    assert len(removed) == 1


def test_older_artifact_and_new_one_change_places_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two renames there would be a moment without an artifact."""
    make_artifact(tmp_path / "final", "old")
    make_artifact(tmp_path / ".partial", "new")

    def refuse(self: Path, target: Path) -> None:
        raise AssertionError(f"{self} was renamed to {target}")

    monkeypatch.setattr(Path, "rename", refuse)
    artifact.place(tmp_path / ".partial", tmp_path / "final")
    assert names(tmp_path) == ["final"]
    assert next((tmp_path / "final").glob("*.qcow2")).read_text() == "new"


def test_link_to_the_newest_is_always_there(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    artifact.link_newest(tmp_path / "one", "newest")
    gone, stop = list[str](), threading.Event()

    def look() -> None:
        while not stop.is_set():
            if not (tmp_path / "newest").is_symlink():
                gone.append("gone")

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for name in ("two", "one") * 100:
            artifact.link_newest(tmp_path / name, "newest")
            assert (tmp_path / "newest").readlink() == Path(name)
    finally:
        stop.set()
        watcher.join()
    assert gone == []
    assert names(tmp_path) == ["newest", "one", "two"]


def test_link_leaves_a_user_s_own_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "newest").mkdir()
    (tmp_path / "newest/mine").touch()
    artifact.link_newest(tmp_path / "one", "newest")
    assert names(tmp_path / "newest") == ["mine"]
    assert names(tmp_path) == ["newest", "one"]


def test_link_that_points_nowhere_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to("removed")
    (tmp_path / "one").mkdir()
    artifact.link_newest(tmp_path / "one", "newest")
    assert (tmp_path / "newest").readlink() == Path("one")


def test_targets_that_will_do(tmp_path: Path) -> None:
    make_artifact(tmp_path / "older")
    (tmp_path / "empty").mkdir()
    for name in ("older", "empty", "new", "new/below"):
        artifact.check_target(tmp_path / name)
    assert names(tmp_path) == ["empty", "older"]


def test_target_with_something_else_in_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").touch()
    with pytest.raises(ConfigError) as caught:
        artifact.check_target(tmp_path / "home")
    assert caught.value.what == "the artifact directory holds something else"
    assert caught.value.where == str(tmp_path / "home")
    assert "--artifacts" in caught.value.hint


def test_target_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="the artifact directory is a file"):
        artifact.check_target(tmp_path / "file")


def test_below_a_file_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for check in (artifact.check_writable, artifact.check_target):
        with pytest.raises(PreflightError) as caught:
            check(tmp_path / "file/deep/er")
        assert caught.value.what == "cannot write there"
        assert caught.value.detail == (
            f"{tmp_path / 'file'} is not a directory that you may write in"
        )


def test_writable_needs_nothing_to_exist(tmp_path: Path) -> None:
    artifact.check_writable(tmp_path / "a/b/c")
    assert names(tmp_path) == []


def place_file(source: Path, target: Path) -> None:
    with claim_file(target, on_wait=None) as partial:
        artifact.place_file(source, partial, target)


def test_place_file_copies(tmp_path: Path) -> None:
    source, target = tmp_path / "image.raw", tmp_path / "new/place/disk.raw"
    with source.open("wb") as file:
        file.write(b"boot")
        file.truncate(64 << 20)
    place_file(source, target)
    assert target.stat().st_ino != source.stat().st_ino
    assert target.stat().st_size == 64 << 20
    assert target.stat().st_blocks * 512 < 1 << 20, "the holes were filled"
    target.write_bytes(b"a guest has written here")
    assert source.read_bytes()[:4] == b"boot"
    assert names(target.parent) == ["disk.raw"]


def test_place_file_is_no_more_readable_than_its_source(tmp_path: Path) -> None:
    source = tmp_path / "image.raw"
    source.write_bytes(b"key")
    source.chmod(0o600)
    place_file(source, tmp_path / "disk.raw")
    assert (tmp_path / "disk.raw").stat().st_mode & 0o777 == 0o600


def test_place_file_replaces_without_touching_who_has_it_open(tmp_path: Path) -> None:
    source, target = tmp_path / "image.raw", tmp_path / "disk.raw"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with target.open("rb") as held:
        place_file(source, target)
        assert held.read() == b"old"
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["disk.raw", "image.raw"]


def test_place_file_that_fails_leaves_what_was(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"old")
    with pytest.raises(BuildError, match="cannot write") as caught:
        place_file(tmp_path / "gone.raw", target)
    assert caught.value.what == f"cannot write {target}"
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["disk.raw"]
