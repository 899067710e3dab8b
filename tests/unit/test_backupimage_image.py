"""What builders make becomes an image: base layers as they are, nothing of ours in the others."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagebuild.backupimage.image import BackupImage, Built, assemble
from imagebuild.backupimage.pushing import write_tar
from imagebuild.digest import of_bytes, of_file
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.registry.manifest import Descriptor, image_config, image_manifest
from imagebuild.registry.pull import PulledImage, Resolved
from imagebuild.registry.reference import Reference

TIME = 1_700_000_000
LONG = "opt/" + "long-name/" * 15 + "file"


def plain(files: Mapping[str, str]) -> bytes:
    """A layer; long names have headers of their own before the entry."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(text), TIME
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(text.encode()))
    return raw.getvalue()


def names(blob: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        return [m.name for m in archive]


def make_base(directory: Path, kind: str = "application/vnd.docker.image.rootfs.diff.tar.gzip",
              pack: bool = True) -> PulledImage:  # fmt: skip
    raw = plain({"etc/base": "1"})
    blob = gzip.compress(raw, 9, mtime=5) if pack else raw
    path = directory / "base-layer"
    path.write_bytes(blob)
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin", "no_proxy=kept"], "Labels": {"of": "base"}},
            "history": [{"created_by": "base"}],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{of_bytes(raw)}"]},
        }
    ).encode()  # fmt: skip
    layer = Descriptor(kind, f"sha256:{of_bytes(blob)}", len(blob))
    other = Descriptor("x", f"sha256:{'0' * 64}", 1)
    resolved = Resolved(Reference.parse("r.example/base:1"), "amd64", other, other, other, (layer,))
    return PulledImage(resolved, b"", config, image_config(config, ""), (path,))


def built(directory: Path, base: PulledImage, *layers: Mapping[str, str],
          history: list[dict[str, Any]] | None = None, **config: object) -> Built:  # fmt: skip
    paths: list[Path | None] = [None]
    ids = list(base.image.diff_ids)
    for number, files in enumerate(layers):
        path = directory / f"layer-{number}"
        path.write_bytes(plain(files))
        ids.append(f"sha256:{of_file(path)}")
        paths.append(path)
    said = [{"created_by": "base"}, *(history or [])]
    document = {
        "architecture": "amd64", "os": "linux", "container": "abc", "docker_version": "20",
        "config": {"Shell": ["/.imagebuild/shell"], "Hostname": "h", **config},
        "history": said, "rootfs": {"type": "layers", "diff_ids": ids},
    }  # fmt: skip
    return Built(json.dumps(document).encode(), tuple(paths))


def read(image: BackupImage) -> tuple[dict[str, Any], list[bytes]]:
    parts = image_manifest(image.manifest, "")
    config = json.loads(b"".join(image.read(parts.config)))
    blobs = [b"".join(image.read(layer)) for layer in parts.layers]
    for layer, blob in zip(parts.layers, blobs, strict=True):
        assert (layer.digest, layer.size) == (f"sha256:{of_bytes(blob)}", len(blob))
    ids = [_diff_id(b) for b in blobs]
    assert config["rootfs"]["diff_ids"] == ids
    return config, blobs


def _diff_id(blob: bytes) -> str:
    return f"sha256:{of_bytes(gzip.decompress(blob) if blob[:2] == bytes([31, 139]) else blob)}"


