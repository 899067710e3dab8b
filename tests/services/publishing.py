"""What tests of publishing share: a small artifact, the command, what Glance has."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack

from imagebuild import artifact
from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.images import Image, Images
from imagebuild.digest import digests_of_file
from imagebuild.publish.properties import BUILD_ID
from tests.services.cloud import TestCloud
from tests.unit.made_up import make_artifact, make_tree

MIB = 1 << 20


@dataclass
class Published:
    """An artifact, and the command that uploads it to a cloud of the tests."""

    cloud: TestCloud
    directory: Path
    artifact: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The artifact's manifest."""
        found: dict[str, Any] = json.loads((self.artifact / "manifest.json").read_text())
        return found

    @property
    def image(self) -> Path:
        """The artifact's first image."""
        return self.artifact / str(self.manifest["outputs"][0]["file"])

    def argv(self, *options: str, verb: str = "upload") -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "imagebuild", verb, str(self.artifact), *options]

    def environ(self) -> dict[str, str]:
        """The command's environment."""
        env = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        return env | self.cloud.environ() | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "IMAGEBUILD_CACHE_DIR": str(self.directory / "cache"),
        }  # fmt: skip

    def start(self, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The command, running."""
        return subprocess.Popen(
            self.argv(*options), env=self.environ() | dict(env or {}), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def upload(self, *options: str, env: Mapping[str, str] | None = None) -> Done:
        """The command, run to its end."""
        process = self.start(*options, env=env)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def connection(self, name: str) -> Cloud:
        """A cloud of the tests, by our own classes."""
        found = openstack.config.OpenStackConfig(
            config_files=[str(self.cloud.clouds)], load_envvars=False
        ).get_one(cloud=name)
        return Cloud(name, openstack.connection.Connection(config=found))

    def images(self, name: str = "demo") -> list[Image]:
        """The images that a project has of the build, in whatever state."""
        cloud = self.connection(name)
        build_id = str(self.manifest["build_id"])
        every = Images(cloud.image).find(owner=cloud.project_id)
        return [i for i in every if i.properties.get(BUILD_ID) == build_id]

    def stored(self) -> list[Path]:
        """The files in Glance's store and where imports are staged."""
        parts = (self.cloud.directory / p for p in ("images", "staging", "tasks"))
        return [f for part in parts for f in part.rglob("*") if f.is_file()]

    def is_whole(self, image: Image, file: Path | None = None) -> bool:
        """Whether Glance has the very bytes of a file, and says so to everybody."""
        file = file or self.image
        held = self.cloud.image_file(image.id).read_bytes()
        return image.status == "active" and held == file.read_bytes()


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def make(cloud: TestCloud, directory: Path, *sets: str, size: int = 3 * MIB) -> Published:
    """An artifact whose qcow2 image is real, of `size` bytes or some more, and verified.

    `sets` are KEY=VALUE of the profile.
    """
    place = make_artifact(make_tree(directory / "tree"), directory / "images", *sets)
    raw, image = directory / "disk", next(place.glob("*.qcow2"))
    with raw.open("wb") as file:
        file.write(os.urandom(size))
        file.truncate(size + MIB)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-f", "raw", raw, image], check=True)
    raw.unlink()
    describe(place, [image])
    verify(place, image)
    return Published(cloud, directory, place)


def describe(place: Path, images: list[Path]) -> None:
    """Write manifest and sums anew, for these images."""
    document = json.loads((place / "manifest.json").read_text())
    document["outputs"] = [
        {"file": i.name, "format": i.suffix[1:], "size": i.stat().st_size, "sha256": sha256(i)}
        for i in images
    ]
    artifact.write_description(place, document)


def verify(place: Path, image: Path, verdict: str = "passed") -> None:
    """Leave what `imagebuild verify` leaves."""
    document = {
        "schema_version": 1,
        "image": {"file": image.name, **digests_of_file(image, "sha256", "sha512")},
        "verdict": verdict, "proven": "boot" if verdict == "passed" else None,
    }  # fmt: skip
    (place / "verify.json").write_text(json.dumps(document))


def sha256(path: Path) -> str:
    """Hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
