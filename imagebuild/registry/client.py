"""The registry's side of the network: manifests and blobs (OCI distribution specification 1.1).

What may pass is tried again a few times: connections that break, 429 and 5xx. What has come
is checked: a manifest by its digest here, a blob by whoever keeps it (see `layout.py`), since
it need not fit into memory.
"""

from __future__ import annotations

import email.utils
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import requests
import urllib3

from imagebuild.errors import (
    BuildError,
    ConfigError,
    ImagebuildError,
    PreflightError,
    TemporaryError,
)
from imagebuild.events import Emit, Note
from imagebuild.files import MIB
from imagebuild.registry.auth import Authorizer
from imagebuild.registry.credentials import Login, credential_files, find_login
from imagebuild.registry.manifest import (
    INDEXES,
    MANIFESTS,
    SCHEMA_1,
    Descriptor,
    Manifest,
    read_manifest,
)
from imagebuild.registry.reference import DIGEST, Reference
from imagebuild.registry.settings import CERTS_D, RegistrySettings, certificates, is_loopback
from imagebuild.registry.transport import Kind, NoAnswerError, Transport, reason, shown_host

_ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *SCHEMA_1))
#: What registries take at most (distribution specification, "Pushing Manifests").
_LARGEST_MANIFEST = 4 * MIB
#: Of a blob that is read into memory: configurations.
_LARGEST_SMALL_BLOB = 8 * MIB
_BLOCK = 256 << 10
#: Bytes of an error's text that are looked at.
_LONGEST_WORDS = 16 << 10

#: Seconds to find out whether a registry on this host speaks TLS.
_PROBE = (3.0, 3.0)
_ATTEMPTS = 4
#: Seconds before the second attempt; each later one waits twice as long.
_FIRST_WAIT = 0.5
#: Seconds that a registry may ask us to wait; for more, the person should decide.
_LONGEST_WAIT = 60
#: Seconds of waiting that are worth a word.
_NOTABLE_WAIT = 5
#: A download that brought this many bytes before it broke is going well.
_PROGRESS = MIB
_MAY_PASS = (408, 429, 500, 502, 503, 504)


class _Server:
    """A registry as we speak to it."""

    def __init__(self, base: str, transport: Transport, authorizer: Authorizer) -> None:
        self.base = base
        self.transport = transport
        self.authorizer = authorizer


