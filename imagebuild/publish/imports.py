"""Glance's import: it takes over what was staged, or fetches an address itself.

A failed fetch leaves the image `queued`, as if nothing had begun: only its task tells
(GET /v2/images/ID/tasks, since Images API 2.12).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from imagebuild.cloud.images import Image, Images
from imagebuild.cloud.service import QuotaError, RefusedError
from imagebuild.errors import PreflightError, PublishError, TemporaryError

DIRECT, GLANCE_DIRECT, WEB_DOWNLOAD = "direct", "glance-direct", "web-download"
METHODS = (DIRECT, GLANCE_DIRECT, WEB_DOWNLOAD)
#: Seconds between two looks, at first and at most.
_FIRST, _MOST = 0.2, 5.0
#: Looks that a task may be over, or be nowhere, before the image says so, too.
_GRACE = 5


class ImportFailedError(PublishError):
    """The cloud's import failed; another try may do better."""


def check_method(images: Images, method: str) -> None:
    """Raise PreflightError when the cloud has no such import method (GET /v2/info/import)."""
    try:
        found = images.service.get("/info/import")["import-methods"]["value"]
    except RefusedError as exc:
        if exc.status != 404:
            raise
        found = []
    if method not in found:
        raise PreflightError(
            f"the cloud has no import method {method}",
            where=f"cloud {images.service.cloud}",
            detail="its methods: " + (", ".join(found) or "none"),
            hint=f"--method {DIRECT}",
        )


def start(images: Images, image_id: str, method: str, url: str | None = None) -> None:
    """Ask for the import of what was staged, or of `url`."""
    asked = {"name": method} | ({"uri": url} if url else {})
    images.service.request("POST", f"/images/{image_id}/import", json={"method": asked})


def wait(
    images: Images,
    image_id: str,
    *,
    limit: float,
    sleep: Callable[[float], object] = time.sleep,
) -> Image:
    """Wait until the import has made the image active, at most `limit` seconds.

    Raises ImportFailedError when its task failed, QuotaError when that says so, PublishError
    when the image is gone, TemporaryError when nothing comes of it in time. The record is
    left as it is.
    """
    deadline = time.monotonic() + limit
    pause, over = _FIRST, 0
    while True:
        image = images.get(image_id)
        if image is None:
            raise PublishError(
                "somebody has deleted the image while it was imported", where=_where(images)
            )
        # Glance 20 and later: one image into several stores.
        copying = image.properties.get("os_glance_importing_to_stores")
        if image.status == "active" and not copying:
            return image
        task = _newest(images, image_id)
        status = task.get("status")
        if status == "failure" or image.status == "killed":
            raise _failed(images, task)
        over = over + 1 if status == "success" else 0
        if over > _GRACE:
            raise _failed(images, {"message": f"its task is done, the image is {image.status}"})
        if time.monotonic() >= deadline:
            raise TemporaryError(
                "the import is stuck", where=f"{_where(images)}, image {image_id}",
                detail=f"after {limit:.0f} s the image is {image.status}, "
                f"its task {status or 'not known'}",
                hint="--timeout TIME waits longer; Glance's log says what it is doing",
            )  # fmt: skip
        sleep(pause)
        pause = min(pause * 1.5, _MOST)


def _newest(images: Images, image_id: str) -> Mapping[str, Any]:
    """The import's task; empty where the cloud does not tell."""
    try:
        found = images.tasks(image_id)
    except RefusedError as exc:
        if exc.status != 404:
            raise
        found = []
    ours = [t for t in found if t.get("type") == "api_image_import"]
    return max(ours, key=lambda t: str(t.get("created_at")), default={})


def _failed(images: Images, task: Mapping[str, Any]) -> PublishError | QuotaError:
    message = re.sub(r"\s+", " ", str(task.get("message") or "")).strip()
    where = _where(images)
    if re.search(r"quota|limit exceeded|over limit", message, re.IGNORECASE):
        return QuotaError(
            "the import failed: a quota or limit is reached", where=where, detail=message,
            hint="free some, or have the quota raised",
        )  # fmt: skip
    return ImportFailedError(
        "the import failed", where=where, detail=message or "the task does not say why",
        hint="Glance's log has more; can the cloud reach the address?",
    )  # fmt: skip


def _where(images: Images) -> str:
    return f"cloud {images.service.cloud}"
