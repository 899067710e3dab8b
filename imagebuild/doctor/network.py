"""Checks: proxies, CA bundles and pip's settings as they are written; keyrings."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, from_error, ok, skipped
from imagebuild.doctor.host import Host
from imagebuild.errors import ImagebuildError
from imagebuild.host.run import network_env

GROUP = "network"

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO")
#: Keyrings that a package brings: the file's name -> Debian's name of the package.
_KEYRINGS = {
    "debian-archive-keyring.gpg": "debian-archive-keyring",
    "ubuntu-archive-keyring.gpg": "ubuntu-keyring",
}


def proxies(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Proxy variables: a URL each, with a host. Their values are not shown: logins are in them."""
    found = {n: host.environ[n] for n in _PROXIES if host.environ.get(n)}
    bad = False
    for name, value in found.items():
        problem = _proxy_problem(value)
        if problem:
            bad = True
            yield Finding(
                Level.MISSING,
                f"{name} is no proxy's URL",
                where=f"environment {name}",
                detail=problem,
                prevents="every download",
                advice=f"set it like http://proxy.example:3128, or unset {name}",
            )
    if not bad:
        yield ok("proxies: " + ", ".join(found) if found else "no proxy is set")


def proxy_host(value: str) -> str:
    """Host name of a proxy's URL; a ValueError tells of a port that is none."""
    parts = urlsplit(value if "://" in value else f"http://{value}")
    _ = parts.port
    return parts.hostname or ""


def _proxy_problem(value: str) -> str:
    scheme = value.partition("://")[0].lower() if "://" in value else "http"
    if scheme not in _SCHEMES:
        return f"its scheme is none of {', '.join(_SCHEMES)}"
    try:
        name = proxy_host(value)
    except ValueError:
        return "its port is no number up to 65535"
    if not name or any(c.isspace() for c in value):
        return "it names no host"
    return ""


def proxy_names(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Whether the proxies' names have addresses."""
    names = set()
    for variable in _PROXIES:
        value = host.environ.get(variable, "")
        if value and not _proxy_problem(value):
            names.add(proxy_host(value))
    lost = sorted(n for n in names if not host.resolves(n))
    for name in lost:
        yield Finding(
            Level.MISSING,
            "the proxy's name has no address",
            where=name,
            prevents="every download",
            advice="correct the proxy variables, or /etc/resolv.conf",
        )
    if not lost:
        yield ok(f"proxy found: {', '.join(sorted(names))}" if names else "no proxy to look for")


def certificates(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """CA bundles that the environment names: there, and readable as certificates."""
    found = {n: host.environ[n] for n in _BUNDLES if host.environ.get(n)}
    checked: dict[str, str] = {}
    for name, value in found.items():
        if value not in checked:
            checked[value] = _bundle_problem(host, Path(value))
        if checked[value]:
            yield Finding(
                Level.MISSING,
                "a CA bundle cannot be used",
                where=f"{name}={value}",
                detail=checked[value],
                prevents="downloads by https",
                advice=f"set {name} to a PEM file, or unset it",
            )
    if not any(checked.values()):
        yield ok("CA bundles: " + ", ".join(found) if found else "the system's certificates")


def _bundle_problem(host: Host, path: Path) -> str:
    if host.is_directory(path):
        return ""  # requests and pip take a directory, too
    try:
        pem = host.read(path).decode(errors="replace")
        if "-----BEGIN" not in pem:
            return "there is no certificate in it"
        ssl.create_default_context(cadata=pem)
    except OSError as exc:  # ssl's errors, too
        return exc.strerror or str(exc)
    return ""


def pip_settings(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """pip's configuration files can be read."""
    from imagebuild.agent.pipconf import pip_settings as read

    try:
        settings = read(network_env(host.environ) | _home(host))
    except ImagebuildError as exc:
        yield from_error(exc, "fetching the guest agent")
        return
    except ValueError as exc:
        yield Finding(
            Level.MISSING,
            "pip's settings make no sense",
            detail=str(exc)[:200],
            prevents="fetching the guest agent",
            advice="see PIP_DEFAULT_TIMEOUT and pip's configuration files",
        )
        return
    places = ", ".join([*settings.index_urls, *settings.find_links])
    yield ok(f"packages of Python from {places or 'nowhere'}")


def _home(host: Host) -> dict[str, str]:
    return {n: host.environ[n] for n in ("HOME", "XDG_CONFIG_HOME") if n in host.environ}


def index(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """The package index answers, and has trove."""
    from imagebuild.agent.index import Index

    # Nobody waits minutes for a diagnosis.
    env = network_env(host.environ) | _home(host) | {"PIP_TIMEOUT": "10"}
    try:
        with Index(env) as known:
            versions = known.versions("trove")
            urls = ", ".join(known.settings.index_urls) or "links alone"
    except (ImagebuildError, ValueError) as exc:
        error = exc if isinstance(exc, ImagebuildError) else ImagebuildError(str(exc)[:200])
        yield from_error(error, "fetching the guest agent")
        return
    if versions:
        yield ok(f"the package index has trove {versions[0]}", urls)
        return
    yield Finding(
        Level.WARNING,
        "the package index does not have trove",
        where=urls,
        prevents="builds with an agent from the index; --agent can name a path or a repository",
        advice="see PIP_INDEX_URL, PIP_FIND_LINKS and pip's configuration files",
    )


def keyrings(host: Host, subject: Subject) -> Iterator[Finding]:
    """Keys of the archives that the profile names."""
    if subject.profile is None:
        yield skipped("keyrings: not looked for without OS RELEASE")
        return
    mirror = subject.profile.mirror
    wanted = {mirror.keyring: "--keyring FILE or mirror.keyring"}
    if mirror.security:
        wanted.setdefault(mirror.security_keyring, "mirror.security.keyring")
    missing = [p for p in wanted if not host.is_readable(p)]
    for path in missing:
        is_packaged = path.parent == Path("/usr/share/keyrings") and path.name in _KEYRINGS
        yield Finding(
            Level.MISSING,
            "the archive's keyring cannot be read"
            if host.exists(path)
            else "the archive's keyring is not there",
            where=str(path),
            prevents=f"a build of {subject.profile.name}: packages must be signed",
            install=(_KEYRINGS[path.name],) if is_packaged else (),
            advice=f"say where it is: {wanted[path]}",
        )
    if not missing:
        yield ok("keyrings: " + ", ".join(map(str, wanted)))


_BUILD = frozenset({Need.BUILD})
_DOWNLOAD = frozenset({Need.BUILD, Need.MIRROR, Need.PUBLISH})
CHECKS = (
    Check("proxies", GROUP, "proxy variables", _DOWNLOAD, proxies),
    Check("certificates", GROUP, "CA bundles", _DOWNLOAD, certificates),
    Check("pip", GROUP, "pip's settings", _BUILD, pip_settings),
    Check("keyrings", GROUP, "keyrings", _BUILD, keyrings),
    Check("proxy-names", GROUP, "proxies' names", _DOWNLOAD, proxy_names, network=True),
    Check("index", GROUP, "the package index", _BUILD, index, network=True),
)
