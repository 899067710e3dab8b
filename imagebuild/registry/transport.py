"""One request over HTTP: TLS, proxies, redirects, time limits, and what went wrong in a word.

What requests does by itself is not all wanted: it would send logins of ~/.netrc, take
REQUESTS_CA_BUNDLE in place of a registry's own CA, and ask a proxy for this very host.
"""

from __future__ import annotations

import enum
import re
import ssl
import warnings
from collections.abc import Iterable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from imagebuild import __version__
from imagebuild.errors import PreflightError
from imagebuild.registry.settings import is_loopback

#: Seconds to connect, and without a byte.
TIMEOUT = (10.0, 30.0)
_REDIRECTS = (301, 302, 303, 307, 308)
#: Those that keep the method and the body (RFC 9110, 15.4).
_SAME_METHOD = (307, 308)
_MOST_REDIRECTS = 5
#: Kept open; urllib3 says a word, on stderr, of each beyond them.
_CONNECTIONS = 128


class Kind(enum.Enum):
    """Why there was no answer."""

    CERTIFICATE = "the certificate is not trusted"
    TLS = "no TLS"
    CLIENT_CERTIFICATE = "a client certificate is wanted"
    PROXY_LOGIN = "a proxy wants a login"
    CONNECTION = "not reached"


class NoAnswerError(Exception):
    """A request without an answer. `host` is who did not answer; the text holds no secret."""

    def __init__(self, kind: Kind, host: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.host = host


class Body:
    """Bytes to be sent as they come, once: `size` of them, so that a Content-Length is sent.

    Without one it would be a chunked transfer, at which some registries and proxies stall
    (go-containerregistry issues 1392 and 1766).
    """

    def __init__(self, blocks: Iterator[bytes], size: int) -> None:
        # requests takes a body of no bytes for one of unknown length.
        if size < 1:
            raise ValueError("a body has at least one byte")
        self._blocks: Iterator[bytes] | None = blocks
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        blocks, self._blocks = self._blocks, None
        if blocks is None:
            raise RuntimeError("the body of a request was to be sent a second time")
        return blocks


#: What a request may send: a form, bytes, or bytes as they come.
Data = Mapping[str, str] | bytes | Body


class Transport:
    """Connections of one registry and of the servers that it refers to.

    What is special to the registry holds for it alone: any certificate (`insecure`), and our
    own (`client`: PEM files of the certificate and its key).
    """

    def __init__(
        self,
        ca_files: Iterable[Path],
        *,
        host: str = "",
        insecure: bool = False,
        client: tuple[Path, Path | None] | None = None,
    ) -> None:
        ca_files = tuple(ca_files)
        self._session = requests.Session()
        # A registry's web side may take a request with its cookie for one of a browser, and want
        # more of it (Harbor does).
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.headers["User-Agent"] = f"imagebuild/{__version__}"
        # Blobs are wanted as they are, and ranges of them.
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.mount("https://", _Adapter(_trust(ca_files)))
        self._insecure = _origin(f"https://{host}") if insecure else None
        if insecure or client:
            context = _trust(ca_files)
            if client:
                _show(context, *client)
            if insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                # The list's author knows; the word would come with each connection.
                name = re.escape(urlsplit(f"//{host}").hostname or host)
                warnings.filterwarnings("ignore", f"Unverified HTTPS request.*{name}")
            # requests compares in small letters.
            self._session.mount(f"https://{host.lower()}/", _Adapter(context))

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: Data | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> requests.Response:
        """One request. Redirects are followed, without the login to other servers; not where
        a form would go to them, or a `Body`, which cannot be sent twice.

        The body is not read yet: close the response. Raises NoAnswerError.
        """
        sent = dict(headers)
        if method in ("GET", "HEAD"):
            followed: tuple[int, ...] = _REDIRECTS
        else:
            followed = _SAME_METHOD if data is None or isinstance(data, bytes) else ()
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._send(method, url, sent, data, timeout)
            place = response.headers.get("Location")
            if response.status_code not in followed or not place:
                return response
            response.close()
            target = urljoin(url, place)
            if not same_origin(target, url):
                sent.pop("Authorization", None)
            url = target
        raise NoAnswerError(Kind.CONNECTION, shown_host(url), "too many redirects")

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Data | None,
        timeout: tuple[float, float],
    ) -> requests.Response:
        host = shown_host(url)
        direct: Any = {"http": None, "https": None, "all": None}
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                auth=_as_it_is,
                stream=True,
                allow_redirects=False,
                timeout=timeout,
                verify=_origin(url) != self._insecure,
                # As Go's, and so docker's: never a proxy for this host itself.
                proxies=direct if is_loopback(urlsplit(url).netloc.rpartition("@")[2]) else None,
            )
        except requests.exceptions.SSLError as exc:
            raise NoAnswerError(_kind(str(exc)), host, reason(exc)) from None
        except requests.RequestException as exc:
            kind = Kind.CONNECTION
            if _wants_certificate(str(exc)):
                # In TLS 1.3 the alert may come when the request has been sent.
                kind = Kind.CLIENT_CERTIFICATE
            elif "tunnel connection failed: 407" in str(exc).lower():
                kind = Kind.PROXY_LOGIN
            raise NoAnswerError(kind, host, reason(exc)) from None
        except (OSError, ValueError) as exc:
            # Not a file where REQUESTS_CA_BUNDLE says; a redirect to something that is no URL.
            raise PreflightError(
                f"no request to {host} can be made",
                detail=str(exc)[:300],
                hint="check REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and the proxy variables",
            ) from exc


