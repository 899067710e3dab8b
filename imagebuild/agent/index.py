"""Package indexes: which files of a version exist, which fits a guest, and fetching it.

The finding is unearth's (PEP 503 and 691 pages, wheel tags, yanked files); the session is
ours, because unearth takes a failing server for an empty page and looks at `os.environ`.
Nothing here runs code of a package.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from unearth.evaluator import Package, TargetPython
from unearth.fetchers import PyPIClient
from unearth.finder import PackageFinder

from imagebuild.agent.pipconf import PipSettings, pip_settings, strip_userinfo
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.redaction import redact

#: The oldest C library of the supported guest releases (jammy: glibc 2.35) bounds the
#: manylinux tags for all of them, so that a lock means the same files everywhere.
GLIBC_MINOR = 35
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600's aliases
_ATTEMPTS = 4


def platforms(arch: str) -> list[str]:
    """Wheel platform tags of a Linux guest, best first (PEP 600). `arch` as in `uname -m`."""
    lowest = 5 if arch in ("x86_64", "i686") else 17
    tags = []
    for minor in range(GLIBC_MINOR, lowest - 1, -1):
        tags.append(f"manylinux_2_{minor}_{arch}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{arch}")
    return [*tags, f"linux_{arch}"]


@functools.lru_cache
def target(python: str, arch: str) -> TargetPython:
    """unearth's description of a guest's Python."""
    major, minor = python.split(".")
    return TargetPython(py_ver=(int(major), int(minor)), platforms=platforms(arch), impl="cp")


@dataclass(frozen=True)
class IndexFile:
    """A file that an index offers. The URL carries no userinfo. `sha256` may be unknown."""

    name: str
    version: str
    filename: str
    url: str
    sha256: str | None
    requires_python: str | None

    @property
    def is_wheel(self) -> bool:
        """Whether it can be installed without being built."""
        return self.filename.endswith(".whl")


class Index:
    """The indexes that pip is set up with, as the environment and pip's files say.

    All methods raise TemporaryError when a server cannot be reached or fails, and
    ConfigError when it wants a login that we do not have.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.settings = pip_settings(env)
        self._session = _Session(self.settings)
        self._known: dict[str, dict[Version, list[Package]]] = {}

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def files(self, name: str, version: str, python: str, arch: str) -> list[IndexFile]:
        """The files of a version that the guest can use, best first, sdists last."""
        guest = target(python, arch)
        evaluator = self._finder(guest).build_evaluator(name, allow_yanked=True)
        ranks = {tag: rank for rank, tag in enumerate(guest.supported_tags())}

        def rank(package: Package) -> tuple[int, str]:
            filename = package.link.filename
            if not package.link.is_wheel:
                return len(ranks), filename
            tags = parse_wheel_filename(filename)[-1]
            return min(ranks.get(tag, len(ranks)) for tag in tags), filename

        offered = self._releases(name).get(Version(version), [])
        return [_file(p) for p in sorted(offered, key=rank) if evaluator.evaluate_link(p.link)]

    def all_files(self, name: str, version: str) -> list[IndexFile]:
        """Every file that the indexes have of a version, for any Python and platform."""
        return [_file(p) for p in self._releases(name).get(Version(version), [])]

    def versions(self, name: str) -> list[str]:
        """The versions that the indexes have of a package, newest first, less yanked ones."""
        kept = [
            version
            for version, packages in self._releases(name).items()
            if not all(p.link.is_yanked for p in packages)
        ]
        return [str(version) for version in sorted(kept, reverse=True)]

    def _releases(self, name: str) -> dict[Version, list[Package]]:
        if name not in self._known:
            releases: dict[Version, list[Package]] = {}
            for package in self._finder(None).find_all_packages(name, allow_yanked=True):
                releases.setdefault(Version(str(package.version)), []).append(package)
            self._known[name] = releases
        return self._known[name]

    def download(self, file: IndexFile, dest: Path) -> None:
        """Fetch a file's bytes to `dest`; the caller checks its hash."""
        for attempt in _attempts():
            try:
                with self._session.get_stream(file.url) as response, dest.open("wb") as out:
                    _raise_for_status(response, file.url)
                    for block in response.iter_bytes(1 << 16):
                        out.write(block)
                return
            except (_ServerError, httpx2.TransportError) as exc:
                _give_up_or_wait(attempt, exc, file.url)

    def _finder(self, python: TargetPython | None) -> PackageFinder:
        finder = PackageFinder(
            session=cast(Any, self._session),  # httpx2's types say more than unearth's
            index_urls=self.settings.index_urls,
            find_links=self.settings.find_links,
            trusted_hosts=self.settings.trusted_hosts,
            target_python=python,
            ignore_compatibility=python is None,
        )
        if not self.settings.index_urls and not self.settings.find_links:
            finder.sources = []  # unearth would ask PyPI, which no-index forbids
        return finder


