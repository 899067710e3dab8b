"""A private registry on loopback: TLS by a CA of its own, and a login."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path

from imagebuild.stages.imagetar import LocalImage
from tests.container_images import image, layer
from tests.registry_server import RegistryServer
from tests.unit.container_images import Files, make_image

USER = "trove-guest"
#: A canary, too: it must be in the guest's docker configuration and nowhere else.
PASSWORD = "canary-registry-Zq9"  # noqa: S105 - of a registry that lives for a test
#: As the guest sees it (see `forwards` of verify's MachineSpec).
HOST = "168.0.0.100:5000"
IMAGE = f"{HOST}/trove-datastores/tiny:8.4"
#: What is preloaded, as the guest asks for it. It runs without a system around it.
DATABASE = f"{HOST}/trove-datastores/db:8.4"
DATABASE_SAYS = "ldconfig ("
#: What is installed in it, by its own word.
DATABASE_OS = "testos"
DATABASE_PACKAGE = ("testdb", "8.4.1-1")


class Registry(RegistryServer):
    """Debian's docker-registry with TLS, a login, and two small images in it, until `stop()`."""

    def __init__(self, directory: Path) -> None:
        names = f"IP:127.0.0.1,IP:{HOST.split(':')[0]}"
        super().__init__(directory, tls=names, login=(USER, PASSWORD))
        image([layer({"hello": b"hello"})]).push(self, "trove-datastores/tiny", "8.4")
        self.database = make_database(directory / "layout")
        self._push(self.database, "trove-datastores/db", "8.4")

    @property
    def database_source(self) -> str:
        """The preloaded image as the building host asks for it."""
        return f"{self.host}/trove-datastores/db:8.4"

    def login(self, directory: Path) -> Path:
        """Write docker's own file of logins for the building host; returns its directory."""
        directory.mkdir()
        words = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        content = {"auths": {self.host: {"auth": words}}}
        (directory / "config.json").write_text(json.dumps(content))
        return directory

    def blobs_asked_by_docker(self, repository: str) -> list[str]:
        """Digests that a docker has fetched, by the access log."""
        path = rf"GET /v2/trove-datastores/{repository}/blobs/(sha256:[0-9a-f]+) "
        return [
            found[1]
            for line in self.log.read_text().splitlines()
            if '"docker/' in line and (found := re.search(path, line))
        ]

    def _push(self, made: LocalImage, repository: str, tag: str) -> None:
        for blob in (made.config, *made.layers):
            assert self.blob(repository, made.path(blob).read_bytes()) == blob.digest
        manifest = made.path(made.manifest).read_bytes()
        self.manifest(repository, tag, manifest, made.manifest.media_type)


def make_database(layout: Path) -> LocalImage:
    """A container of two layers, some megabytes, that runs with any kernel: ldconfig is static."""
    name, version = DATABASE_PACKAGE
    below: Files = {
        "sbin/ldconfig": Path("/sbin/ldconfig").read_bytes(),
        "etc/os-release": f"ID={DATABASE_OS}\nVERSION_ID=1\n",
        "etc/gone": "of the lower layer",
        "data/pad": random.Random(1).randbytes(6 << 20),  # noqa: S311 - only incompressible
        "var/lib/dpkg/status": f"Package: {name}\nStatus: install ok installed\n"
        f"Architecture: amd64\nVersion: {version}\n",
    }
    above: Files = {"etc/.wh.gone": b"", "data/.wh..wh..opq": b"", "data/new": b"new"}
    return make_image(layout, DATABASE, [below, above], command=("/sbin/ldconfig", "-V"))
