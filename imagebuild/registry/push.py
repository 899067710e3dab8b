"""A blob into a registry: begun (POST), sent (PATCH), and ended with its digest (PUT).

OCI distribution specification 1.1, "Pushing Blobs". A registry forgets an upload whose
connection broke (distribution 2.8 does), so that each further attempt is a new one, with the
bytes from the first on. What is wrong with the bytes is known before the PUT: they never
become a blob.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

import requests

from imagebuild.errors import BuildError, ImagebuildError, PreflightError, TemporaryError
from imagebuild.files import MIB
from imagebuild.registry.exchange import ATTEMPTS, LIMITED, MAY_PASS, PATIENT, Exchange, scope
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.problems import refused, said, unreachable
from imagebuild.registry.reference import Reference
from imagebuild.registry.transport import (
    Body,
    Kind,
    NoAnswerError,
    same_origin,
    shown_host,
)

#: Seconds to connect and for one write, and for an answer: a proxy may take all of a blob before
#: it passes any of it on.
_TIMEOUT = (30.0, 300.0)
#: Bytes of a request where a registry, or a proxy before it, does not take a blob at once.
_PIECE = 16 * MIB
_MOST_REDIRECTS = 5
_MOVED = (307, 308)
#: Seconds to tell a registry that an upload will not be ended: it forgets it by itself, too.
_CANCEL_TIMEOUT = (2.0, 3.0)
_ACTIONS = "pull,push"
_OCTETS = "application/octet-stream"


class _SourceError(Exception):
    """Reading the blob's bytes failed; not an OSError, which would be the connection's."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _AgainError(Exception):
    """The attempt came to nothing, and another one may help; `error`: when none is left.

    `answer`: what a registry that is busy said.
    """

    def __init__(self, error: ImagebuildError, answer: requests.Response | None = None) -> None:
        super().__init__(error.what)
        self.error = error
        self.answer = answer


