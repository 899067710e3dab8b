"""Which image Trove takes for a datastore version.

The rule is Trove's own (trove/common/glance.py, get_image_id), asked again whenever an
instance is created, rebuilt or upgraded: an image's id where the version has one, else the
newest active image that has all its tags, among all that Glance lists for Trove. Trove is
an administrator, so those are other projects' private images too; but no community images:
Glance lists them to their own project alone, which is ours, say, and not Trove's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.cloud.datastores import DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.publish import properties


@dataclass(frozen=True)
class Candidate:
    """An image that a version may get. `is_foreign`: another project than ours owns it."""

    image: Image
    is_foreign: bool

    @property
    def id(self) -> str:
        """Glance's id."""
        return self.image.id

    @property
    def build_id(self) -> str:
        """The build that it is of; empty where the record does not say."""
        return self.image.properties.get(properties.BUILD_ID, "")

    @property
    def agent_version(self) -> str:
        """The guest agent's version; empty where the record does not say."""
        return self.image.properties.get(properties.AGENT_VERSION, "")

    @property
    def agent_series(self) -> str:
        """The guest agent's series; empty where the record does not say."""
        return self.image.properties.get(properties.AGENT_SERIES, "")

    @property
    def label(self) -> str:
        """For people: name, the id's beginning, and the owner where it is not us."""
        foreign = f", of project {self.image.owner}" if self.is_foreign else ""
        return f"{self.image.name or 'image without a name'} ({self.id[:8]}{foreign})"


@dataclass(frozen=True)
class Resolution:
    """What an image's id or tags lead to.

    `image_id` is set, and then `tags` do not matter, or `tags` are. `candidates` are all
    active images with the tags, newest first; for an id, that image, if it is there, in
    whatever state. `unseen` are community images of ours that have the tags in vain.
    """

    image_id: str
    tags: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    unseen: tuple[Candidate, ...] = ()

    @property
    def taken(self) -> Candidate | None:
        """The image that Trove takes; None when there is none, and instances fail."""
        return self.candidates[0] if self.candidates else None

    @property
    def is_usable(self) -> bool:
        """Whether a new instance gets an image: it is there, and its data can be had."""
        return self.taken is not None and self.taken.image.status == "active"


def resolve(
    images: Images, project_id: str, *, image_id: str = "", tags: Sequence[str] = ()
) -> Resolution:
    """What Trove takes for this id, else for these tags; `project_id` is ours.

    The credentials must be of an administrator, or other projects' images stay unseen.
    Raises as `Service` does.
    """
    if image_id:
        found = images.get(image_id)
        listed = [found] if found else []
    else:
        listed = list(images.find(tags=tags, status="active")) if tags else []
    found_all = [Candidate(i, i.owner != project_id) for i in listed]
    unseen = [c for c in found_all if c.image.visibility == "community" and not image_id]
    return Resolution(
        image_id,
        () if image_id else tuple(tags),
        tuple(c for c in found_all if c not in unseen),
        tuple(unseen),
    )


def of_version(images: Images, project_id: str, version: DatastoreVersion) -> Resolution:
    """`resolve` for a version as it is."""
    return resolve(images, project_id, image_id=version.image, tags=version.image_tags)