class _Adapter(HTTPAdapter):
    """An adapter with CAs of our own; requests adds its bundle or REQUESTS_CA_BUNDLE to them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)


def _trust(ca_files: Iterable[Path]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path in ca_files:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as exc:
            raise PreflightError(
                "a registry's CA certificate cannot be used",
                where=str(path),
                detail=exc.strerror or str(exc),
                hint="a file with PEM certificates is expected",
            ) from exc
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # A key with a passphrase would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as exc:
        raise PreflightError(
            "a client certificate cannot be used",
            where=f"{certificate}, key {key or 'in the same file'}",
            detail=getattr(exc, "strerror", None) or str(exc),
            hint="PEM files are expected, the key without a passphrase",
        ) from exc


def _wants_certificate(text: str) -> bool:
    """Whether a server has ended the handshake for want of our certificate (RFC 8446, 6.2)."""
    words = re.sub(r"[^a-z]+", " ", text.lower())
    return any(w in words for w in ("certificate required", "alert bad certificate"))


def _kind(text: str) -> Kind:
    if _wants_certificate(text):
        return Kind.CLIENT_CERTIFICATE
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        return Kind.CERTIFICATE
    # What OpenSSL's releases say of a plain answer; urllib3 goes by the same words. The rest,
    # such as a handshake that is cut off, may pass.
    words = re.sub(r"[^a-z]+", " ", text.lower())
    plain = ("wrong version number", "unknown protocol", "record layer failure")
    return Kind.TLS if any(w in words for w in plain) else Kind.CONNECTION


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from looking into ~/.netrc."""
    return request


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs are of one server, by scheme, name and port."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def shown_host(url: str) -> str:
    """Scheme and host of a URL: signed URLs of object stores have secrets in their query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def reason(exc: BaseException) -> str:
    """The innermost cause; those around it repeat it with the whole URL."""
    seen: set[int] = set()
    while id(exc) not in seen:
        seen.add(id(exc))
        inner = [exc.__cause__, exc.__context__, getattr(exc, "reason", None), *exc.args]
        exc = next((e for e in inner if isinstance(e, BaseException)), exc)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc)[:200] or type(exc).__name__
