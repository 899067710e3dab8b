"""Requests to registries: logged in as each wants it, paced, tried again while that may help."""

from __future__ import annotations

import collections
import functools
import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from imagebuild.errors import ConfigError, PreflightError, TemporaryError
from imagebuild.events import Emit, Note
from imagebuild.registry.auth import Authorizer
from imagebuild.registry.credentials import (
    GIVEN,
    Answers,
    Login,
    NoLoginError,
    credential_files,
    find_login,
)
from imagebuild.registry.limits import Limits
from imagebuild.registry.problems import busy, retry_after, said, unreachable
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import (
    RegistrySettings,
    certificates,
    client_certificate,
    is_loopback,
)
from imagebuild.registry.transport import (
    TIMEOUT,
    Body,
    Kind,
    NoAnswerError,
    Transport,
    same_origin,
    shown_host,
)

#: Seconds to find out whether a registry on this host speaks TLS.
_PROBE = (3.0, 3.0)
#: As TIMEOUT, for what may take a registry long: what it has in an object store it may read again
#: before it says that it has it.
PATIENT = (10.0, 300.0)
ATTEMPTS = 4
#: Of a registry that limits us, which is no failure: others of our threads ask it, too.
_LIMITED_ATTEMPTS = 8
#: Seconds before the second attempt; each later one waits twice as long.
_FIRST_WAIT = 0.5
_LONGEST_BACK_OFF = 30.0
#: Seconds of waiting that are worth a word.
_NOTABLE_WAIT = 5
MAY_PASS = (408, 429, 500, 502, 503, 504)
LIMITED = 429


@dataclass(frozen=True)
class Host:
    """A registry, whatever the repository."""

    name: str
    base: str
    transport: Transport
    limits: Limits


@dataclass
class Server:
    """A registry as we speak to it about one repository: a login may be for that alone
    (containers-auth.json(5)). `piece`: bytes that it takes in one request; 0: any number.
    """

    host: Host
    authorizer: Authorizer
    piece: int = 0

    @property
    def limits(self) -> Limits:
        """Those of the host."""
        return self.host.limits


