"""A private registry on loopback: TLS by a CA of its own, and a login."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import subprocess
import tarfile
import time
from pathlib import Path

import bcrypt
import requests

from imagebuild.host.run import need, run, spawn
from imagebuild.stages.imagetar import LocalImage
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


class Registry:
    """Debian's docker-registry with one small image in it, until `stop()`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.ca = directory / "ca.pem"
        self.port = 0
        _make_certificates(directory)
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (directory / "htpasswd").write_text(f"{USER}:{hashed}\n")
        self._directory = directory
        self._process = self._start()
        self._push()
        self.database = make_database(directory / "layout")
        self._push_image(self.database, "db", "8.4")

    @property
    def database_source(self) -> str:
        """The preloaded image as the building host asks for it."""
        return f"127.0.0.1:{self.port}/trove-datastores/db:8.4"

    def login(self, directory: Path) -> Path:
        """Write docker's own file of logins for the building host; returns its directory."""
        directory.mkdir()
        words = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        content = {"auths": {f"127.0.0.1:{self.port}": {"auth": words}}}
        (directory / "config.json").write_text(json.dumps(content))
        return directory

    def blobs_asked_by_docker(self, repository: str) -> list[str]:
        """Digests that a docker has fetched, by the access log."""
        log = (self._directory / "registry.log").read_text()
        path = rf"GET /v2/trove-datastores/{repository}/blobs/(sha256:[0-9a-f]+) "
        return [
            found[1]
            for line in log.splitlines()
            if '"docker/' in line and (found := re.search(path, line))
        ]

    def _start(self) -> subprocess.Popen[bytes]:
        here = self._directory
        config = here / "config.yml"
        config.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "warn"},
                    "storage": {"filesystem": {"rootdirectory": str(here / "data")}},
                    "http": {
                        # A free port, which the log names.
                        "addr": "127.0.0.1:0",
                        "tls": {"certificate": str(here / "tls.pem"), "key": str(here / "tls.key")},
                    },
                    "auth": {"htpasswd": {"realm": "test", "path": str(here / "htpasswd")}},
                }
            )
        )
        log = (here / "registry.log").open("wb")
        # With the thread of the session that starts it, however that ends.
        process = spawn(
            [need("docker-registry"), "serve", config],
            stdout=log, stderr=log, die_with_parent=True,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.port:
            assert process.poll() is None, (here / "registry.log").read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            self.port = _listening_port(process.pid)
            time.sleep(0.05)
        return process

    def _push(self) -> None:
        """Put an image with one file into it (OCI distribution specification, "Push")."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w:gz") as archive:
            entry = tarfile.TarInfo("hello")
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"hello"))
        plain = hashlib.sha256(_gunzip(layer.getvalue())).hexdigest()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]},
            }
        ).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self._blob(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [
                self._blob(layer.getvalue(), "application/vnd.docker.image.rootfs.diff.tar.gzip")
            ],
        }
        answer = self._ask(
            "PUT", f"{self._base}/manifests/8.4", data=json.dumps(manifest),
            headers={"Content-Type": kind},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text

    def _push_image(self, image: LocalImage, repository: str, tag: str) -> None:
        base = f"https://127.0.0.1:{self.port}/v2/trove-datastores/{repository}"
        for blob in (image.config, *image.layers):
            self._blob(image.path(blob).read_bytes(), blob.media_type, base)
        answer = self._ask(
            "PUT", f"{base}/manifests/{tag}", data=image.path(image.manifest).read_bytes(),
            headers={"Content-Type": image.manifest.media_type},
        )  # fmt: skip
        assert answer.headers["Docker-Content-Digest"] == image.manifest.digest, answer.text

    @property
    def _base(self) -> str:
        return f"https://127.0.0.1:{self.port}/v2/trove-datastores/tiny"

    def _ask(self, method: str, url: str, **options: object) -> requests.Response:
        return requests.request(
            method, url, auth=(USER, PASSWORD), verify=str(self.ca), timeout=30, **options  # type: ignore[arg-type]
        )  # fmt: skip

    def _blob(self, data: bytes, kind: str, base: str = "") -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = self._ask("POST", f"{base or self._base}/blobs/uploads/").headers["Location"]
        url = f"{place}&digest={digest}"
        assert self._ask("PUT", url, data=data).status_code == 201
        return {"mediaType": kind, "size": len(data), "digest": digest}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


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


def _gunzip(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def _make_certificates(here: Path) -> None:
    """A CA, and by it a server's certificate for loopback and for the guest's address."""
    names = f"subjectAltName=IP:127.0.0.1,IP:{HOST.split(':')[0]}"
    request = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    run([*request, "-x509", "-days", "30", "-subj", "/CN=imagebuild test registry CA",
         "-keyout", here / "ca.key", "-out", here / "ca.pem"])  # fmt: skip
    run([*request, "-x509", "-days", "30", "-subj", "/CN=registry", "-addext", names,
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-CA", here / "ca.pem", "-CAkey", here / "ca.key",
         "-keyout", here / "tls.key", "-out", here / "tls.pem"])  # fmt: skip
    (here / "ca.key").unlink()


def _listening_port(pid: int) -> int:
    """The port that a process listens on, from the kernel's tables; 0 while there is none."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    return 0
