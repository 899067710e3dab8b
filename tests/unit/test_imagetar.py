"""The archives that `docker load` gets: what is in them, and that they are whole."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from imagebuild.digest import of_bytes
from imagebuild.errors import BuildError
from imagebuild.stages.imagetar import LocalImage, docker_stream, oci_stream
from tests.unit.container_images import make_image

NAME = "r.example:5000/trove/db:8.4"


def members(stream: Iterable[bytes]) -> dict[str, bytes]:
    """What tar finds in the stream."""
    data = b"".join(stream)
    assert len(data) % 512 == 0
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file
            found[entry.name] = file.read()
    return found


@pytest.fixture
def image(tmp_path: Path) -> LocalImage:
    return make_image(tmp_path / "layout", NAME, [{"a": b"a" * 3000}, {"b": b""}])


def test_the_layout_has_the_image_as_it_was_fetched(image: LocalImage) -> None:
    found = members(oci_stream(image))
    assert json.loads(found.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(found.pop("index.json"))["manifests"]
    assert entry["digest"] == image.manifest.digest
    assert entry["annotations"] == {
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": "8.4",
    }
    assert len(found) == 4
    for name, data in found.items():
        assert name == f"blobs/sha256/{of_bytes(data)}"
    assert f"blobs/{entry['digest'].replace(':', '/')}" in found


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_the_archive_can_be_read_by_every_docker(tmp_path: Path, compression: str) -> None:
    files = [{"a": b"a" * 3000}, {"b": b""}, {"a": b"a" * 3000}]
    image = make_image(tmp_path / "layout", NAME, files, compression)
    found = members(docker_stream(image, tmp_path))
    (entry,) = json.loads(found.pop("manifest.json"))
    assert entry["RepoTags"] == [NAME]
    assert f"sha256:{of_bytes(found[entry['Config']])}" == image.config.digest
    assert len(found) == 3, "a layer that is there twice is sent once"
    for path, diff_id in zip(entry["Layers"], image.diff_ids, strict=True):
        data = found[path]
        if compression == "gzip":
            assert data[:2] == b"\x1f\x8b"
        else:  # docker knows zstd only since version 23
            assert f"sha256:{of_bytes(data)}" == diff_id


def test_a_layer_that_shrinks_ends_it(image: LocalImage) -> None:
    biggest = max(image.layers, key=lambda b: b.size)

    def send() -> None:
        for block in oci_stream(image):
            if biggest.digest.removeprefix("sha256:").encode() in block[:100]:
                image.path(biggest).write_bytes(b"")

    with pytest.raises(BuildError, match="became shorter"):
        send()


def test_a_damaged_layer_is_named(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", NAME, [{"a": b"a"}], "zstd")
    image.path(image.layers[0]).write_bytes(b"nothing")
    with pytest.raises(BuildError) as caught:
        list(docker_stream(image, tmp_path))
    assert caught.value.where == str(image.path(image.layers[0]))


def test_json_and_back(image: LocalImage) -> None:
    assert LocalImage.from_json(json.loads(json.dumps(image.to_json()))) == image
