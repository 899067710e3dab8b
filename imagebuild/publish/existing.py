"""What a project has of a build already: its image, and what killed uploads have left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from imagebuild.cloud.images import Image, Images
from imagebuild.publish import properties

#: States of a record that has no whole image (Images API v2, "Image statuses").
_HALF = ("queued", "saving", "uploading", "importing", "killed")
#: A half image of another host is nobody's any more when it was not touched for this long.
#: Glance does not touch a record while its data come in, so it is the time of a long upload.
ABANDONED = timedelta(hours=6)


@dataclass(frozen=True)
class Existing:
    """`whole` are the images that were published, newest first; `unpublished` are active but
    nobody has said that their data are right; `half` have no whole data.
    """

    whole: tuple[Image, ...] = ()
    deactivated: tuple[Image, ...] = ()
    unpublished: tuple[Image, ...] = ()
    half: tuple[Image, ...] = ()

    @property
    def leftovers(self) -> tuple[Image, ...]:
        """What an upload has begun and not ended."""
        return (*self.unpublished, *self.half)

    def alive(self, uploader: str, now: datetime | None = None) -> Image | None:
        """A leftover that another host may still be working on."""
        now = now or datetime.now(timezone.utc)
        for image in self.leftovers:
            by = image.properties.get(properties.UPLOADING, "")
            if by != uploader and image.status != "killed" and now - image.updated < ABANDONED:
                return image
        return None


def look(images: Images, project_id: str, build_id: str, fmt: str) -> Existing:
    """The images of a build, in one format, that belong to the project. Raises as `Images`."""
    found: list[Image] = []
    for hidden in ("false", "true"):  # Glance lists one kind or the other
        found += images.find(imagebuild_build_id=build_id, owner=project_id, os_hidden=hidden)
    return sort(i for i in found if i.properties.get(properties.FORMAT, i.disk_format) == fmt)


def sort(found: Iterable[Image]) -> Existing:
    """Put images of one build into their places."""
    every = sorted(found, key=lambda i: i.created, reverse=True)
    active = [i for i in every if i.status == "active"]
    return Existing(
        whole=tuple(i for i in active if properties.UPLOADING not in i.properties),
        deactivated=tuple(i for i in every if i.status == "deactivated"),
        unpublished=tuple(i for i in active if properties.UPLOADING in i.properties),
        half=tuple(i for i in every if i.status in _HALF),
    )
