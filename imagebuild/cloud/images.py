"""Glance's images: what is asked of them, and what is changed.

Paths, states and JSON patches are of the Images API v2 (docs.openstack.org/api-ref/image/v2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from imagebuild.cloud.service import RefusedError, Service

#: Attributes that every image has; what else its document holds are properties.
_BASE = frozenset({
    "id", "name", "status", "visibility", "protected", "owner", "checksum", "size",
    "virtual_size", "min_disk", "min_ram", "disk_format", "container_format", "tags",
    "created_at", "updated_at", "self", "file", "schema", "direct_url", "locations",
    "os_hash_algo", "os_hash_value", "os_hidden", "stores",
})  # fmt: skip
_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


@dataclass(frozen=True)
class Image:
    """An image's record. `status` is Glance's word (queued, saving, importing, active,
    deactivated, …), sizes are bytes, `min_disk` GiB, `min_ram` MiB; `properties` are those
    beside Glance's own attributes. `document` is all of it, as Glance told it.
    """

    id: str
    name: str
    status: str
    visibility: str
    owner: str
    created: datetime
    updated: datetime
    size: int | None
    disk_format: str | None
    min_disk: int
    min_ram: int
    tags: frozenset[str]
    properties: Mapping[str, str]
    is_protected: bool
    os_hash_algo: str | None
    os_hash_value: str | None
    document: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Image:
        """From the document that Glance returns."""
        return cls(
            id=document["id"],
            name=document.get("name") or "",
            status=document["status"],
            visibility=document["visibility"],
            owner=document.get("owner") or "",
            created=_time(document["created_at"]),
            updated=_time(document["updated_at"]),
            size=document.get("size"),
            disk_format=document.get("disk_format"),
            min_disk=document.get("min_disk") or 0,
            min_ram=document.get("min_ram") or 0,
            tags=frozenset(document.get("tags", ())),
            properties={k: str(v) for k, v in document.items() if k not in _BASE},
            is_protected=bool(document.get("protected")),
            os_hash_algo=document.get("os_hash_algo"),
            os_hash_value=document.get("os_hash_value"),
            document=document,
        )


class Images:
    """Glance of one cloud. Raises as `Service` does."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def get(self, image_id: str) -> Image | None:
        """The image, or None when there is none that the credentials may see."""
        try:
            return Image.of(self.service.get(f"/images/{quote(image_id, safe='')}"))
        except RefusedError as exc:
            if exc.status == 404:
                return None
            raise

    def find(self, *, tags: Sequence[str] = (), **filters: str) -> Iterator[Image]:
        """Images that have all the tags and match the filters (properties too), page by page.

        In the order that Trove takes them in, newest first (trove/common/glance.py).
        """
        params: dict[str, Any] = {"limit": 100, **filters}
        if tags:
            params["tag"] = list(tags)
        params["sort"] = "created_at:desc"
        page = self.service.get("/images", **params)
        while True:
            yield from (Image.of(d) for d in page["images"])
            if not page.get("next"):
                return
            page = self.service.get(page["next"].removeprefix("/v2"))

    def create(self, attributes: Mapping[str, Any]) -> Image:
        """A new record, without data yet; `attributes` as in Glance's document.

        They hold the id, so that a request whose answer was lost can be sent again: it finds
        what it has made.
        """
        try:
            response = self.service.request("POST", "/images", json=dict(attributes), retry=True)
        except RefusedError as exc:
            if exc.status != 409 or not (found := self.get(attributes["id"])):
                raise
            return found
        return Image.of(response.json())

    def put_data(
        self, image_id: str, body: Iterable[bytes], *, stage: bool = False, timeout: float
    ) -> None:
        """Send an image's data, or stage them for an import; `timeout`: seconds of silence.

        Sent once: who calls sees what became of the image before another try. The body has a
        length, and can be iterated again: a token that is refused is renewed, once.
        """
        self.service.request(
            "PUT", f"/images/{image_id}/{'stage' if stage else 'file'}", data=body, retry=False,
            headers={"Content-Type": "application/octet-stream"}, timeout=timeout,
        )  # fmt: skip

    def patch(self, image_id: str, changes: Sequence[Mapping[str, Any]]) -> Image:
        """Change a record by JSON patch operations."""
        response = self.service.request(
            "PATCH", f"/images/{image_id}", json=list(changes), headers=_PATCH, retry=True
        )
        return Image.of(response.json())

    def add_tag(self, image_id: str, tag: str) -> None:
        """Give it a tag; it may have it."""
        self.service.request("PUT", f"/images/{image_id}/tags/{quote(tag, safe='')}")

    def remove_tag(self, image_id: str, tag: str) -> None:
        """Take a tag away; it may be gone."""
        self._unless_gone("DELETE", f"/images/{image_id}/tags/{quote(tag, safe='')}")

    def deactivate(self, image_id: str) -> None:
        """Its data cannot be had any more, until it is reactivated; for administrators."""
        self.service.request("POST", f"/images/{image_id}/actions/deactivate", retry=True)

    def reactivate(self, image_id: str) -> None:
        """The inverse of `deactivate`."""
        self.service.request("POST", f"/images/{image_id}/actions/reactivate", retry=True)

    def delete(self, image_id: str) -> None:
        """Remove it with its data; it may be gone."""
        self._unless_gone("DELETE", f"/images/{image_id}")

    def tasks(self, image_id: str) -> list[Mapping[str, Any]]:
        """The import tasks of an image (API 2.12), as Glance tells them."""
        found: list[Mapping[str, Any]] = self.service.get(f"/images/{image_id}/tasks")["tasks"]
        return found

    def _unless_gone(self, method: str, path: str) -> None:
        try:
            self.service.request(method, path)
        except RefusedError as exc:
            if exc.status != 404:
                raise


def _time(text: str) -> datetime:
    """A time of Glance's, in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