class _Source:
    """A blob's bytes, in pieces, with what has come of them."""

    def __init__(
        self,
        blocks: Iterator[bytes],
        told: Callable[[int], None],
        wrong: Callable[[str], BuildError],
    ) -> None:
        self._blocks = blocks
        self._wrong = wrong
        self._left = b""
        self._told = told
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of what was given so far."""
        return f"sha256:{self._sha256.hexdigest()}"

    def piece(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size and (block := self._left or self._next()):
            give, self._left = block[:size], block[size:]
            size -= len(give)
            self._sha256.update(give)
            yield give
            self._told(len(give))
        if size:
            raise _SourceError(self._wrong("it is shorter"))

    def has_more(self) -> bool:
        """Whether there are bytes behind those that were given."""
        return bool(self._left or self._next())

    def close(self) -> None:
        """Let go of the connection that the bytes came by."""
        close = getattr(self._blocks, "close", None)
        if close:
            close()

    def _next(self) -> bytes:
        try:
            # An empty block is not the end.
            return next((b for b in self._blocks if b), b"")
        except Exception as exc:
            raise _SourceError(exc) from exc


class Upload:
    """One blob on its way. `has_blob` asks whether it is there."""

    def __init__(
        self,
        exchange: Exchange,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._exchange = exchange
        self._reference = reference
        self._blob = blob
        self._read = read
        self._progress = progress
        self._server = exchange.server(reference)
        self._scope = scope(reference, _ACTIONS)
        self._url = ""
        self._piece = _PIECE
        self._failures = 0
        #: Bytes sent of this attempt, and of all.
        self._at = self._sent = 0

    def run(self, has_blob: Callable[[], bool]) -> int:
        """Bytes sent."""
        limited = 0
        while True:
            try:
                with self._server.limits.uploads.taken():
                    self._try()
                return self._sent
            except _AgainError as exc:
                if exc.answer is not None and exc.answer.status_code == LIMITED:
                    limited += 1
                else:
                    self._failures += 1
                if exc.answer is not None:
                    self._exchange.stand_back(
                        exc.answer, exc.error.detail, self._server.limits, self._failures, limited
                    )
                elif self._failures == ATTEMPTS:
                    raise exc.error from None
                else:
                    seconds = self._exchange.back_off(self._failures)
                    self._exchange.wait(seconds, self._server.host.base, exc.error.what)
            # An answer may have been lost, or somebody else has brought it.
            if has_blob():
                return self._sent

    def _try(self) -> None:
        self._begin()
        try:
            for _ in range(_MOST_REDIRECTS):
                if self._send():
                    break
            else:
                moved = NoAnswerError(Kind.CONNECTION, shown_host(self._url), "too many redirects")
                raise self._broken(moved)
            self._commit()
        except _SourceError as exc:
            cancel(self._exchange, self._reference, self._url)
            raise exc.cause from None
        except BaseException:
            cancel(self._exchange, self._reference, self._url)
            raise

    def _begin(self) -> None:
        reference = self._reference
        with self._exchange.request(
            "POST", reference, "blobs/uploads/", actions=_ACTIONS
        ) as answer:
            place = answer.headers.get("Location")
            if answer.status_code != 202 or not place:
                raise refused(answer, reference, "blobs", writes=True)
            self._url = self._place(answer, place)
            least = answer.headers.get("OCI-Chunk-Min-Length", "")
            self._piece = max(_PIECE, int(least) if least.isdecimal() else 0)

    def _send(self) -> bool:
        """Send the bytes; False: they are to go to another place, from the first on."""
        size = self._blob.size
        source = _Source(self._read(0), self._told, self._wrong)
        self._at = 0
        try:
            while self._at < size:
                length = min(self._server.piece or size, size - self._at)
                if not self._send_piece(source, length):
                    return False
            if source.has_more():
                raise self._wrong("it is longer")
        finally:
            source.close()
        if source.digest != self._blob.digest:
            raise self._wrong(f"it is {source.digest}")
        return True

    def _send_piece(self, source: _Source, length: int) -> bool:
        start = self._at
        headers = {"Content-Type": _OCTETS}
        if self._server.piece:
            headers["Content-Range"] = f"{start}-{start + length - 1}"
        body = Body(source.piece(length), length)
        try:
            answer, authorization = self._exchange.send_body(
                self._server, "PATCH", self._url, headers, body, scope=self._scope,
                timeout=_TIMEOUT,
            )  # fmt: skip
        except NoAnswerError as exc:
            # Some proxies hang up on what is too large for them. Once may be anything.
            if self._failures and self._is_large():
                self._server.piece = self._piece
            raise self._broken(exc) from None
        with answer:
            place = answer.headers.get("Location", "")
            is_taken = answer.status_code in (200, 201, 202, 204)
            # What a server sent on before the first byte counted, may come again in whole.
            is_moved = answer.status_code in _MOVED and place and not start
            if not is_taken and not is_moved:
                raise self._failed(answer, authorization)
            # It tells how far the upload has come, too: an older one is worth nothing.
            if place:
                self._url = self._place(answer, place)
        return is_taken

    def _failed(self, answer: requests.Response, authorization: str | None) -> Exception:
        """What an answer means that does not take the bytes."""
        status, reference, server = answer.status_code, self._reference, self._server
        if status in MAY_PASS:
            words = said(answer)
            busy = TemporaryError("the registry fails", where=server.host.base, detail=words)
            return _AgainError(busy, answer)
        if status == 401 and same_origin(answer.url, server.host.base):
            no_login = self._exchange.unauthorized(server, reference, said(answer))
            renewed = self._exchange.renew(server, answer, self._scope, authorization)
            return _AgainError(no_login) if renewed else no_login
        if status in (413, 416) and self._is_large():
            server.piece = self._piece
            return _AgainError(refused(answer, reference, "a blob as large as this", writes=True))
        error = refused(answer, reference, f"the blob {self._blob.digest}", writes=True)
        # 404: it has lost the upload; 416: it has other bytes of it than we sent.
        return _AgainError(error) if status in (404, 416) else error

    def _commit(self) -> None:
        reference, digest = self._reference, self._blob.digest
        parts = urlsplit(self._url)
        query = "&".join(filter(None, (parts.query, f"digest={digest}")))
        with self._exchange.send(
            self._server, "PUT", parts._replace(query=query).geturl(), reference,
            {"Content-Type": _OCTETS}, scope=self._scope, timeout=PATIENT,
        ) as answer:  # fmt: skip
            if answer.status_code in (200, 201, 204):
                told = answer.headers.get("Docker-Content-Digest", "")
                if told.startswith("sha256:") and told != digest:
                    raise BuildError(
                        "the registry has put a blob under another digest",
                        where=f"{reference.name}@{digest}",
                        detail=f"it calls it {told}",
                    )
                return
            error = refused(answer, reference, f"the blob {digest}", writes=True)
            # 400: something on the way has changed the bytes; 404: it has lost the upload,
            # or taken it, and the answer was lost.
            if answer.status_code in (400, 404, 416):
                raise _AgainError(error)
            raise error

    def _place(self, answer: requests.Response, place: str) -> str:
        """Where the upload goes on: a whole URL or a path, with a query of its own."""
        url, base = urljoin(answer.url, place), self._server.host.base
        if urlsplit(url).scheme == "http" and base.startswith("https:"):
            raise PreflightError(
                "the registry wants blobs to be sent without TLS",
                where=f"{base}, to {shown_host(url)}",
                hint="it does not know that it is behind a proxy with TLS: X-Forwarded-Proto, or "
                "http.host in its configuration",
            )
        return url

    def _is_large(self) -> bool:
        """Whether smaller requests are left to be tried."""
        return not self._server.piece and self._blob.size > self._piece

    def _broken(self, exc: NoAnswerError) -> Exception:
        error = unreachable(exc)
        return _AgainError(error) if exc.kind is Kind.CONNECTION else error

    def _told(self, size: int) -> None:
        self._exchange.check_open(self._server.host.base)
        self._at += size
        self._sent += size
        if self._progress:
            self._progress(self._at)

    def _wrong(self, detail: str) -> BuildError:
        return BuildError(
            "a blob is not what its digest says",
            where=f"{self._reference.name}@{self._blob.digest}",
            detail=f"{detail}; nothing of it is put into the registry",
            hint="where it comes from, or on the way, it has been damaged",
        )


def cancel(exchange: Exchange, reference: Reference, url: str) -> None:
    """End an upload without a blob: a registry would keep what has come for days.

    `url` is the last that it gave. Nothing is raised: it forgets uploads by itself, too.
    """
    server = exchange.server(reference)
    headers: dict[str, str] = {}
    with contextlib.suppress(NoAnswerError, ImagebuildError):
        ours = same_origin(url, server.host.base)
        # distribution wants the right to delete for that.
        if ours and (login := server.authorizer.header(scope(reference, f"{_ACTIONS},delete"))):
            headers["Authorization"] = login
        exchange.counts["DELETE"] += 1
        server.host.transport.send("DELETE", url, headers=headers, timeout=_CANCEL_TIMEOUT).close()
