"""The registry's side of the network: manifests and blobs (OCI distribution specification 1.1).

What may pass is tried again a few times: connections that break, 429 and 5xx. What has come
is checked: a manifest by its digest here, a blob by whoever keeps it (see `layout.py`), since
it need not fit into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import requests
import urllib3

from imagebuild.errors import BuildError, ConfigError, PreflightError, PublishError, TemporaryError
from imagebuild.events import Emit
from imagebuild.files import MIB
from imagebuild.registry.credentials import Login
from imagebuild.registry.exchange import ATTEMPTS, Exchange
from imagebuild.registry.manifest import (
    INDEXES,
    LARGEST_MANIFEST,
    LARGEST_SMALL_BLOB,
    MANIFESTS,
    SCHEMA_1,
    Descriptor,
    Manifest,
    read_manifest,
)
from imagebuild.registry.problems import not_replaced, refused, said, wrong_content
from imagebuild.registry.push import Upload, cancel
from imagebuild.registry.reference import DIGEST, Reference
from imagebuild.registry.settings import CERTS_D, RegistrySettings
from imagebuild.registry.transport import reason

_ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *SCHEMA_1))
_BLOCK = 256 << 10
#: A download that brought this many bytes before it broke is going well.
_PROGRESS = MIB
#: Seconds that a registry may ask us to wait; for more, the person should decide.
_LONGEST_WAIT = 60.0
#: Names in an answer, and answers to one question.
_PAGE = 1000
_MOST_PAGES = 1000
#: How servers say that they have no such API.
_NO_API = (400, 404, 405, 406, 501)
_PUSH = "pull,push"


class _BrokenOffError(TemporaryError):
    """An answer began, and did not end."""


class Client:
    """Speaks to registries; may be used by several threads at once. Close it, or use `with`.

    Every method raises TemporaryError when a registry cannot be reached or wants us to wait,
    PreflightError for TLS and logins, ConfigError for what is not there, and those that write
    PublishError for what a registry does not take. `emit` is told of long waits, by the thread
    that waits. `longest_wait`: seconds that a registry may have us wait before it is given up;
    `first_wait`: seconds before a second attempt, each later one waits twice as long.
    """

    def __init__(
        self,
        registries: Iterable[RegistrySettings] = (),
        *,
        environ: Mapping[str, str] = os.environ,
        emit: Emit | None = None,
        certs_d: Path = CERTS_D,
        longest_wait: float = _LONGEST_WAIT,
        first_wait: float | None = None,
    ) -> None:
        self._exchange = Exchange(registries, environ, emit, certs_d, longest_wait, first_wait)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections, and the waiting and the transfers of other threads."""
        self._exchange.close()

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
        for attempt in range(1, ATTEMPTS):
            try:
                return self._manifest(reference)
            except _BrokenOffError as exc:
                seconds = self._exchange.back_off(attempt)
                self._exchange.wait(seconds, reference.registry, exc.detail)
        return self._manifest(reference)

    def _manifest(self, reference: Reference) -> Manifest:
        wanted = reference.digest or reference.tag
        headers = {"Accept": _ACCEPT}
        with self._request("GET", reference, f"manifests/{wanted}", headers) as answer:
            if answer.status_code != 200:
                raise refused(answer, reference, "the manifest")
            data = _read(answer, reference)
            manifest = read_manifest(data, answer.headers.get("Content-Type", ""), str(reference))
        # Of a tag, the digest that the registry itself tells is what is left to compare.
        promised = reference.digest or answer.headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha256:") and promised != manifest.digest:
            raise wrong_content(reference, promised, f"it is {manifest.digest}")
        return manifest

    def get_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob, its digest checked."""
        if blob.size > LARGEST_SMALL_BLOB:
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
        host = self._exchange.server(reference).host
        at, failures = start, 0
        while at < blob.size:
            began = at
            with host.limits.downloads.taken():
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
                            self._exchange.check_open(host.name)
                        why = "the connection ended early"
                    except (urllib3.exceptions.HTTPError, OSError) as exc:
                        why = reason(exc)
            if at == blob.size:
                return
            failures = 0 if at - began >= _PROGRESS else failures + 1
            why = f"{why}, after {at} of {blob.size} bytes"
            if failures == ATTEMPTS:
                raise TemporaryError(
                    "a download breaks off again and again",
                    where=f"{reference.name}@{blob.digest}",
                    detail=why,
                    hint="try again later: what has come is kept",
                )
            self._exchange.wait(self._exchange.back_off(max(failures, 1)), reference.registry, why)

    def has_blob(self, reference: Reference, blob: Descriptor) -> bool:
        """Whether the repository has the blob, with its size: one HEAD."""
        with self._request("HEAD", reference, f"blobs/{blob.digest}") as answer:
            if answer.status_code == 404:
                return False
            if answer.status_code != 200:
                raise refused(answer, reference, f"the blob {blob.digest}")
            size = answer.headers.get("Content-Length", "")
            return not size.isdecimal() or int(size) == blob.size

    def mount_blob(self, reference: Reference, blob: Descriptor, source: str) -> bool:
        """Have the repository take a blob from another one (`source`) of its registry.

        False where the registry does not do it: push the blob then.
        """
        query = urlencode({"mount": blob.digest, "from": source})
        try:
            answer = self._request(
                "POST", reference, f"blobs/uploads/?{query}", actions=_PUSH,
                besides=f"repository:{source}:pull",
            )  # fmt: skip
        except PreflightError:
            # The login may push here and not pull there. If it may do neither, pushing says so.
            return False
        with answer:
            place = answer.headers.get("Location")
        if answer.status_code == 202 and place:
            # It has begun an upload instead, which nobody would end.
            cancel(self._exchange, reference, urljoin(answer.url, place))
        return answer.status_code == 201

    def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Send a blob; `read(start)` gives its bytes from there on, and is called once for each
        attempt. Returns bytes sent, all attempts counted.

        `progress` is told how much of the blob has been sent; less than before when it is begun
        anew. The digest is made on the way: of what is not right, nothing stays (BuildError).
        What `read` raises comes out as it is, at once; what the target does raises
        TemporaryError, PreflightError or PublishError.
        """
        return Upload(self._exchange, reference, blob, read, progress).run(
            lambda: self.has_blob(reference, blob)
        )

    def put_manifest(self, reference: Reference, manifest: Manifest) -> bool:
        """Put a manifest byte for byte, under the reference's digest, or else its tag.

        Whether the registry has noted what its `subject` refers to (OCI-Subject); where it has
        not, the fallback tag is the caller's to keep (distribution specification 1.1,
        "Pushing Manifests with Subject").
        """
        if reference.digest and reference.digest != manifest.digest:
            raise wrong_content(reference, reference.digest, f"it is {manifest.digest}")
        path = f"manifests/{reference.digest or reference.tag}"
        headers = {"Content-Type": manifest.media_type}
        with self._request(
            "PUT", reference, path, headers, data=manifest.data, actions=_PUSH
        ) as answer:
            if answer.status_code not in (200, 201, 202):
                raise not_replaced(answer, reference)
            told = answer.headers.get("Docker-Content-Digest", "")
            if told.startswith("sha256:") and told != manifest.digest:
                raise BuildError(
                    "the registry has made another manifest of the one that it was given",
                    where=str(reference.at(manifest.digest)),
                    detail=f"it calls it {told}",
                    hint="a proxy before the registry may change what passes through it",
                )
            return "OCI-Subject" in answer.headers

    def delete_manifest(self, reference: Reference) -> bool:
        """Delete a digest, or a tag where the registry can do that; False: it was not there.

        Raises PublishError where the registry does not delete.
        """
        path = f"manifests/{reference.digest or reference.tag}"
        with self._request("DELETE", reference, path, actions="delete") as answer:
            if answer.status_code in (200, 202, 204):
                return True
            if answer.status_code == 404:
                return False
            what = "" if reference.digest else "tags alone, or "
            if answer.status_code in (400, 405, 501):
                raise PublishError(
                    f"the registry does not delete {what}anything"
                    if what
                    else "the registry does not delete anything",
                    where=str(reference),
                    detail="\n".join(filter(None, (f"HTTP {answer.status_code}", said(answer)))),
                    hint="docker's registry does with REGISTRY_STORAGE_DELETE_ENABLED=true; not "
                    "all registries delete a tag: delete the digest then",
                )
            raise refused(answer, reference, "the deletion", writes=True)

    def tags(self, reference: Reference) -> list[str]:
        """All tags of a repository (paged), [] when there is no such repository."""
        found: list[str] = []
        for page in self._pages(reference, f"tags/list?n={_PAGE}", (404,)):
            names = page.get("tags") or []
            if not isinstance(names, list):
                raise ConfigError("the registry's list of tags is none", where=reference.name)
            found += map(str, names)
        return list(dict.fromkeys(found))

    def referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        """Manifests that refer to the reference's digest: of the referrers API, or of the
        fallback tag `sha256-HEX` where the registry has no such API (distribution
        specification 1.1, "Listing Referrers").
        """
        pages = list(self._pages(reference, f"referrers/{reference.digest}", _NO_API))
        if not pages:
            tag = reference.digest.replace(":", "-")
            fallback = Reference(reference.registry, reference.repository, tag)
            found = self.head_manifest(fallback)
            if found is None or found.media_type not in INDEXES:
                return ()
            pages = [json.loads(self.get_manifest(fallback.at(found.digest)).data)]
        unique: dict[str, Descriptor] = {}
        try:
            for page in pages:
                for entry in page.get("manifests") or []:
                    descriptor = Descriptor.from_json(entry)
                    unique.setdefault(descriptor.digest, descriptor)
        except (ValueError, TypeError) as exc:
            raise ConfigError(
                "the registry's list of referrers is damaged", where=str(reference), detail=str(exc)
            ) from None
        return tuple(unique.values())

    def wants_login(self, registry: str) -> bool:
        """Whether a registry (HOST or HOST:PORT) answers nobody without a login.

        Docker Hub and others give tokens to everybody; then it depends on the repository.
        """
        return not self._exchange.is_open(registry)

    def login(self, reference: Reference) -> Login | None:
        """The login for a repository, for others who speak to its registry (docker)."""
        return self._exchange.login(reference)

    @property
    def quotas(self) -> tuple[tuple[str, int, int], ...]:
        """Host, pulls remaining and limit, of registries that tell (RateLimit-Remaining)."""
        known = ((h.name, h.limits.quota) for h in self._exchange.hosts)
        return tuple(sorted((name, q.remaining, q.limit) for name, q in known if q))

    @property
    def request_counts(self) -> dict[str, int]:
        """How many requests about repositories were sent, by method, each attempt counted.

        Not those to token servers and to stores that registries refer to.
        """
        return dict(self._exchange.counts)

    def _pages(
        self, reference: Reference, path: str, nothing: tuple[int, ...]
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects that an answer and its `next` links give (RFC 8288); none for a
        status of `nothing`.
        """
        seen: set[str] = set()
        path = f"/v2/{reference.repository}/{path}"
        while path and path not in seen and len(seen) < _MOST_PAGES:
            seen.add(path)
            with self._request("GET", reference, path, {"Accept": "*/*"}) as answer:
                if answer.status_code in nothing:
                    return
                if answer.status_code != 200:
                    raise refused(answer, reference, "its list")
                data = _read(answer, reference)
                link = answer.links.get("next", {}).get("url", "")
            try:
                page = json.loads(data)
            except (ValueError, RecursionError):
                page = None
            if not isinstance(page, dict):
                raise ConfigError(
                    "the registry's list is not the JSON that it should be",
                    where=f"{reference.registry}{path}",
                )
            yield page
            # A registry behind a proxy may give its inner name: only the path counts, and the
            # login goes nowhere else.
            parts = urlsplit(urljoin(answer.url, link)) if link else None
            path = f"{parts.path}?{parts.query}" if parts else ""

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
            raise refused(answer, reference, f"the blob {blob.digest}")

    def _request(
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
        return self._exchange.request(
            method, reference, path, headers, data=data, actions=actions, besides=besides
        )


def _read(answer: requests.Response, reference: Reference) -> bytes:
    data = b""
    try:
        for block in answer.iter_content(_BLOCK):
            data += block
            if len(data) > LARGEST_MANIFEST:
                raise ConfigError("the manifest is too large for one", where=str(reference))
    except (requests.RequestException, OSError) as exc:
        raise _BrokenOffError(
            "a download broke off", where=str(reference), detail=reason(exc), hint="try again"
        ) from None
    return data
