"""What registries answer when they do not do what was asked, as errors that people can use."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import requests
import urllib3

from imagebuild.errors import (
    BuildError,
    ConfigError,
    ImagebuildError,
    PreflightError,
    PublishError,
    TemporaryError,
)
from imagebuild.registry.limits import Quota
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import CERTS_D
from imagebuild.registry.transport import Kind, NoAnswerError, shown_host

#: Bytes of an error's text that are looked at.
_LONGEST_WORDS = 16 << 10
#: What registries say of a tag that may not be put again: Harbor 412 "configured as immutable",
#: ECR 400 "the tag is immutable", Quay and others 409.
_IMMUTABLE = "immutable"
_CONFLICTS = (409, 412)


def wrong_content(reference: Reference, digest: str, detail: str) -> BuildError:
    """The error for bytes that are not what their digest says."""
    return BuildError(
        "the registry sends something else than was asked for",
        where=f"{reference.name}@{digest}",
        detail=detail,
        hint="a proxy, or the registry's storage, has damaged it: push the image again, or take "
        "another mirror",
    )


def unreachable(exc: NoAnswerError) -> ImagebuildError:
    """The error for a request that got no answer."""
    if exc.kind is Kind.CERTIFICATE:
        name = exc.host.partition("://")[2]
        return PreflightError(
            "the registry's certificate is not trusted",
            where=exc.host,
            detail=str(exc),
            hint="say its CA (docker.registries of a profile, registries of a mirror list), or put "
            f"it where docker looks: {CERTS_D / name}/ca.crt",
        )
    if exc.kind is Kind.CLIENT_CERTIFICATE:
        return PreflightError(
            "the registry wants another client certificate, or one at all",
            where=exc.host,
            detail=str(exc),
            hint="say its client_certificate and client_key (registries of a mirror list)",
        )
    if exc.kind is Kind.PROXY_LOGIN:
        return _proxy_login(exc.host, str(exc))
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


def _proxy_login(where: str, detail: str) -> PreflightError:
    return PreflightError(
        "a proxy wants a login",
        where=where,
        detail=detail,
        hint="say it in http_proxy and https_proxy, or list the registry in no_proxy",
    )


def busy(
    answer: requests.Response, words: str, seconds: float | None, quota: Quota | None = None
) -> TemporaryError:
    """The error for an answer that may be another one later; `words`: what `said` said."""
    limited = answer.status_code == 429
    later = f"; it asks to come back in {seconds:.0f} s" if seconds else ""
    left = str(quota) if limited and quota else ""
    return TemporaryError(
        "the registry limits our requests" if limited else "the registry fails",
        where=shown_host(answer.url),
        detail="\n".join(filter(None, (f"HTTP {answer.status_code}{later}", left, words))),
        hint="try again later; who is logged in may ask more often (docker login)"
        if limited
        else "try again later",
    )


def refused(
    answer: requests.Response,
    reference: Reference,
    what: str,
    *,
    writes: bool = False,
    words: str | None = None,
) -> ImagebuildError:
    """The error for an answer that will be the same the next time; `words`: what `said` said."""
    words = said(answer) if words is None else words
    words = "\n".join(filter(None, (f"HTTP {answer.status_code}", words)))
    if answer.status_code == 404 and not writes:
        parts = (
            f"registry {reference.registry}",
            f"repository {reference.repository}",
            f"tag {reference.tag}" if reference.tag else "",
            reference.digest,
        )
        return ConfigError(
            f"the registry does not have {what}",
            where=", ".join(filter(None, parts)),
            detail=words,
            hint="check the name, and that the image has been pushed",
        )
    if answer.status_code == 407:
        return _proxy_login(str(reference), words)
    if answer.status_code in (401, 403):
        may = "push to it" if writes else "pull it"
        return PreflightError(
            "the registry refuses access",
            where=str(reference),
            detail=words,
            hint=f"may the user of this login {may}? docker login {reference.registry}",
        )
    if not writes:
        return BuildError(f"the registry does not give {what}", where=str(reference), detail=words)
    return PublishError(
        f"the registry does not take {what}",
        where=str(reference),
        detail=words,
        hint=_advice(answer.status_code, reference),
    )


def _advice(status: int, reference: Reference) -> str:
    if status == 400:
        return "a proxy on the way may change what passes through it"
    if status == 404:
        return f"some registries want the repository to be made first: {reference.repository}"
    if status == 405:
        return "it may be read-only: a pull-through cache, or in maintenance"
    if status == 413:
        return "a proxy before the registry limits how much may be sent (client_max_body_size)"
    return ""


def not_replaced(answer: requests.Response, reference: Reference) -> ImagebuildError:
    """The error for a manifest that the registry does not take, its tag being immutable say."""
    words = said(answer)
    if reference.tag and not reference.digest and (
        answer.status_code in _CONFLICTS or _IMMUTABLE in words.lower()
    ):  # fmt: skip
        return PublishError(
            "the registry does not let the tag be put again",
            where=str(reference),
            detail="\n".join(filter(None, (f"HTTP {answer.status_code}", words))),
            hint="the project has immutable tags: take another tag, or lift that rule",
        )
    return refused(answer, reference, "the manifest", writes=True, words=words)


def said(answer: requests.Response) -> str:
    """The registry's own words (distribution specification, "Error Codes"), or nothing.

    They can be read once.
    """
    try:
        data = answer.raw.read(_LONGEST_WORDS, decode_content=True)
        return "\n".join(map(_words, json.loads(data)["errors"][:3]))
    except (urllib3.exceptions.HTTPError, OSError, ValueError, LookupError, TypeError,
            AttributeError):  # fmt: skip
        return ""


def _words(error: dict[str, Any]) -> str:
    code, message, detail = (error.get(key) or "" for key in ("code", "message", "detail"))
    words = f"{code}: {message}"[:300]
    # Only of what it does not know itself does a registry tell the cause there: its disk is full.
    return f"{words}; {json.dumps(detail)[:300]}" if code == "UNKNOWN" and detail else words


def retry_after(answer: requests.Response) -> float | None:
    """Seconds from a Retry-After header: a number or a date (RFC 9110, 10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0)
    except (TypeError, ValueError):
        return None