class _ServerError(Exception):
    """A status that may pass: 5xx or 429."""


class _Session(PyPIClient):
    """unearth's HTTP client with our proxies, CA, logins and retries."""

    def __init__(self, settings: PipSettings) -> None:
        super().__init__(
            trusted_hosts=settings.trusted_hosts,
            verify=_tls(settings.ca_file, settings.client_cert),
            trust_env=False,
            timeout=settings.timeout,
            follow_redirects=True,
            mounts=_mounts(settings),
        )
        self._settings = settings
        self.auth = self._login

    def _login(self, request: httpx2.Request) -> httpx2.Request:
        header = self._settings.authorization(str(request.url))
        if header:
            request.headers["Authorization"] = header
        return request

    def get(self, url: Any, **options: Any) -> httpx2.Response:  # noqa: ANN401 - as httpx2 has it
        """A page of an index. Tries again; a failing server is an error, not an empty page."""
        for attempt in _attempts():
            try:
                response = super().get(url, **options)
                _raise_for_status(response, str(url), missing_ok=True)
                return response
            except (_ServerError, httpx2.TransportError) as exc:
                _give_up_or_wait(attempt, exc, str(url))
        raise AssertionError("not reached: the last attempt gives up")

    @contextmanager
    def get_stream(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """A file's content, as unearth's Fetcher has it."""
        with self.stream("GET", url, headers=headers) as response:
            yield response


@functools.lru_cache
def _tls(ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
    # Kept: reading a bundle of CAs takes longer than asking for a page.
    try:
        if ca_file is None:
            context = httpx2.create_ssl_context()
        elif Path(ca_file).is_dir():
            context = ssl.create_default_context(capath=ca_file)
        else:
            context = ssl.create_default_context(cafile=ca_file)
        if client_cert:
            context.load_cert_chain(client_cert)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            "the CA or client certificate for the package index cannot be read",
            where=client_cert or ca_file or "",
            detail=str(exc),
            hint="see PIP_CERT, REQUESTS_CA_BUNDLE, SSL_CERT_FILE, PIP_CLIENT_CERT",
        ) from exc
    return context


def _mounts(settings: PipSettings) -> dict[str, httpx2.BaseTransport | None]:
    mounts: dict[str, httpx2.BaseTransport | None] = {}
    for scheme, proxy in settings.proxies.items():
        tls = _tls(settings.ca_file, settings.client_cert)
        mounts[f"{scheme}://"] = httpx2.HTTPTransport(proxy=proxy, verify=tls)
    for host in settings.no_proxy if settings.proxies else ():
        if host == "*":
            return {}
        if pattern := _no_proxy_pattern(host):
            mounts[pattern] = None
    return mounts


def _no_proxy_pattern(host: str) -> str | None:
    """httpx's form of an entry of no_proxy: an address, a host, or the end of a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if host == "localhost":
            return "all://localhost"
        # Networks (10.0.0.0/8) are not everybody's form of it, and not httpx's.
        return None if "/" in host or host.count(":") > 1 else f"all://*{host}"
    return f"all://[{address}]" if address.version == 6 else f"all://{address}"


def _attempts() -> range:
    return range(1, _ATTEMPTS + 1)


def _raise_for_status(response: httpx2.Response, url: str, *, missing_ok: bool = False) -> None:
    status = response.status_code
    if status in (401, 407):
        raise ConfigError(
            "the package index or its proxy wants a login",
            where=strip_userinfo(url),
            hint="put it into PIP_INDEX_URL, pip's configuration, ~/.netrc or the proxy's URL",
        )
    if status == 429 or status >= 500:
        raise _ServerError(f"status {status}")
    if status >= 400 and not missing_ok:
        raise ConfigError(
            f"the package index answered with status {status} for a file that it lists",
            where=strip_userinfo(url),
        )


def _give_up_or_wait(attempt: int, exc: Exception, url: str) -> None:
    if attempt == _ATTEMPTS:
        raise TemporaryError(
            "the package index cannot be reached",
            where=strip_userinfo(url),
            detail=f"{type(exc).__name__}: {redact(str(exc))}",
            hint="try again later; see PIP_INDEX_URL, the proxy variables and PIP_CERT",
        ) from None
    time.sleep(0.3 * 2**attempt)


def _file(package: Package) -> IndexFile:
    link = package.link
    hashes = link.hash_option or {}
    return IndexFile(
        name=canonicalize_name(package.name),
        version=str(package.version),
        filename=link.filename,
        url=link.url_without_fragment,
        sha256=next(iter(hashes.get("sha256", [])), None),
        requires_python=link.requires_python,
    )
