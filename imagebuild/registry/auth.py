"""Logging in to a registry: Basic, and Bearer with a token server.

The flow is that of distribution's "Token Authentication Specification" and "OAuth2 token
authentication": a registry answers 401 with a challenge, and the token server that it names
gives a token for a scope, to people without a login, too.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from imagebuild.errors import PreflightError
from imagebuild.registry.credentials import Login, NoLoginError
from imagebuild.registry.settings import is_loopback

#: What a token lives at least, when the server does not say (token specification).
_LIFETIME = 60
#: Seconds before its end that a token is not used any more.
_MARGIN = 10
_FORBIDDEN = 403

_PARAMETER = r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))'
_CHALLENGE = re.compile(rf"{_PARAMETER}|([A-Za-z][A-Za-z0-9-]*)")


class Ask(Protocol):
    """A request to a token server, with retries."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], data: Mapping[str, str] | None
    ) -> requests.Response: ...


@dataclass(frozen=True)
class _Token:
    header: str
    until: float


class Authorizer:
    """Gives a request its Authorization header. Several threads may use it at once.

    A scope is what the token specification calls so: `repository:NAME:pull,push`; several,
    with a blank between them, where a request touches two repositories.
    `login` is asked for once, when the registry wants one: helpers may take time.
    """

    def __init__(self, base: str, find: Callable[[], Login | None], ask: Ask) -> None:
        self._base = base
        self._find = find
        self._ask = ask
        self._lock = threading.Lock()
        self._login: tuple[Login | None] | None = None
        self._challenges: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, _Token] = {}

    @property
    def login(self) -> Login | None:
        """What is logged in with; None: nothing was found, or nothing was needed."""
        return self._login[0] if self._login else None

    def header(self, scope: str) -> str | None:
        """The header for a scope, None as long as the registry has not asked for one."""
        with self._lock:
            return self._header(scope) if self._challenges else None

    def renew(self, challenge: str, scope: str, refused: str | None) -> str | None:
        """The header after a 401; None when there is no better one than what was refused.

        Raises PreflightError when the token server refuses the login.
        """
        with self._lock:
            self._challenges = _parse(challenge) or self._challenges
            kept = self._tokens.get(scope)
            if kept and kept.header == refused:
                del self._tokens[scope]
            header = self._header(scope)
            return header if header != refused else None

    def _header(self, scope: str) -> str | None:
        if not self._login:
            self._login = (self._find(),)
        if "bearer" in self._challenges:
            token = self._tokens.get(scope)
            if token is None or token.until < time.monotonic():
                token = self._tokens[scope] = self._fetch(self._challenges["bearer"], scope)
            return token.header
        if "basic" in self._challenges and self.login and self.login.password:
            return _basic(self.login)
        return None

    def _fetch(self, challenge: Mapping[str, str], scope: str) -> _Token:
        realm, service = challenge.get("realm", ""), challenge.get("service", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise PreflightError(
                "the registry names no token server", where=self._base, detail=realm[:200]
            )
        in_clear = parts.scheme == "http" and not is_loopback(parts.netloc)
        if self.login and in_clear and self._base.startswith("https:"):
            raise PreflightError(
                "the registry's token server wants the login without TLS",
                where=f"{self._base}, token server {parts.scheme}://{parts.netloc}",
                hint="its address (realm) is set in the registry's configuration",
            )
        query = {k: v for k, v in {"service": service, "scope": scope}.items() if v}
        headers: dict[str, str] = {}
        if self.login and self.login.token:
            form = query | {"grant_type": "refresh_token", "client_id": "imagebuild",
                            "refresh_token": self.login.token}  # fmt: skip
            response = self._ask("POST", realm, headers, form)
        else:
            if self.login:
                headers["Authorization"] = _basic(self.login)
            # Of several scopes, each is a parameter here, and in the form above they are one.
            scopes = [("scope", s) for s in scope.split()]
            known = [(k, v) for k, v in query.items() if k != "scope"]
            whole = urlencode([*parse_qsl(parts.query), *known, *scopes])
            response = self._ask("GET", urlunsplit(parts._replace(query=whole)), headers, None)
        with response:
            return self._read(response, f"{parts.scheme}://{parts.netloc}", scope)

    def _read(self, response: requests.Response, server: str, scope: str) -> _Token:
        if response.status_code != 200:
            # GHCR and Quay say so of what is private, or not there: then it is about the
            # repositories, and only a login that is wrong is about the whole registry.
            names = [s.split(":")[1] for s in scope.split()]
            of_these = names and (not self.login or response.status_code == _FORBIDDEN)
            host = self._base.partition("://")[2]
            place = ", ".join(f"{host}/{n}" for n in names) if of_these else self._base
            raise (PreflightError if self.login else NoLoginError)(
                "the registry's token server gives no token",
                where=f"{place}, token server {server}",
                detail=f"HTTP {response.status_code}, {self.login or 'without a login'}",
                hint=self.login.advice
                if self.login
                else f"docker login {host}; some registries answer so, too, for repositories that "
                "they do not have",
            )
        try:
            answer = json.loads(response.content)
            token = str(answer.get("token") or answer["access_token"])
            lifetime = float(answer.get("expires_in") or _LIFETIME)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise PreflightError(
                "the registry's token server gives no token",
                where=f"{self._base}, token server {server}",
                detail=f"its answer cannot be read ({type(exc).__name__})",
            ) from None
        return _Token(f"Bearer {token}", time.monotonic() + max(lifetime - _MARGIN, 1))


def _parse(challenge: str) -> dict[str, dict[str, str]]:
    """The challenges of a WWW-Authenticate header by scheme in small letters (RFC 9110, 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _CHALLENGE.finditer(challenge):
        name, quoted, plain, scheme = match.groups()
        if scheme:
            current = found[scheme.lower()] = {}
        else:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            current[name.lower()] = value
    return found


def _basic(login: Login) -> str:
    words = f"{login.username}:{login.password}".encode()
    return f"Basic {base64.b64encode(words).decode()}"
