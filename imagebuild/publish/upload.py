"""One cloud: what is there of a build, what is made, what is changed.

A new image is private and has no tags until its data are proven to be right; then one PATCH
gives it its tags, its visibility and the rest. So Trove, which goes by tags, never finds a
half one. Whatever fails or is interrupted removes what it has made; what a killed run has
left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.images import Image, Images
from imagebuild.cloud.service import (
    NotAllowedError,
    RefusedError,
    ServiceError,
    UnavailableError,
)
from imagebuild.errors import (
    ImagebuildError,
    Interrupted,
    PublishError,
    TemporaryError,
)
from imagebuild.events import Emit, Note, Transferred
from imagebuild.publish import changes, existing, holding, imports, properties
from imagebuild.publish.changes import Change
from imagebuild.publish.existing import Existing
from imagebuild.publish.gate import OPEN
from imagebuild.publish.imports import DIRECT, WEB_DOWNLOAD, ImportFailedError
from imagebuild.publish.job import Job
from imagebuild.publish.payload import Payload
from imagebuild.publish.transfer import Body, Stopped, arrived, read_through

#: Whole tries of an upload, and the seconds between them.
_PAUSES = (1.0, 4.0)
#: A token that ends within so many seconds is renewed before an upload begins.
_TOKEN = 3600
#: Tries to delete a record that is busy with what was just broken off, and seconds between.
_DELETES, _DELETE_PAUSE = 6, 1.0

UPLOADED, PRESENT, UPDATED, FAILED = "uploaded", "present", "updated", "failed"
WOULD_UPLOAD, WOULD_UPDATE = "would upload", "would update"


@dataclass(frozen=True)
class Result:
    """What became of the upload to one cloud. `seconds` and `bytes` of what was sent."""

    cloud: str
    status: str
    image: str | None = None
    name: str | None = None
    changes: tuple[Change, ...] = ()
    removed: tuple[str, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    error: ImagebuildError | None = None

    def to_json(self) -> dict[str, Any]:
        """Shape used by `upload --json`."""
        return {
            "cloud": self.cloud,
            "status": self.status,
            "image": self.image,
            "name": self.name,
            "changes": [c.to_json() for c in self.changes],
            "removed": list(self.removed),
            "seconds": round(self.seconds, 1),
            "bytes": self.bytes,
            "error": self.error.to_json() if self.error else None,
        }


class DamagedError(PublishError):
    """What arrived is not what was sent; another try may do better."""


def upload(
    cloud: Cloud,
    job: Job,
    payload: Callable[[], Payload],
    emit: Emit,
    stop: threading.Event | None = None,
) -> Result:
    """Bring one cloud to have the image, as described.

    `payload` gives the file, when it is needed. `stop` ends it soon (`transfer.Stopped`).
    Raises as `cloud.service` does, TemporaryError while somebody else uploads the same,
    PublishError when what is there is in the way.
    """
    return _Upload(cloud, job, payload, emit, stop or threading.Event()).run()


class _Upload:
    def __init__(
        self,
        cloud: Cloud,
        job: Job,
        payload: Callable[[], Payload],
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._cloud = cloud
        self._images = Images(cloud.image)
        self._job = job
        self._wanted = job.description
        self._payload = payload
        self._emit = emit
        self._stop = stop
        self._removed: list[str] = []

    def run(self) -> Result:
        if self._job.way.dry_run:
            return self._foresee()
        with holding.held(
            self._job.way.cache, self._cloud.project_id, self._cloud.region, *self._key
        ):
            there = self._look()
            if there.whole:
                return self._converge(there)
            self._check_way(there)
            unfinished = self._finish(there.unpublished)
            if unfinished:
                return unfinished
            for image in there.leftovers:
                self._say(f"removing what a broken-off upload has left: {image.id}")
                self._images.delete(image.id)
                self._removed.append(image.id)
            return self._send()

    @property
    def _key(self) -> tuple[str, str]:
        return self._job.build_id, self._wanted.disk_format

    def _look(self) -> Existing:
        return existing.look(self._images, self._cloud.project_id, *self._key)

    def _say(self, text: str, *, warning: bool = False) -> None:
        self._emit(Note(f"{self._cloud.name}: {text}", warning))

    # What is there

    def _foresee(self) -> Result:
        """What `run` would do."""
        there = self._look()
        if there.whole:
            image, found = self._present(there)
            status = WOULD_UPDATE if found else PRESENT
            self._say_changes(found)
            return Result(self._cloud.name, status, image.id, image.name, tuple(found))
        self._check_way(there)
        if self._job.way.method != DIRECT:
            imports.check_method(self._images, self._job.way.method)
        leftovers = tuple(i.id for i in there.leftovers)
        for image_id in leftovers:
            self._say(f"what a broken-off upload has left would be removed: {image_id}")
        return Result(
            self._cloud.name, WOULD_UPLOAD, name=self._wanted.name, removed=leftovers,
            bytes=self._job.size or 0,
        )  # fmt: skip

    def _check_way(self, there: Existing) -> None:
        """Raise where something stands in the way of a new image."""
        if there.deactivated:
            image = there.deactivated[0]
            raise PublishError(
                "the image is there, and deactivated", where=self._where(image),
                detail="somebody has withdrawn it",
                hint=f"reactivate it, or delete it: openstack image delete {image.id}",
            )  # fmt: skip
        if busy := there.alive(holding.uploader(self._job.way.cache)):
            raise TemporaryError(
                "somebody seems to be uploading this build from another host",
                where=self._where(busy),
                detail=f"it is {busy.status} since {busy.updated:%Y-%m-%d %H:%M} UTC",
                hint="wait for it to end; if nobody does: openstack image delete " + busy.id,
            )

    def _present(self, there: Existing) -> tuple[Image, list[Change]]:
        """The image that is there, and what is to be changed. Raises PublishError when it is
        another one.
        """
        image = there.whole[0]
        for other in there.whole[1:]:
            self._say(f"the same build is there once more: {other.id}", warning=True)
        theirs = image.properties.get(properties.SHA256)
        ours = self._wanted.properties.get(properties.SHA256)
        if theirs and ours and theirs != ours:
            raise PublishError(
                "the image of this build id has other bytes", where=self._where(image),
                detail=f"there sha256 {theirs[:16]}…, here {ours[:16]}…",
                hint="find out which one is right, and delete the other: "
                f"openstack image delete {image.id}",
            )  # fmt: skip
        if tags := changes.withheld(image, self._wanted):
            self._say(
                f"{image.id} was withdrawn: it does not get {', '.join(sorted(tags))} again",
                warning=True,
            )
        return image, changes.differences(image, self._wanted)

    def _converge(self, there: Existing) -> Result:
        image, found = self._present(there)
        if not found:
            self._say(f"the build is there: {image.id}")
            return Result(self._cloud.name, PRESENT, image.id, image.name)
        self._say(f"the build is there: {image.id}; what differs is changed")
        self._say_changes(found)
        with self._visibility_explained():
            image = self._patch(image, found)
        return Result(self._cloud.name, UPDATED, image.id, image.name, tuple(found))

    def _say_changes(self, found: Sequence[Change]) -> None:
        for change in found:
            self._say(f"  {change}")

    def _finish(self, unpublished: Sequence[Image]) -> Result | None:
        """Publish what a killed run has left active but not published, if its data are right."""
        if not unpublished:
            return None
        payload, image = self._payload(), unpublished[0]
        self._say(f"a broken-off upload has left a whole image: {image.id}; comparing it")
        body = self._body(payload, "comparing")
        read_through(body)
        if arrived(image, payload, body.digests):
            return None
        try:
            image = self._publish(image, body)
        except BaseException:
            self._discard(image.id)
            raise
        return Result(self._cloud.name, UPLOADED, image.id, image.name)

    # A new image

    def _send(self) -> Result:
        self._cloud.renew_token(_TOKEN)
        if self._job.way.method != DIRECT:
            imports.check_method(self._images, self._job.way.method)
        payload = self._payload()
        for pause in (*_PAUSES, None):
            started = time.monotonic()
            try:
                image = self._try(payload)
            except (ServiceError, PublishError) as exc:
                if pause is None or not _may_do_better(exc):
                    raise
                reason = exc.detail.partition("\n")[0] or exc.what
                self._say(f"{exc.what}; trying again ({reason})", warning=True)
                self._stop.wait(pause)
                self._cloud.renew_token(_TOKEN)
                continue
            seconds = time.monotonic() - started
            return Result(
                self._cloud.name, UPLOADED, image.id, image.name, removed=tuple(self._removed),
                seconds=seconds, bytes=payload.size,
            )  # fmt: skip
        raise AssertionError  # the last try returns or raises

    def _try(self, payload: Payload) -> Image:
        """One upload from the record to the tags; removes what it made when it fails."""
        image_id = str(uuid.uuid4())
        try:
            self._create(image_id)
            body = self._body(payload, self._job.way.method)
            image = self._transfer(image_id, body)
            if wrong := arrived(image, payload, body.digests):
                raise DamagedError(
                    "the image was damaged on its way", where=self._where(image), detail=wrong,
                    hint="try again; if it stays so, the cloud's store or network is broken",
                )  # fmt: skip
            return self._publish(image, body)
        except BaseException as exc:
            self._discard(image_id)
            if isinstance(exc, RefusedError) and exc.status in (404, 410):
                exc.hint = exc.hint or "somebody has deleted the image while it came in"
            raise

    def _body(self, payload: Payload, what: str) -> Body:
        name = self._cloud.name

        def progress(done: int, total: int) -> None:
            self._emit(Transferred(name, what, done, total))

        return Body(payload, progress, self._stop)

    def _create(self, image_id: str) -> None:
        """The record. Whether the credentials allow the visibility is asked before the bytes
        go: then it is private until they are right.
        """
        wanted = self._wanted
        attributes: dict[str, Any] = {
            **wanted.properties,
            properties.UPLOADING: holding.uploader(self._job.way.cache),
            "id": image_id,
            "name": wanted.name,
            "disk_format": wanted.disk_format,
            "container_format": "bare",
            "min_disk": wanted.min_disk,
            "min_ram": wanted.min_ram,
            "visibility": "private",
        }
        is_open = wanted.visibility in OPEN
        with self._visibility_explained():
            image = self._images.create(
                attributes | ({"visibility": wanted.visibility} if is_open else {})
            )
        if image.visibility != "private":
            self._images.patch(
                image_id, [{"op": "replace", "path": "/visibility", "value": "private"}]
            )

    @contextlib.contextmanager
    def _visibility_explained(self) -> Iterator[None]:
        try:
            yield
        except NotAllowedError as exc:
            if exc.status == 403 and self._wanted.visibility in OPEN:
                policy = {"public": "publicize_image", "community": "communitize_image"}
                exc.what = f"the credentials do not allow a {self._wanted.visibility} image"
                exc.hint = (
                    "use credentials with the role that Glance's policy "
                    f"{policy[self._wanted.visibility]} asks for (admin, unless it was changed), "
                    "or --private"
                )
            raise

    def _transfer(self, image_id: str, body: Body) -> Image:
        """The data into the record, by the method that was chosen; the active image."""
        method, limit = self._job.way.method, self._job.way.timeout
        if method == WEB_DOWNLOAD:
            imports.start(self._images, image_id, method, self._job.way.url)
            read_through(body)  # the cloud fetches meanwhile
        else:
            self._put(image_id, body, stage=method != DIRECT)
            if method != DIRECT:
                imports.start(self._images, image_id, method)
        if method == DIRECT:
            return self._settled(image_id)
        return imports.wait(self._images, image_id, limit=limit, sleep=self._pause)

    def _put(self, image_id: str, body: Body, *, stage: bool) -> None:
        try:
            self._images.put_data(image_id, body, stage=stage, timeout=self._job.way.timeout)
        except UnavailableError:
            # When all was sent, it may have arrived: a gateway gave up before the store did.
            if stage or not body.digests or not self._comes_through(image_id):
                raise

    def _comes_through(self, image_id: str) -> bool:
        """Whether an image whose upload was not answered becomes active all the same."""
        deadline = time.monotonic() + self._job.way.timeout
        while (image := self._images.get(image_id)) and time.monotonic() < deadline:
            if image.status != "saving":
                return image.status == "active"
            self._pause(2.0)
        return False

    def _settled(self, image_id: str) -> Image:
        image = self._images.get(image_id)
        if image is None or image.status != "active":
            raise DamagedError(
                "the cloud took the image and does not have it",
                where=f"cloud {self._cloud.name}, image {image_id}",
                detail=f"it is {image.status if image else 'gone'}",
            )
        return image

    def _publish(self, image: Image, body: Body) -> Image:
        """The one step by which others see the image."""
        wanted = self._wanted
        if self._stop.is_set():
            raise Stopped
        known = {**wanted.properties, properties.SHA256: body.digests["sha256"]}
        found = changes.differences(image, dataclasses.replace(wanted, properties=known))
        with self._visibility_explained():
            return self._patch(image, found)

    def _patch(self, image: Image, found: Sequence[Change]) -> Image:
        try:
            return self._images.patch(image.id, [c.operation for c in found])
        except RefusedError:
            # An answer that was lost, and a second try that found it done already.
            now = self._images.get(image.id)
            if now and not changes.differences(now, self._wanted):
                return now
            raise

    def _discard(self, image_id: str) -> None:
        """Delete what this try has made. Whatever goes wrong here, the reason for it counts."""
        try:
            for left in range(_DELETES - 1, -1, -1):
                try:
                    self._images.delete(image_id)
                    return
                except RefusedError as exc:
                    if exc.status != 409 or not left:
                        raise
                time.sleep(_DELETE_PAUSE)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            self._say(
                f"the half image {image_id} could not be removed; the next upload does that "
                f"({exc.detail or exc.what})",
                warning=True,
            )

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def _where(self, image: Image) -> str:
        return f"cloud {self._cloud.name}, image {image.id} ({image.name})"


def _may_do_better(error: ImagebuildError) -> bool:
    """Whether another try, with a new record, may do better.

    A conflict is one with an earlier request of ours for the same record: nobody else knows
    its id.
    """
    if isinstance(error, RefusedError):
        return error.status == 409
    return isinstance(error, (UnavailableError, ImportFailedError, DamagedError))
