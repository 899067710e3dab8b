"""Where a build fetches from instead: files for one directory that RUN's shell reads.

The directory is lent to the build and gets into no image (see `files/shell`). Logins of
addresses stand in it alone: in no argument, no variable of the build, no line of its log.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from imagebuild.config.values import strip_userinfo
from imagebuild.errors import ConfigError, UsageError
from imagebuild.redaction import redact

FILES = Path(__file__).with_name("files")
#: Names of the variables that lead through a proxy; they may hold a login.
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")

#: What `files/bin/apt-get` says when it has exchanged something.
REDIRECTED = "imagebuild: apt's sources are redirected"
#: Of what is shorter, no log could hide every occurrence.
_SHORTEST_SECRET = 3

_UBUNTU = r"https?://([a-z0-9.-]+\.)?(archive|security|ports)\.ubuntu\.com/ubuntu(-ports)?/?"
_DEBIAN = r"https?://(deb|ftp\.[a-z]+|httpredir)\.debian\.org/debian/?"
_DEBIAN_SECURITY = r"https?://(deb|security)\.debian\.org/debian-security/?"


@dataclass(frozen=True)
class Redirects:
    """What the caller wants fetched elsewhere. Addresses may have a login.

    `apt_mirror` stands in for Ubuntu's or Debian's archive, `pip_index` for PyPI (its `simple`
    page), `urls` are beginnings of other addresses and what stands for them. `ca` is trusted
    besides the base image's CAs. `environ` has the proxies. Raises UsageError for a bad address,
    ConfigError for a bad CA file.
    """

    apt_mirror: str = field(default="", repr=False)
    pip_index: str = field(default="", repr=False)
    ca: Path | None = None
    urls: tuple[tuple[str, str], ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, url in (("--apt-mirror", self.apt_mirror), ("--pip-index", self.pip_index)):
            if url:
                _check(name, url)
        for old, new in self.urls:
            for url in (old, new):
                _check("--redirect", url)
                if urlsplit(url).username is not None:
                    raise UsageError(
                        "an address that stands in for another cannot have a login",
                        where=f"--redirect {redact(url)}",
                        detail="it would be written into the image",
                    )
        if self.ca:
            _certificates(self.ca)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show, the longest first."""
        found = set()
        for url in (self.apt_mirror, self.pip_index, *self.proxies.values()):
            parts = _split(url)
            for secret in (parts.password, unquote(parts.password or "")):
                if secret:
                    found.add(secret)
            if parts.username is not None:
                found.add(parts.netloc.rpartition("@")[0])
        long = [secret for secret in found if len(secret) >= _SHORTEST_SECRET]
        return tuple(sorted(long, key=len, reverse=True))

    @property
    def proxies(self) -> dict[str, str]:
        """Of the environment, both spellings: programs differ in which one they look at."""
        found: dict[str, str] = {}
        for name in PROXIES:
            value = self.environ.get(name) or self.environ.get(name.upper())
            if value:
                found |= {name: value, name.upper(): value}
        return found

    def rewrite(self, text: str) -> str:
        """A file of the source with the beginnings of its addresses exchanged."""
        for old, new in self.urls:
            text = text.replace(old, new)
        return text

    def write(self, directory: Path) -> None:
        """Make the directory that the build is lent."""
        directory.mkdir(mode=0o700)
        for name in ("shell", "bin/apt-get"):
            target = directory / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(FILES / name, target)
            target.chmod(0o755)
        exports = [f"export {k}={shlex.quote(v)}\n" for k, v in sorted(self.proxies.items())]
        _write(directory / "environment", "".join(exports))
        if self.ca:
            (directory / "ca.pem").write_bytes(_certificates(self.ca))
        if self.apt_mirror or self.urls:
            _write(directory / "sources.sed", "".join(self._rules()))
        parts = _split(self.apt_mirror)
        if parts.username is not None:
            # apt_auth.conf(5): without a scheme it would hold for https alone.
            place = strip_userinfo(self.apt_mirror)
            login, password = unquote(parts.username), unquote(parts.password or "")
            _write(directory / "auth.conf", f"machine {place} login {login} password {password}\n")
        if self.pip_index:
            _write(directory / "pip.conf", self._pip_conf())

    def _rules(self) -> list[str]:
        rules = []
        if self.apt_mirror:
            main = strip_userinfo(self.apt_mirror).rstrip("/") + "/"
            security = re.sub(r"/debian/$", "/debian-security/", main)
            rules += [
                _rule(_DEBIAN_SECURITY, security), _rule(_DEBIAN, main), _rule(_UBUNTU, main),
            ]  # fmt: skip
        return rules + [_rule(_literal(old), new) for old, new in self.urls]

    def _pip_conf(self) -> str:
        parts = _split(self.pip_index)
        # In pip's files % is nothing special: it reads them without interpolation.
        lines = ["[global]", f"index-url = {self.pip_index}"]
        if parts.scheme == "http":
            lines.append(f"trusted-host = {parts.netloc.rpartition('@')[2]}")
        return "\n".join(lines) + "\n"


def _rule(pattern: str, replacement: str) -> str:
    """A line for sed -E; `_check` has seen to it that no address has a '#'."""
    escaped = re.sub(r"([&\\])", r"\\\1", replacement)
    return f"s#{pattern}#{escaped}#g\n"


def _literal(text: str) -> str:
    """As a pattern of POSIX's extended regular expressions."""
    return re.sub(r"([][.*^$+?(){}|\\])", r"\\\1", text)


def _check(option: str, url: str) -> None:
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\"'#]", url):
        raise UsageError(
            f"{option} is no address",
            where=redact(url)[:200],
            hint="http://… or https://…, without blanks and quotes",
        )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _certificates(path: Path) -> bytes:
    from imagebuild.files import MIB, read_limited

    try:
        data = read_limited(path.expanduser(), 4 * MIB)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ConfigError("the CA's file cannot be read", where=str(path), detail=reason) from exc
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(
            "the CA's file holds no certificate", where=str(path), hint="a PEM file is expected"
        )
    return data if data.endswith(b"\n") else data + b"\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
