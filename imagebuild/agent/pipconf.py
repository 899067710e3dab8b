"""How pip is set up on this host: the indexes, the CA and the proxies that downloads use.

We read what pip's documentation describes under "Configuration" instead of asking pip:
the tool's own environment may have none. Environment variables win over the files, and
of the files the user's over the system's. Passwords in index URLs are taken out of the
URLs here, so that no later message or log line can show one.
"""

from __future__ import annotations

import base64
import configparser
import netrc
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from imagebuild.errors import ConfigError

PYPI = "https://pypi.org/simple"


@dataclass(frozen=True)
class PipSettings:
    """pip's settings. URLs carry no userinfo; `logins` has it by origin, never shown.

    `timeout` is in seconds.
    """

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    trusted_hosts: tuple[str, ...]
    ca_file: str | None
    client_cert: str | None
    proxies: Mapping[str, str] = field(repr=False)
    no_proxy: tuple[str, ...]
    timeout: float
    logins: Mapping[str, str] = field(repr=False)

    def authorization(self, url: str) -> str | None:
        """The Authorization header for a request to a URL, or None."""
        return self.logins.get(_origin(url))


def strip_userinfo(url: str) -> str:
    """A URL without user name and password; anything that is no URL comes back as it is."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def pip_settings(env: Mapping[str, str]) -> PipSettings:
    """Read pip's settings from the environment given and pip's configuration files.

    Raises ConfigError for a configuration file that cannot be read.
    """
    files = _read_files(env)

    def value(name: str) -> str:
        return env.get("PIP_" + name.upper().replace("-", "_")) or files.get(name, "")

    indexes: list[str] = []
    if value("no-index").lower() not in ("1", "true", "yes", "on"):
        indexes = [value("index-url") or PYPI, *value("extra-index-url").split()]
    find_links = value("find-links").split()
    return PipSettings(
        index_urls=tuple(map(strip_userinfo, indexes)),
        find_links=tuple(strip_userinfo(u) for u in find_links if _is_there(u)),
        trusted_hosts=tuple(value("trusted-host").split()),
        ca_file=value("cert") or _first(env, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                                        "SSL_CERT_FILE"),
        client_cert=value("client-cert") or None,
        proxies=_proxies(env, value("proxy")),
        no_proxy=tuple(
            host.strip()
            for host in (_first(env, "no_proxy", "NO_PROXY") or "").split(",")
            if host.strip()
        ),
        timeout=float(value("timeout") or env.get("PIP_DEFAULT_TIMEOUT") or 15),
        logins=_logins(env, [*indexes, *find_links]),
    )  # fmt: skip


def _read_files(env: Mapping[str, str]) -> dict[str, str]:
    named = env.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return {}
    home = Path(env.get("HOME") or Path.home())
    paths = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if named:
        paths.append(Path(named))
    found: dict[str, str] = {}
    for path in paths:
        if not path.is_file():
            continue
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text())
        except (OSError, UnicodeDecodeError, configparser.Error) as exc:
            # The parser's own message quotes the line, which may hold a password.
            raise ConfigError(
                "pip's configuration file cannot be read",
                where=str(path),
                detail=type(exc).__name__,
                hint="correct the file, or set PIP_CONFIG_FILE=/dev/null to do without",
            ) from None
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    return found


def _is_there(find_links: str) -> bool:
    # pip too passes over a directory of links that does not exist.
    return "://" in find_links or Path(find_links).exists()


def _first(env: Mapping[str, str], *names: str) -> str | None:
    return next((env[n] for n in names if env.get(n)), None)


def _proxies(env: Mapping[str, str], pip_proxy: str) -> dict[str, str]:
    found = {}
    for scheme in ("http", "https"):
        proxy = pip_proxy or _first(
            env, f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"
        )
        if proxy:
            found[scheme] = proxy if "://" in proxy else f"http://{proxy}"
    return found


def _origin(url: str) -> str:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or default}"


def _logins(env: Mapping[str, str], urls: list[str]) -> dict[str, str]:
    """Authorization header by origin: from the URL itself, else from ~/.netrc."""
    logins: dict[str, str] = {}
    for url in urls:
        parts = urlsplit(url)
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        elif parts.hostname and (entry := _netrc_login(env, parts.hostname)):
            user, password = entry
        else:
            continue
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        logins.setdefault(_origin(url), f"Basic {token}")
    return logins


def _netrc_login(env: Mapping[str, str], host: str) -> tuple[str, str] | None:
    path = Path(env.get("NETRC") or Path(env.get("HOME") or Path.home()) / ".netrc")
    try:
        entry = netrc.netrc(str(path)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return (entry[0] or "", entry[2] or "") if entry else None
