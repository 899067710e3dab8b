"""Package archives (apt): their Release files, fetched and checked before a build.

The digest of a suite's InRelease goes into the base stage's id: what the archive serves
changed when that file changed (Debian repository format: it lists the digests of every
index). It is checked with gpgv against the profile's keyring here, so that a wrong
keyring is found in the first second.
"""

from __future__ import annotations

import base64
import email.utils
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.digest import of_bytes
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.host.run import need, run


@dataclass(frozen=True)
class Suite:
    """A suite of an archive. `sha256` is that of its InRelease, None when not asked.

    Times are in seconds since 1970: of the Release file, of its expiry, and what the
    server's clock said when it was fetched. The last two are about this moment, not about
    what the suite is.
    """

    name: str
    sha256: str | None = None
    date: int | None = None
    valid_until: int | None = field(default=None, compare=False)
    served: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Answer:
    """A file that a server gave, and the server's clock (its Date header)."""

    body: bytes
    served: int | None


def fetch(url: str, what: str, timeout: float = 30) -> bytes:
    """The content alone (see `ask`)."""
    return ask(url, what, timeout).body


def ask(url: str, what: str, timeout: float = 30) -> Answer:
    """Fetch a small file. Proxies and CA come from the environment.

    Raises TemporaryError when the server cannot be reached or fails, ConfigError when it
    says that there is no such file.
    """
    import requests

    try:
        answer = requests.get(url, timeout=timeout)
    except requests.RequestException as exc:
        raise TemporaryError(
            f"cannot reach {what}",
            where=_host(url),
            detail=_reason(exc),
            hint="is the URL right, the host up, a proxy needed (http_proxy)?",
        ) from exc
    if answer.status_code in (404, 410):
        raise ConfigError(
            f"{what} has no such file",
            where=url,
            detail=f"HTTP {answer.status_code}",
            hint="check mirror.url and the suites of the profile",
        )
    if answer.status_code != 200:
        raise TemporaryError(
            f"{what} answers with HTTP {answer.status_code}", where=url, hint="try again later"
        )
    return Answer(answer.content, _seconds(answer.headers.get("Date", "")))


def _seconds(date: str) -> int | None:
    """A date of RFC 5322, as HTTP and Release files have it, in seconds since 1970."""
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError):
        return None


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _reason(exc: Exception) -> str:
    # requests nests its reasons: "Max retries exceeded … Caused by NewConnectionError(… Failed …"
    text = str(exc)
    inner = re.findall(r"(\[Errno [^\]]+\] [^'\")]+|[Nn]ame or service not known|timed out)", text)
    return inner[-1] if inner else text[-300:]


def read_suite(url: str, suite: str, keyring: Path) -> Suite:
    """Fetch, check and digest one suite's InRelease.

    Raises TemporaryError (mirror unreachable), ConfigError (no such suite, or not signed
    by the keyring).
    """
    base = f"{url.rstrip('/')}/dists/{suite}"
    try:
        answer = ask(f"{base}/InRelease", f"the package mirror {url}")
    except ConfigError as exc:
        raise ConfigError(
            f"the mirror has no suite {suite!r}",
            where=f"{base}/InRelease",
            detail=exc.detail,
            hint="check mirror.url and mirror.suites",
        ) from exc
    check_signature(answer.body, keyring, f"{base}/InRelease")
    text = answer.body.decode(errors="replace")
    return Suite(
        suite,
        of_bytes(answer.body),
        _field(text, "Date"),
        _field(text, "Valid-Until"),
        answer.served,
    )


def _field(release: str, name: str) -> int | None:
    match = re.search(rf"^{name}: (.+)$", release, re.MULTILINE)
    return _seconds(match[1]) if match else None


def check_signature(signed: bytes, keyring: Path, where: str) -> None:
    """Check a clear-signed file with gpgv. Raises ConfigError when no key of ours signed it."""
    gpgv = need("gpgv")
    if not keyring.is_file():
        raise ConfigError(
            "the archive's keyring is not there",
            where=str(keyring),
            hint="install the distribution's keyring package (ubuntu-keyring, "
            "debian-archive-keyring), or say --keyring FILE",
        )
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory, "keyring.gpg")
        binary.write_bytes(dearmor(keyring.read_bytes(), str(keyring)))
        done = run(
            [gpgv, "--homedir", directory, "--keyring", binary, "-"], input=signed, check=False
        )
    if done.returncode != 0:
        lines = [
            x.removeprefix("gpgv: ")
            for x in done.stderr.decode(errors="replace").splitlines()
            if "keybox" not in x
        ]
        raise ConfigError(
            "the archive is not signed by a key of the keyring",
            where=f"{where} (keyring {keyring})",
            detail="\n".join(lines),
            hint="say the keyring that belongs to this mirror: --keyring FILE or mirror.keyring",
        )


_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\n]+\r?\n)*?\r?\n(.*?)\r?\n"
    rb"(?:=[\w+/=]{4}\r?\n)?"
    rb"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)


def dearmor(data: bytes, where: str) -> bytes:
    """A keyring in binary form (gpgv reads no other); armor as RFC 9580 section 6 has it."""
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    blocks = _ARMOR.findall(data)
    if not blocks:
        raise ConfigError("this is no OpenPGP keyring", where=where)
    try:
        return b"".join(base64.b64decode(re.sub(rb"\s", b"", block)) for block in blocks)
    except ValueError as exc:
        raise ConfigError("this is no OpenPGP keyring", where=where, detail=str(exc)) from exc


def fingerprints(key: bytes) -> list[str]:
    """Fingerprints (hex, upper case) of the primary keys in a key file."""
    gpg = need("gpg", "gnupg")
    with tempfile.TemporaryDirectory() as home:
        done = run(
            [gpg, "--homedir", home, "--batch", "--with-colons", "--show-keys", "-"],
            input=key,
            check=False,
        )
    found: list[str] = []
    primary = False
    for line in done.stdout.decode(errors="replace").splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sub"):
            primary = fields[0] == "pub"
        elif fields[0] == "fpr" and primary:
            found.append(fields[9])
            primary = False
    return found