def test_layers_of_the_base_are_its_registrys_own_blobs(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    image = assemble(built(tmp_path, base, {"a": "1"}), base, {}, TIME, tmp_path / "out")
    first = image_manifest(image.manifest, "").layers[0]
    assert first.digest == base.resolved.layers[0].digest
    assert first.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    read(image)


def test_a_base_that_is_not_compressed_stays_so(tmp_path: Path) -> None:
    base = make_base(tmp_path, "application/vnd.oci.image.layer.v1.tar", pack=False)
    image = assemble(built(tmp_path, base, {"a": "1"}), base, {}, TIME, tmp_path / "out")
    first = image_manifest(image.manifest, "").layers[0]
    assert first.media_type == "application/vnd.oci.image.layer.v1.tar"
    read(image)


def test_what_was_lent_is_in_no_layer_and_in_no_history(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    lent = {".imagebuild/": "", ".imagebuild/shell": "x", ".imagebuild/auth.conf": "canary"}
    mixed = {".imagebuild/": "", LONG: "2", "etc/": "", "etc/x": "3"}
    made = built(
        tmp_path, base, lent, mixed,
        history=[
            {"created_by": "/bin/sh -c #(nop)  LABEL io.imagebuild.leftover=/x",
             "empty_layer": True},
            {"created_by": "/bin/sh -c #(nop) COPY dir:1 in /.imagebuild "},
            {"created_by": "/bin/sh -c #(nop)  SHELL [/.imagebuild/shell]", "empty_layer": True},
            {"created_by": "|1 A=b /.imagebuild/shell make it"},
        ],
    )  # fmt: skip
    config, blobs = read(assemble(made, base, {}, TIME, tmp_path / "out"))
    assert len(blobs) == 2
    assert names(blobs[1]) == [LONG, "etc", "etc/x"]
    assert "imagebuild" not in json.dumps(config)
    told = [(h["created_by"], h.get("empty_layer", False)) for h in config["history"]]
    assert told == [("base", False), ("|1 A=b /bin/sh -c make it", False)]
    assert config["history"][1]["created"] == "2023-11-14T22:13:20Z"
    assert not any(
        b"canary" in p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    )


def test_the_configuration_has_what_a_guest_reads(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    made = built(
        tmp_path, base, {"a": "1"},
        Env=["PATH=/venv:/bin", "no_proxy=kept", "HTTPS_PROXY=http://me:pw@proxy"],
        Labels={"of": "base", "io.buildah.version": "1", "maintainer": "m"},
        Entrypoint=["dumb-init"], WorkingDir="/opt",
    )  # fmt: skip
    image = assemble(made, base, {"imagebuild.datastore": "mysql"}, TIME, tmp_path / "out")
    config, _ = read(image)
    assert config["config"] == {
        "Env": ["PATH=/venv:/bin", "no_proxy=kept"],
        "Labels": {"of": "base", "maintainer": "m", "imagebuild.datastore": "mysql"},
        "Entrypoint": ["dumb-init"],
        "WorkingDir": "/opt",
    }
    assert set(config) == {"architecture", "os", "config", "created", "history", "rootfs"}
    assert config["created"] == image.created == "2023-11-14T22:13:20Z"


def test_the_same_makes_the_same(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    made = built(tmp_path, base, {"a": "1", LONG: "2"})
    one = assemble(made, base, {"a": "b"}, TIME, tmp_path / "one")
    two = assemble(made, base, {"a": "b"}, TIME, tmp_path / "two")
    assert one.manifest.digest == two.manifest.digest
    other = assemble(made, base, {"a": "c"}, TIME, tmp_path / "three")
    assert other.manifest.digest != one.manifest.digest


def test_an_image_on_another_base_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    made = built(tmp_path, base, {"a": "1"})
    config = json.loads(made.config)
    config["rootfs"]["diff_ids"][0] = f"sha256:{'1' * 64}"
    with pytest.raises(BuildError, match="does not stand on its base"):
        assemble(Built(json.dumps(config).encode(), made.layers), base, {}, TIME, tmp_path / "out")


def test_a_layer_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    made = built(tmp_path, base, {"a": "1" * 5000})
    path = made.layers[1]
    assert path
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BuildError):
        assemble(made, base, {}, TIME, tmp_path / "out")


def test_a_tar_of_it_is_one_that_skopeo_reads(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    image = assemble(built(tmp_path, base, {"a": "1"}), base, {"x": "y"}, TIME, tmp_path / "out")
    target = tmp_path / "image.tar"
    write_tar(image, ["r.example/db-backup-mysql:8.4"], target)
    name = f"oci-archive:{target}:r.example/db-backup-mysql:8.4"
    said = json.loads(run(["skopeo", "inspect", name]).stdout)
    assert said["Digest"] == image.manifest.digest
    assert said["Labels"] == {"x": "y"}
    assert [p.name for p in tmp_path.glob("*.tar*")] == ["image.tar"]
