"""A signed stand-in for Ubuntu's archive and Docker's repository, on loopback.

Tests build the Ubuntu profiles against it where Ubuntu's own servers are out of reach:
suites, components, package names and signatures are Ubuntu's and Docker's in form, the
packages are Debian's. A test that uses it proves how an image is composed, not Ubuntu's
packages.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType

from imagebuild.host.run import run
from tests.images.standin.archive import Archive, obtain
from tests.images.standin.mirror import host_debian_mirror
from tests.images.standin.server import Server

__all__ = ["Standin", "host_debian_mirror", "start"]


class Standin:
    """A running stand-in; leave the `with` block, or call `stop()`, to end it."""

    def __init__(self, archive: Archive, workdir: Path) -> None:
        self._server = server = Server(archive)
        #: The certificate that vouches for the Docker repository: no public CA knows it.
        self.ca = workdir / "tls.pem"
        self._tls_server = Server(archive, server_tls(self.ca))
        #: Base URL of the Ubuntu archive, and the binary keyring that its suites verify by.
        self.url = f"{server.address}/ubuntu"
        self.keyring: Path = archive.keyring
        #: Base URL of the Docker repository, over TLS as Docker's own is; its armored key is
        #: served at `/gpg` below it.
        self.docker_url = f"{self._tls_server.address}/docker"
        self.docker_key: Path = archive.docker_key
        self.docker_fingerprint: str = archive.docker_fingerprint
        #: Where package files are kept, for later runs too.
        self.pool: Path = archive.pool

    @property
    def snapshots(self) -> dict[str, str]:
        """URLs of the snapshots of both archives, with {snapshot} where the time belongs."""
        return {
            "mirror.snapshot_url": f"{self.url}/{{snapshot}}",
            "docker.repository.snapshot_url": f"{self.docker_url}/{{snapshot}}",
        }

    @property
    def made(self) -> str:
        """The only point in time that the snapshots hold, like 20250101T000000Z."""
        return self._server.archive.made

    @property
    def requests(self) -> list[str]:
        """Paths that were asked for: of the archive, then of the Docker repository."""
        return self._server.requests + self._tls_server.requests

    def stop(self) -> None:
        self._server.stop()
        self._tls_server.stop()
        self._server.archive.in_use.close()

    def __enter__(self) -> Standin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def server_tls(certificate: Path) -> ssl.SSLContext:
    """A server's context with a new self-signed certificate for 127.0.0.1."""
    key = certificate.with_suffix(".key")
    run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
         "-subj", "/CN=imagebuild stand-in", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate]
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    key.unlink()
    return context


def start(workdir: Path, release: str = "jammy") -> Standin:
    """Make or re-use the archive of an Ubuntu release below `workdir`, and serve it.

    The archive changes only when the host's Debian mirror does. Raises TemporaryError
    when that mirror cannot be reached.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    return Standin(obtain(workdir.resolve(), release), workdir.resolve())
