"""The Debian mirror that this host's apt uses, and verified downloads from it."""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from imagebuild.errors import PreflightError, TemporaryError
from imagebuild.host.run import need, run

CODENAME = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
INDEX = "main/binary-amd64/Packages.xz"
TIMEOUT = 120.0

#: Where Debian itself serves; used on a host whose apt knows no mirror of Debian.
_DEFAULT = ("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")


def host_debian_mirror() -> tuple[str, str]:
    """Base URLs (main archive, security archive) of the mirror in the host's apt sources.

    apt itself is asked, so one-line and deb822 sources count alike, before the first
    `apt-get update` too. A host that serves no Debian (Ubuntu) gets Debian's own address.
    """
    listing = run(
        [need("apt-get", "apt"), "indextargets", "--no-release-info", "--format",
         "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        check=False,
    ).stdout.decode()  # fmt: skip
    found: dict[str, str] = {}
    for line in listing.splitlines():
        suite, component, uri = [*line.split(), "", "", ""][:3]
        if component == "main" and uri.startswith(("http://", "https://")):
            found.setdefault(suite, uri.rstrip("/"))
    return found.get(CODENAME, _DEFAULT[0]), found.get(f"{CODENAME}-security", _DEFAULT[1])


@dataclass(frozen=True)
class Suite:
    """One suite of Debian as its signed Release file describes it just now."""

    name: str
    archive: str  # "debian" or "debian-security": which of the two mirrors
    base: str  # URL of that mirror
    in_release: bytes

    @property
    def date(self) -> datetime:
        match = re.search(rb"^Date: (.+)$", self.in_release, re.MULTILINE)
        if match is None:
            raise TemporaryError("a Release file has no date", where=f"{self.base} {self.name}")
        return parsedate_to_datetime(match[1].decode().replace("UTC", "+0000"))

    def packages(self) -> str:
        """The stanzas of component main for amd64, checked against the Release file.

        Raises TemporaryError when they do not belong together (the mirror is changing).
        """
        url = f"{self.base}/dists/{self.name}/{INDEX}"
        body = download(url)
        wanted = re.search(
            rb"^ ([0-9a-f]{64}) +[0-9]+ " + re.escape(INDEX.encode()) + rb"$",
            self.in_release,
            re.MULTILINE,
        )
        if wanted is None or hashlib.sha256(body).hexdigest() != wanted[1].decode():
            raise TemporaryError(
                "a package index does not match its Release file",
                where=url,
                hint="the mirror is being updated; try again in some minutes",
            )
        return lzma.decompress(body).decode()


def suites() -> list[Suite]:
    """Release files of the release, its updates and its security updates, verified."""
    main, security = host_debian_mirror()
    places = (
        (CODENAME, "debian", main),
        (f"{CODENAME}-updates", "debian", main),
        (f"{CODENAME}-security", "debian-security", security),
    )
    found = []
    for name, archive, base in places:
        url = f"{base}/dists/{name}/InRelease"
        body = download(url)
        _verify(body, url)
        found.append(Suite(name, archive, base, body))
    return found


def _verify(in_release: bytes, url: str) -> None:
    """The packages run as root in a chroot, so a test trusts no more than apt does."""
    if not KEYRING.exists():
        raise PreflightError(
            "the keyring of Debian's archive is missing",
            where=str(KEYRING),
            hint="apt-get install debian-archive-keyring",
        )
    with tempfile.NamedTemporaryFile(prefix="InRelease-") as file:
        file.write(in_release)
        file.flush()
        run([need("gpgv"), "--keyring", KEYRING, file.name], what=f"{url} is not Debian's")


def _open(url: str) -> http.client.HTTPResponse:
    reply = urllib.request.urlopen(url, timeout=TIMEOUT)  # noqa: S310 - http(s) only, see above
    assert isinstance(reply, http.client.HTTPResponse)
    return reply


def download(url: str) -> bytes:
    """Content of a URL. Proxies of the environment apply. Raises TemporaryError."""
    try:
        with _open(url) as reply:
            return reply.read()
    except (OSError, http.client.HTTPException) as exc:
        raise _unreachable(url, exc) from exc


def download_to(url: str, target: Path) -> None:
    """Put the content of a URL at `target`, whole or not at all.

    Raises TemporaryError, or FileNotFoundError when the mirror has no such file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, _open(url) as reply:
            shutil.copyfileobj(reply, file, 1 << 20)
            # A connection that breaks off looks like an end of file to copyfileobj().
            size = reply.headers.get("Content-Length")
            if size is not None and file.tell() != int(size):
                raise OSError(f"got {file.tell()} of {size} bytes")
        part.chmod(0o644)
        part.replace(target)
    except (OSError, http.client.HTTPException) as exc:
        if isinstance(exc, urllib.error.HTTPError) and exc.code == http.HTTPStatus.NOT_FOUND:
            raise FileNotFoundError(url) from exc
        raise _unreachable(url, exc) from exc
    finally:
        part.unlink(missing_ok=True)


def _unreachable(url: str, exc: Exception) -> TemporaryError:
    return TemporaryError(
        "the Debian mirror did not deliver",
        where=url,
        detail=str(exc),
        hint="check the network; the mirror is the one of this host's apt sources",
    )
