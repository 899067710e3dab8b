"""Debian's docker-registry on loopback: open, with a login or tokens, plain or TLS."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path

import bcrypt
import requests

from imagebuild.host.run import need, run, spawn
from tests.token_server import TokenServer

#: What a certificate is for when only this host asks.
LOOPBACK = "IP:127.0.0.1,DNS:localhost"


class RegistryServer:
    """A registry with nothing in it, until `stop()` or the end of the block.

    `tls` are the names of its certificate, as in a subjectAltName; "" is plain http. With
    `client_certificates` it wants one of its CA, such as `client_certificate` is. `deletes`:
    manifests may be deleted. `data`: where another registry keeps what this one has, too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: str = "",
        login: tuple[str, str] | None = None,
        tokens: TokenServer | None = None,
        client_certificates: bool = False,
        deletes: bool = False,
        data: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.pem"
        self.client_certificate = directory / "client.pem", directory / "client.key"
        self.port = 0
        self.scheme = "https" if tls else "http"
        self.data = data or directory / "data"
        self.log = directory / "registry.log"
        self._directory = directory
        self._login = login
        self._tokens = tokens
        self._client_certificates = client_certificates
        self._deletes = deletes
        if tls:
            _make_certificates(directory, tls)
        self._process = self._start()

    def __enter__(self) -> RegistryServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def blob(self, repository: str, data: bytes) -> str:
        """Put a blob (OCI distribution specification, "Pushing a blob monolithically")."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        answer = self._ask("POST", f"{repository}/blobs/uploads/")
        self._ask("PUT", f"{answer.headers['Location']}&digest={digest}", data=data)
        return digest

    def manifest(self, repository: str, reference: str, data: bytes, kind: str) -> None:
        """Put a manifest or an index; what it names must be there."""
        path = f"{repository}/manifests/{reference}"
        self._ask("PUT", path, data=data, headers={"Content-Type": kind})

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _ask(self, method: str, place: str, **options: object) -> requests.Response:
        url = place if "://" in place else f"{self.scheme}://{self.host}/v2/{place}"
        answer = requests.request(
            method, url, auth=self._login, verify=str(self.ca), timeout=30, **options  # type: ignore[arg-type]
        )  # fmt: skip
        assert answer.ok, answer.text
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        here = self._directory
        # A free port, which the log names.
        http: dict[str, object] = {"addr": "127.0.0.1:0"}
        if self.scheme == "https":
            tls: dict[str, object] = {
                "certificate": str(here / "tls.pem"),
                "key": str(here / "tls.key"),
            }
            if self._client_certificates:
                tls["clientcas"] = [str(self.ca)]
            http["tls"] = tls
        document: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.data)},
                "delete": {"enabled": self._deletes},
            },
            "http": http,
        }
        if self._login:
            user, password = self._login
            hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
            (here / "htpasswd").write_text(f"{user}:{hashed}\n")
            document["auth"] = {"htpasswd": {"realm": "test", "path": str(here / "htpasswd")}}
        if self._tokens:
            document["auth"] = {"token": self._tokens.settings()}
        config = here / "config.yml"
        config.write_text(json.dumps(document))
        log = self.log.open("wb")
        # With the thread of the session that starts it, however that ends.
        process = spawn(
            [need("docker-registry"), "serve", config],
            stdout=log, stderr=log, die_with_parent=True,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.port:
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            self.port = _listening_port(process.pid)
            time.sleep(0.02)
        return process


def _make_certificates(here: Path, names: str) -> None:
    """A CA, and by it a server's certificate."""
    request = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
               "-nodes"]  # fmt: skip
    run([*request, "-x509", "-days", "30", "-subj", "/CN=imagebuild test registry CA",
         "-keyout", here / "ca.key", "-out", here / "ca.pem"])  # fmt: skip
    run([*request, "-x509", "-days", "30", "-subj", "/CN=registry",
         "-addext", f"subjectAltName={names}",
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-CA", here / "ca.pem", "-CAkey", here / "ca.key",
         "-keyout", here / "tls.key", "-out", here / "tls.pem"])  # fmt: skip
    run([*request, "-x509", "-days", "30", "-subj", "/CN=client",
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", "extendedKeyUsage=clientAuth",
         "-CA", here / "ca.pem", "-CAkey", here / "ca.key",
         "-keyout", here / "client.key", "-out", here / "client.pem"])  # fmt: skip
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