class Exchange:
    """All registries that a client speaks to. Several threads may use it at once."""

    def __init__(
        self,
        registries: Iterable[RegistrySettings],
        environ: Mapping[str, str],
        emit: Emit | None,
        certs_d: Path,
        longest_wait: float,
        first_wait: float | None,
    ) -> None:
        self._settings = {r.host: r for r in registries}
        self._environ = environ
        self._emit = emit
        self._certs_d = certs_d
        self._longest_wait = longest_wait
        self._first_wait = _FIRST_WAIT if first_wait is None else first_wait
        self._answers: Answers = {}
        self._servers: dict[tuple[str, str], Server] = {}
        self._hosts: dict[str, Host] = {}
        self._lock = threading.RLock()
        self.closed = threading.Event()
        self.counts: collections.Counter[str] = collections.Counter()

    def close(self) -> None:
        """End the connections, the waiting of other threads, and their transfers."""
        self.closed.set()
        with self._lock:
            for host in self._hosts.values():
                host.transport.close()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Those that were spoken to."""
        with self._lock:
            return tuple(self._hosts.values())

    def request(
        self,
        method: str,
        reference: Reference,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        actions: str = "pull",
        besides: str = "",
    ) -> requests.Response:
        """Ask a registry about a repository, logged in as far as it wants that.

        `path` is below the repository, or, from a `/` on, below the registry. `besides` is a
        scope that the request needs for another repository. The answer has any status but 401
        and those that may pass.
        """
        server = self.server(reference)
        whole = path if path.startswith("/") else f"/v2/{reference.repository}/{path}"
        wanted = scope(reference, actions, besides)
        timeout = TIMEOUT if method in ("GET", "HEAD") else PATIENT
        return self.send(server, method, f"{server.host.base}{whole}", reference, headers or {},
                         data=data, scope=wanted, timeout=timeout)  # fmt: skip

    def send(
        self,
        server: Server,
        method: str,
        url: str,
        reference: Reference,
        headers: Mapping[str, str],
        *,
        scope: str,
        data: bytes | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> requests.Response:
        """As `request`, with a whole URL: the login goes with it only to the registry itself."""
        ours = same_origin(url, server.host.base)
        limits = server.limits if ours else None
        authorization = server.authorizer.header(scope) if ours else None
        # The first may go without a login, and a token may end on its way.
        for left in (2, 1, 0):
            login = {"Authorization": authorization} if authorization else {}
            answer = self.ask(server.host.transport, method, url, {**headers, **login}, data,
                              limits=limits, timeout=timeout)  # fmt: skip
            if answer.status_code != 401:
                return answer
            with answer:
                words = said(answer)
            # Where a registry leads to does not say who gets its login.
            if not left or not same_origin(answer.url, server.host.base):
                break
            authorization = self.renew(server, answer, scope, authorization)
            if not authorization:
                break
        raise self.unauthorized(server, reference, words)

    def send_body(
        self,
        server: Server,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        *,
        scope: str,
        timeout: tuple[float, float],
    ) -> tuple[requests.Response, str | None]:
        """Once, whatever comes of it, since a body is used up then; and the login that was sent.

        Raises NoAnswerError.
        """
        ours = same_origin(url, server.host.base)
        authorization = server.authorizer.header(scope) if ours else None
        login = {"Authorization": authorization} if authorization else {}
        if ours:
            server.limits.turn()
        self.counts[method] += 1
        answer = server.host.transport.send(
            method, url, headers={**headers, **login}, data=body, timeout=timeout
        )
        return answer, authorization

    def renew(
        self, server: Server, answer: requests.Response, scope: str, refused: str | None
    ) -> str | None:
        """Another login after a 401; None when there is none."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        return server.authorizer.renew(challenge, scope, refused)

    def ask(
        self,
        transport: Transport,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Mapping[str, str] | bytes | None = None,
        *,
        limits: Limits | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> requests.Response:
        """A request, tried again while that may help: an answer of any status but `MAY_PASS`.

        `limits`: those of the registry; None for its token server, or a store that it uses.
        """
        attempt = limited = 0
        while True:
            if limits:
                limits.turn()
                self.counts[method] += 1
            try:
                answer = transport.send(method, url, headers=headers, data=data, timeout=timeout)
            except NoAnswerError as exc:
                attempt += 1
                if exc.kind is not Kind.CONNECTION or attempt == ATTEMPTS:
                    raise unreachable(exc) from None
                self.wait(self.back_off(attempt), exc.host, str(exc))
                continue
            if limits:
                self._learn(limits, answer)
            if answer.status_code not in MAY_PASS:
                return answer
            if answer.status_code == LIMITED:
                limited += 1
            else:
                attempt += 1
            with answer:
                words = said(answer)
            self.stand_back(answer, words, limits, attempt, limited)

    def stand_back(
        self,
        answer: requests.Response,
        words: str,
        limits: Limits | None,
        attempt: int,
        limited: int,
    ) -> None:
        """Wait as an answer of `MAY_PASS` says, with all who ask this registry; or raise it.

        `words`: what `said` said of it; `attempt`, `limited`: how often it has failed, and
        limited us.
        """
        seconds = retry_after(answer)
        host, why = shown_host(answer.url), f"HTTP {answer.status_code}"
        is_last = attempt >= ATTEMPTS or limited >= _LIMITED_ATTEMPTS
        if is_last or (seconds or 0) > self._longest_wait:
            raise busy(answer, words, seconds, limits.quota if limits else None)
        if seconds is None:
            seconds = self.back_off(max(attempt, limited))
            if answer.status_code != LIMITED:
                self.wait(seconds, host, why)
                return
        if limits is None:
            self.wait(seconds, host, why)
        elif limits.hold(seconds):
            self._tell(seconds, host, why)

    def back_off(self, attempt: int) -> float:
        """Seconds before the next attempt. Threads that failed together do not come back so."""
        longest: float = min(self._first_wait * 2 ** (attempt - 1), _LONGEST_BACK_OFF)
        return longest * random.uniform(0.75, 1)  # noqa: S311 - no secret

    def wait(self, seconds: float, host: str, why: str) -> None:
        """Wait before another attempt. Raises TemporaryError when the client is closed."""
        self._tell(seconds, host, why)
        self._pause(seconds, host, why)

    def _pause(self, seconds: float, host: str, why: str) -> None:
        if self.closed.wait(seconds):
            raise TemporaryError("the registry is no longer asked", where=host, detail=why)

    def check_open(self, host: str) -> None:
        """Raises TemporaryError when the client is closed: a transfer is to end, too."""
        if self.closed.is_set():
            raise TemporaryError("the registry is no longer asked", where=host)

    def _tell(self, seconds: float, host: str, why: str) -> None:
        if self._emit and seconds >= _NOTABLE_WAIT:
            self._emit(Note(f"{host}: {why}; trying again in {seconds:.0f} s", warning=True))

    def _learn(self, limits: Limits, answer: requests.Response) -> None:
        if limits.learn(answer.headers) and self._emit:
            self._emit(Note(f"{shown_host(answer.url)}: {limits.quota}", warning=True))

    def is_open(self, registry: str) -> bool:
        """Whether a registry answers without a login, be it with a token that all get."""
        host = self.server(Reference(registry, "")).host
        nobody = Authorizer(host.base, lambda: None, functools.partial(self.ask, host.transport))
        headers: dict[str, str] = {}
        for _ in range(2):
            with self.ask(host.transport, "GET", f"{host.base}/v2/", headers) as answer:
                if answer.status_code != 401:
                    break
            challenge = answer.headers.get("WWW-Authenticate", "")
            try:
                token = nobody.renew(challenge, "", headers.get("Authorization"))
            except PreflightError:  # the token server wants a login
                return False
            if not token:
                return False
            headers = {"Authorization": token}
        if answer.status_code not in (200, 401):
            raise ConfigError(
                "this is no registry",
                where=f"{host.base}/v2/",
                detail=f"HTTP {answer.status_code}",
                hint="check its name and port",
            )
        return answer.status_code == 200

    def server(self, reference: Reference) -> Server:
        """The registry of a name."""
        key = (reference.registry, reference.repository)
        with self._lock:
            if key not in self._servers:
                host = self._host(reference)
                self._servers[key] = Server(
                    host,
                    Authorizer(
                        host.base,
                        functools.partial(self.login, reference),
                        functools.partial(self.ask, host.transport),
                    ),
                )
            return self._servers[key]

    def _host(self, reference: Reference) -> Host:
        registry = reference.registry
        if registry not in self._hosts:
            settings = self._settings.get(registry) or RegistrySettings(registry)
            ca_files = certificates(settings, self._certs_d)
            ours = client_certificate(settings, self._certs_d)
            api_host = reference.api_host
            transport = Transport(ca_files, host=api_host, insecure=settings.insecure, client=ours)
            scheme = "http" if settings.plain_http else "https"
            says_tls = ca_files or ours or settings.insecure
            if is_loopback(registry) and not settings.plain_http and not says_tls:
                scheme = _scheme_of_loopback(transport, registry)
            pause = functools.partial(self._pause, host=registry, why="its turn did not come")
            limits = Limits(settings.concurrency, settings.requests_per_second, pause)
            self._hosts[registry] = Host(registry, f"{scheme}://{api_host}", transport, limits)
        return self._hosts[registry]

    def login(self, reference: Reference) -> Login | None:
        """What we log in with where the registry wants a login; None: nothing is known."""
        settings = self._settings.get(reference.registry)
        if settings and settings.username:
            return Login(settings.username, settings.password, source=GIVEN)
        return find_login(reference.registry, reference.repository, self._environ, self._answers)

    def unauthorized(self, server: Server, reference: Reference, words: str) -> PreflightError:
        """The error for a 401 that no login of ours changes."""
        login = server.authorizer.login
        files = ", ".join(map(str, credential_files(self._environ)))
        who = str(login) if login else f"no login for {reference.registry} in {files}"
        advice = login.advice if login else f"docker login {reference.registry}"
        return (PreflightError if login else NoLoginError)(
            "the registry refuses access"
            if login
            else "the registry wants a login, or there is no such image",
            where=str(reference),
            detail="\n".join(filter(None, (who, words))),
            hint=f"{advice}; some registries answer so, too, for repositories that they do not "
            "have",
        )


def scope(reference: Reference, actions: str, besides: str = "") -> str:
    """What a token must allow (token specification, "Token Scope Documentation")."""
    return " ".join(filter(None, (f"repository:{reference.repository}:{actions}", besides)))


def _scheme_of_loopback(transport: Transport, registry: str) -> str:
    """https, or http when a registry on this host does not speak TLS at all."""
    try:
        transport.send("GET", f"https://{registry}/v2/", headers={}, timeout=_PROBE).close()
    except NoAnswerError as exc:
        if exc.kind in (Kind.CERTIFICATE, Kind.CLIENT_CERTIFICATE):
            return "https"
    else:
        return "https"
    try:
        transport.send("GET", f"http://{registry}/v2/", headers={}, timeout=_PROBE).close()
    except NoAnswerError:
        return "https"
    return "http"
