"""A proxy before a real registry, which does to requests what networks and loaded servers do.

    with RegistryProxy(server) as proxy:
        proxy.limit("PATCH", "/blobs/uploads/", retry_after="1")
        ...  # speak to proxy.host, plain http
        assert proxy.count("PATCH") == 2

Each method of `RegistryProxy` adds a rule, and returns it: `rule.hits` says how often it was
applied. `path` is a regular expression, searched for in path and query; `nth` (from 1) and
`times` (None: always) say to which of the requests that fit. For all else see FaultProxy.
"""

from __future__ import annotations

import collections
import re

from tests.registry_server import RegistryServer
from tests.services.proxy import (
    Action,
    Answer,
    Call,
    CutAnswer,
    CutRequest,
    Damage,
    FaultProxy,
    LoseAnswer,
    Request,
    Rule,
    Slow,
)

BLOBS = "/blobs/sha256:"
UPLOADS = "/blobs/uploads/"
MANIFESTS = "/manifests/"
_KINDS = ((UPLOADS, "upload"), ("/blobs/", "blob"), (MANIFESTS, "manifest"), ("/tags/", "tags"))


class RegistryProxy(FaultProxy):
    """Before a registry that speaks plain http; `host` is its name to clients."""

    def __init__(self, server: RegistryServer) -> None:
        assert server.scheme == "http", "it cannot look into TLS"
        super().__init__(0, server.port)
        self.server = server

    def __enter__(self) -> RegistryProxy:
        return self

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    # --- what it does ---

    def limit(
        self,
        method: str = "*",
        path: str = "",
        *,
        retry_after: str = "1",
        nth: int = 1,
        times: int | None = 1,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Rule:
        """429, with a Retry-After if it is not empty; `headers` may tell a quota."""
        after = (("Retry-After", retry_after),) if retry_after else ()
        return self._rule(method, path, Answer(429, b"", (*after, *headers)), nth, times)

    def fail(
        self,
        method: str = "*",
        path: str = "",
        *,
        status: int = 503,
        body: bytes = b"",
        nth: int = 1,
        times: int | None = 1,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Rule:
        """A status in the registry's place; 401 is how a token ends."""
        return self._rule(method, path, Answer(status, body, headers), nth, times)

    def redirect(
        self,
        to: str,
        method: str = "GET",
        path: str = BLOBS,
        *,
        query: str = "signature=s3cret",
        times: int | None = None,
    ) -> Rule:
        """307 to the same path of another origin (`to`: http://HOST:PORT), as to a store."""

        def elsewhere(request: Request) -> Action:
            joint = "&" if "?" in request.path else "?"
            return Answer(307, b"", (("Location", f"{to}{request.path}{joint}{query}"),))

        return self._rule(method, path, Call(elsewhere), 1, times)

    def cut_download(
        self, path: str = BLOBS, *, after: int = 0, nth: int = 1, times: int | None = 1
    ) -> Rule:
        """Hang up after so many bytes of an answer to a GET."""
        return self._rule("GET", path, CutAnswer(after), nth, times)

    def cut_upload(
        self,
        path: str = UPLOADS,
        *,
        method: str = "PATCH",
        after: int = 0,
        nth: int = 1,
        times: int | None = 1,
    ) -> Rule:
        """Cut both connections after so many bytes of a request's body."""
        return self._rule(method, path, CutRequest(after), nth, times)

    def lose_answer(
        self, method: str, path: str = "", *, nth: int = 1, times: int | None = 1
    ) -> Rule:
        """Let the registry do it, and hang up without an answer."""
        return self._rule(method, path, LoseAnswer(), nth, times)

    def corrupt_download(
        self, path: str = BLOBS, *, at: int = 0, nth: int = 1, times: int | None = 1
    ) -> Rule:
        """Change one byte of an answer to a GET."""
        return self._rule("GET", path, Damage(at), nth, times)

    def corrupt_upload(
        self,
        path: str = UPLOADS,
        *,
        method: str = "PATCH",
        at: int = 0,
        nth: int = 1,
        times: int | None = 1,
    ) -> Rule:
        """Change one byte of a request's body."""
        return self._rule(method, path, Damage(at, request=True), nth, times)

    def slow(
        self, rate: float, method: str = "*", path: str = "/blobs/", *, times: int | None = None
    ) -> Rule:
        """Bodies of requests and answers at so many bytes a second, each request by itself."""
        return self._rule(method, path, Slow(rate), 1, times)

    # --- what came ---

    def counts(self) -> dict[str, int]:
        """Requests by method and kind: `{"HEAD manifest": 2, "PATCH upload": 1}`."""
        return dict(collections.Counter(f"{r.method} {kind(r.path)}" for r in self.seen()))

    def bytes_in(self, method: str = "*", path: str = "") -> int:
        """Of the bodies of requests."""
        return sum(r.received for r in self.seen(method, path))

    def bytes_out(self, method: str = "*", path: str = "") -> int:
        """Of the bodies of answers."""
        return sum(r.sent for r in self.seen(method, path))

    def _rule(self, method: str, path: str, action: Action, nth: int, times: int | None) -> Rule:
        return self.add(Rule(method, path, action, nth, times))


def kind(path: str) -> str:
    """What a path of the registry's API is about."""
    return next((name for part, name in _KINDS if re.search(part, path)), "other")