class Client:
    """Speaks to registries; may be used by several threads at once. Close it, or use `with`.

    Every method raises TemporaryError when a registry cannot be reached or wants us to wait,
    PreflightError for TLS and logins, ConfigError for what is not there. `emit` is told of
    long waits, by the thread that waits.
    """

    def __init__(
        self,
        registries: Iterable[RegistrySettings] = (),
        *,
        environ: Mapping[str, str] = os.environ,
        emit: Emit | None = None,
        certs_d: Path = CERTS_D,
    ) -> None:
        self._settings = {r.host: r for r in registries}
        self._environ = environ
        self._emit = emit
        self._certs_d = certs_d
        self._servers: dict[tuple[str, str], _Server] = {}
        self._transports: dict[str, tuple[str, Transport]] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections, and the waiting of other threads."""
        self._closed.set()
        with self._lock:
            for _, transport in self._transports.values():
                transport.close()

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest stands for, None when there is none. Costs no pull quota.

        Some servers say too little in answer to HEAD; then it is a GET.
        """
        wanted = reference.digest or reference.tag
        headers = {"Accept": _ACCEPT}
        with self._request("HEAD", reference, f"manifests/{wanted}", headers) as answer:
            if answer.status_code == 404:
                return None
            told = answer.headers
            digest = reference.digest or told.get("Docker-Content-Digest", "")
            size, media_type = told.get("Content-Length", ""), told.get("Content-Type", "")
            if answer.status_code == 200 and DIGEST.fullmatch(digest) and size.isdecimal():
                return Descriptor(media_type.partition(";")[0], digest, int(size))
        return self.get_manifest(reference).descriptor

    def get_manifest(self, reference: Reference) -> Manifest:
        """The manifest or index, by digest when the reference has one."""
        wanted = reference.digest or reference.tag
        headers = {"Accept": _ACCEPT}
        with self._request("GET", reference, f"manifests/{wanted}", headers) as answer:
            if answer.status_code != 200:
                raise _refused(answer, reference, "the manifest")
            data = _read(answer, reference)
            manifest = read_manifest(data, answer.headers.get("Content-Type", ""), str(reference))
        # Of a tag, the digest that the registry itself tells is what is left to compare.
        promised = reference.digest or answer.headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha256:") and promised != manifest.digest:
            raise wrong_content(reference, promised, f"it is {manifest.digest}")
        return manifest

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob, its digest checked."""
        if blob.size > _LARGEST_SMALL_BLOB:
            raise ConfigError(
                "a part of the image is too large for what it is",
                where=f"{reference.name}@{blob.digest}",
                detail=f"{blob.media_type}: {blob.size} bytes",
            )
        data = b"".join(self.open_blob(reference, blob))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != blob.digest:
            raise wrong_content(reference, blob.digest, f"it is {digest}")
        return data

    def open_blob(self, reference: Reference, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes from `start` on, as many as its size says; the caller checks the digest.

        When the connection breaks, it is continued where it broke.
        """
        at, failures = start, 0
        while at < blob.size:
            began = at
            answer, skip = self._open(reference, blob, at)
            with answer:
                try:
                    for block in answer.raw.stream(_BLOCK, decode_content=False):
                        fresh = block[skip:]
                        skip -= len(block) - len(fresh)
                        at += len(fresh)
                        if at > blob.size:
                            raise wrong_content(reference, blob.digest, "it is longer")
                        if fresh:
                            yield fresh
                    why = "the connection ended early"
                except (urllib3.exceptions.HTTPError, OSError) as exc:
                    why = reason(exc)
            if at == blob.size:
                return
            failures = 0 if at - began >= _PROGRESS else failures + 1
            why = f"{why}, after {at} of {blob.size} bytes"
            if failures == _ATTEMPTS:
                raise TemporaryError(
                    "a download breaks off again and again",
                    where=f"{reference.name}@{blob.digest}",
                    detail=why,
                    hint="try again later: what has come is kept",
                )
            self._wait(_FIRST_WAIT * 2 ** max(failures - 1, 0), reference.registry, why)

    def has_blob(self, reference: Reference, blob: Descriptor) -> bool:
        """Whether the repository has the blob, with its size: one HEAD."""
        raise NotImplementedError

    def mount_blob(self, reference: Reference, blob: Descriptor, source: str) -> bool:
        """Have the repository take a blob from another one (`source`) of its registry.

        False where the registry does not do it: push the blob then.
        """
        raise NotImplementedError

    def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Send a blob; `read(start)` gives its bytes from there on. Returns bytes sent.

        The digest is made on the way: of what is not right, nothing stays (BuildError).
        """
        raise NotImplementedError

    def put_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Put a manifest byte for byte, under the reference's digest, or else its tag."""
        raise NotImplementedError

    def delete_manifest(self, reference: Reference) -> bool:
        """Delete a digest, or a tag where the registry can do that; False: it was not there."""
        raise NotImplementedError

    def tags(self, reference: Reference) -> list[str]:
        """All tags of a repository (paged), [] when there is no such repository."""
        raise NotImplementedError

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        """Manifests that refer to the reference's digest: of the referrers API, or of the
        fallback tag `sha256-HEX` where the registry has no such API (distribution
        specification 1.1, "Listing Referrers").
        """
        raise NotImplementedError

    @property
    def quotas(self) -> tuple[tuple[str, int, int], ...]:
        """Host, pulls remaining and limit, of registries that tell (RateLimit-Remaining)."""
        raise NotImplementedError

    @property
    def request_counts(self) -> dict[str, int]:
        """How many requests were sent, by method."""
        raise NotImplementedError

    def _open(
        self, reference: Reference, blob: Descriptor, at: int
    ) -> tuple[requests.Response, int]:
        """The answer with a blob, and how many bytes of it are to be passed over."""
        headers = {"Range": f"bytes={at}-"} if at else {}
        answer = self._request("GET", reference, f"blobs/{blob.digest}", headers)
        if answer.status_code == 200:
            return answer, at
        told = answer.headers.get("Content-Range", "")
        if answer.status_code == 206 and at and told.startswith(f"bytes {at}-"):
            return answer, 0
        with answer:
            raise _refused(answer, reference, f"the blob {blob.digest}")

    def _request(
        self, method: str, reference: Reference, path: str, headers: Mapping[str, str]
    ) -> requests.Response:
        """Ask a registry about a repository, logged in as far as it wants that."""
        server = self._server(reference)
        scope = f"repository:{reference.repository}:pull"
        url = f"{server.base}/v2/{reference.repository}/{path}"
        authorization = server.authorizer.header(scope)
        for _ in range(2):
            login = {"Authorization": authorization} if authorization else {}
            answer = self._ask(server.transport, method, url, {**headers, **login})
            if answer.status_code != 401:
                return answer
            with answer:
                said = _said(answer)
            challenge = answer.headers.get("WWW-Authenticate", "")
            authorization = server.authorizer.renew(challenge, scope, authorization)
            if not authorization:
                break
        raise self._unauthorized(reference, server.authorizer.login, said)

    def _ask(
        self,
        transport: Transport,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """A request, tried again while that may help: an answer of any status but `_MAY_PASS`."""
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = transport.send(method, url, headers=headers, data=data)
            except NoAnswerError as exc:
                if exc.kind is not Kind.CONNECTION or attempt == _ATTEMPTS:
                    raise _unreachable(exc) from None
                self._wait(_FIRST_WAIT * 2 ** (attempt - 1), exc.host, str(exc))
                continue
            if answer.status_code not in _MAY_PASS:
                return answer
            with answer:
                host, why = shown_host(answer.url), f"HTTP {answer.status_code}"
                seconds = _retry_after(answer.headers.get("Retry-After", ""))
                if attempt == _ATTEMPTS or (seconds or 0) > _LONGEST_WAIT:
                    raise _busy(answer, seconds)
            self._wait(_FIRST_WAIT * 2 ** (attempt - 1) if seconds is None else seconds, host, why)

    def _wait(self, seconds: float, host: str, why: str) -> None:
        if self._emit and seconds >= _NOTABLE_WAIT:
            self._emit(Note(f"{host}: {why}; trying again in {seconds:.0f} s", warning=True))
        if self._closed.wait(seconds):
            raise TemporaryError("the registry is no longer asked", where=host, detail=why)

    def _server(self, reference: Reference) -> _Server:
        # A login may be for one repository alone (containers-auth.json(5)).
        key = (reference.registry, reference.repository)
        with self._lock:
            if key not in self._servers:
                base, transport = self._transport(reference)
                self._servers[key] = _Server(
                    base,
                    transport,
                    Authorizer(
                        base,
                        functools.partial(self._login, reference),
                        functools.partial(self._ask, transport),
                    ),
                )
            return self._servers[key]

    def _transport(self, reference: Reference) -> tuple[str, Transport]:
        registry = reference.registry
        if registry not in self._transports:
            settings = self._settings.get(registry) or RegistrySettings(registry)
            ca_files = certificates(settings, self._certs_d)
            transport = Transport(ca_files)
            scheme = "http" if settings.plain_http else "https"
            if is_loopback(registry) and not settings.plain_http and not ca_files:
                scheme = _scheme_of_loopback(transport, registry)
            self._transports[registry] = f"{scheme}://{reference.api_host}", transport
        return self._transports[registry]

    def _login(self, reference: Reference) -> Login | None:
        settings = self._settings.get(reference.registry)
        if settings and settings.username:
            return Login(settings.username, settings.password, source="the caller's settings")
        return find_login(reference.registry, reference.repository, self._environ)

    def _unauthorized(self, reference: Reference, login: Login | None, said: str) -> PreflightError:
        if login:
            who = f"logged in as {login.username or 'the owner of a token'} ({login.source})"
        else:
            files = ", ".join(map(str, credential_files(self._environ)))
            who = f"no login for {reference.registry} in {files}"
        return PreflightError(
            "the registry refuses access"
            if login
            else "the registry wants a login, or there is no such image",
            where=str(reference),
            detail="\n".join(filter(None, (who, said))),
            hint=f"docker login {reference.registry}; some registries answer so, too, for "
            "repositories that they do not have",
        )


def _read(answer: requests.Response, reference: Reference) -> bytes:
    data = b""
    try:
        for block in answer.iter_content(_BLOCK):
            data += block
            if len(data) > _LARGEST_MANIFEST:
                raise ConfigError("the manifest is too large for one", where=str(reference))
    except (requests.RequestException, OSError) as exc:
        raise TemporaryError(
            "a download broke off", where=str(reference), detail=reason(exc), hint="try again"
        ) from None
    return data


def _scheme_of_loopback(transport: Transport, registry: str) -> str:
    """https, or http when a registry on this host does not speak TLS at all."""
    try:
        transport.send("GET", f"https://{registry}/v2/", headers={}, timeout=_PROBE).close()
    except NoAnswerError as exc:
        if exc.kind is Kind.CERTIFICATE:
            return "https"
    else:
        return "https"
    try:
        transport.send("GET", f"http://{registry}/v2/", headers={}, timeout=_PROBE).close()
    except NoAnswerError:
        return "https"
    return "http"


def wrong_content(reference: Reference, digest: str, detail: str) -> BuildError:
    """The error for bytes that are not what their digest says."""
    return BuildError(
        "the registry sends something else than was asked for",
        where=f"{reference.name}@{digest}",
        detail=detail,
        hint="a proxy, or the registry's storage, has damaged it: push the image again, or take "
        "another mirror",
    )


def _unreachable(exc: NoAnswerError) -> ImagebuildError:
    if exc.kind is Kind.CERTIFICATE:
        name = exc.host.partition("://")[2]
        return PreflightError(
            "the registry's certificate is not trusted",
            where=exc.host,
            detail=str(exc),
            hint=f"say the CA that signed it (docker.registries of the profile), or put it where "
            f"docker looks: {CERTS_D / name}/ca.crt",
        )
    if exc.kind is Kind.TLS:
        return PreflightError(
            "the registry does not speak TLS",
            where=exc.host,
            detail=str(exc),
            hint="give it a certificate, or say that it speaks plain http",
        )
    return TemporaryError(
        "cannot reach the registry",
        where=exc.host,
        detail=str(exc),
        hint="is the name right, the host up, a proxy needed (https_proxy, no_proxy)?",
    )


def _busy(answer: requests.Response, seconds: float | None) -> TemporaryError:
    limited = answer.status_code == 429
    later = f"; it asks to come back in {seconds:.0f} s" if seconds else ""
    return TemporaryError(
        "the registry limits our requests" if limited else "the registry fails",
        where=shown_host(answer.url),
        detail="\n".join(filter(None, (f"HTTP {answer.status_code}{later}", _said(answer)))),
        hint="try again later; who is logged in may ask more often (docker login)"
        if limited
        else "try again later",
    )


def _refused(answer: requests.Response, reference: Reference, what: str) -> ImagebuildError:
    said = "\n".join(filter(None, (f"HTTP {answer.status_code}", _said(answer))))
    if answer.status_code == 404:
        parts = (
            f"registry {reference.registry}",
            f"repository {reference.repository}",
            f"tag {reference.tag}" if reference.tag else "",
            reference.digest,
        )
        return ConfigError(
            f"the registry does not have {what}",
            where=", ".join(filter(None, parts)),
            detail=said,
            hint="check the name, and that the image has been pushed",
        )
    if answer.status_code == 403:
        return PreflightError(
            "the registry refuses access",
            where=str(reference),
            detail=said,
            hint=f"may the user of this login pull it? docker login {reference.registry}",
        )
    return BuildError(f"the registry does not give {what}", where=str(reference), detail=said)


def _said(answer: requests.Response) -> str:
    """The registry's own words (distribution specification, "Error Codes"), or nothing."""
    try:
        data = answer.raw.read(_LONGEST_WORDS, decode_content=True)
        errors = json.loads(data)["errors"]
        return "\n".join(f"{e.get('code', '')}: {e.get('message', '')}"[:300] for e in errors[:3])
    except (urllib3.exceptions.HTTPError, OSError, ValueError, LookupError, TypeError,
            AttributeError):  # fmt: skip
        return ""


def _retry_after(text: str) -> float | None:
    """Seconds from a Retry-After header: a number or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0)
    except (TypeError, ValueError):
        return None
