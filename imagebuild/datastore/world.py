"""Versions and the images that they may get, as a value; the single steps that change it.

A step is one request to a service, so that it is done or not done. What a step does to the
services is said in `perform`, what it does to the value in `after`: the plans of promote,
rollback and retire are made and proven on the value alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.publish import properties

#: With a version's id: the image that this one replaced when it was promoted.
REPLACES = f"{properties.PREFIX}replaces_"
#: With a version's id: the image that was left when a rollback led to this one.
ROLLED_BACK = f"{properties.PREFIX}rolled_back_"
#: When `retire` took the image out of use (UTC, ISO 8601); it is deactivated then.
RETIRED = f"{properties.PREFIX}retired"


@dataclass(frozen=True)
class Entry:
    """An image, as far as plans go by it. `properties` are those of this package alone."""

    id: str
    tags: frozenset[str]
    status: str = "active"
    is_foreign: bool = False
    is_hidden: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether a guest can be made of it."""
        return self.status == "active"

    @property
    def withdrawn(self) -> frozenset[str]:
        """The tags that were taken away on purpose."""
        return frozenset(filter(None, self.properties.get(properties.WITHDRAWN, "").split(",")))

    @classmethod
    def of(cls, image: Image, project_id: str) -> Entry:
        """From Glance's record."""
        return cls(
            id=image.id,
            tags=image.tags,
            status=image.status,
            is_foreign=image.owner != project_id,
            is_hidden=bool(image.document.get("os_hidden")),
            properties={
                k: v for k, v in image.properties.items() if k.startswith(properties.PREFIX)
            },
        )


@dataclass(frozen=True)
class Version:
    """A datastore version: an image by id, else the newest with all the tags."""

    id: str
    image: str = ""
    tags: frozenset[str] = frozenset()

    @classmethod
    def of(cls, version: DatastoreVersion) -> Version:
        """From Trove's record."""
        return cls(version.id, version.image, frozenset(version.image_tags))


@dataclass(frozen=True)
class World:
    """All versions, and all images that matter to them, newest first (in Glance's order)."""

    images: tuple[Entry, ...]
    versions: tuple[Version, ...]

    def image(self, image_id: str) -> Entry | None:
        """The image of that id, if it is there."""
        return next((i for i in self.images if i.id == image_id), None)

    def version(self, version_id: str) -> Version:
        """The version of that id, which must be there."""
        return next(v for v in self.versions if v.id == version_id)

    def matches(self, tags: Iterable[str]) -> list[Entry]:
        """The images among which Trove chooses for these tags, newest first."""
        wanted = frozenset(tags)
        return [i for i in self.images if wanted <= i.tags and i.is_active and not i.is_hidden]

    def taken(self, version: Version) -> Entry | None:
        """The image that an instance gets now, as Trove finds it (see `resolution`)."""
        if version.image:
            return self.image(version.image)
        found = self.matches(version.tags) if version.tags else []
        return found[0] if found else None

    def outcome(self) -> dict[str, str | None]:
        """Version → the id of the usable image that it gets, None for none."""
        found = {v.id: self.taken(v) for v in self.versions}
        return {k: i.id if i and i.is_active else None for k, i in found.items()}

    def after(self, steps: Sequence[Step]) -> World:
        """The value when the steps are done."""
        world = self
        for step in steps:
            world = step.after(world)
        return world

    def with_image(self, image_id: str, change: Callable[[Entry], Entry]) -> World:
        """The value with one image changed."""
        changed = (change(i) if i.id == image_id else i for i in self.images)
        return dataclasses.replace(self, images=tuple(changed))


class Step(Protocol):
    """One request. It may be done twice."""

    @property
    def image(self) -> str:
        """The image that it is about."""

    def after(self, world: World) -> World:
        """What it does to the value."""

    def perform(self, images: Images, datastores: Datastores) -> None:
        """Do it. Raises as `Service` does."""


@dataclass(frozen=True)
class Adopt:
    """Give an image tags and properties; None takes a property away. One PATCH of Glance's,
    so that the tags come at one moment.
    """

    image: str
    tags: frozenset[str]
    set: Mapping[str, str | None]
    shows: bool = False

    def after(self, world: World) -> World:
        def change(image: Entry) -> Entry:
            return dataclasses.replace(
                image,
                tags=image.tags | self.tags,
                is_hidden=image.is_hidden and not self.shows,
                properties=_changed(image.properties, self.set),
            )

        return world.with_image(self.image, change)

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        found = images.get(self.image)
        operations: list[dict[str, Any]] = []
        if found and not self.tags <= found.tags:
            operations.append(
                {"op": "replace", "path": "/tags", "value": sorted(found.tags | self.tags)}
            )
        if self.shows:
            operations.append({"op": "replace", "path": "/os_hidden", "value": False})
        operations += _operations(found, self.set)
        if operations:
            images.patch(self.image, operations)


@dataclass(frozen=True)
class Withdraw:
    """Take a tag from an image, and write down that it was: an upload gives it back else."""

    image: str
    tag: str

    def after(self, world: World) -> World:
        def change(image: Entry) -> Entry:
            withdrawn = ",".join(sorted(image.withdrawn | {self.tag}))
            return dataclasses.replace(
                image,
                tags=image.tags - {self.tag},
                properties=_changed(image.properties, {properties.WITHDRAWN: withdrawn}),
            )

        return world.with_image(self.image, change)

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        found = images.get(self.image)
        if found is None:
            return
        entry = Entry.of(found, "")
        withdrawn = ",".join(sorted(entry.withdrawn | {self.tag}))
        operations = _operations(found, {properties.WITHDRAWN: withdrawn})
        if self.tag in found.tags:
            tags = sorted(found.tags - {self.tag})
            operations.append({"op": "replace", "path": "/tags", "value": tags})
        if operations:
            images.patch(self.image, operations)


@dataclass(frozen=True)
class Point:
    """Make a version use an image by its id: one PATCH of Trove's."""

    version: str
    image: str

    def after(self, world: World) -> World:
        changed = (
            dataclasses.replace(v, image=self.image) if v.id == self.version else v
            for v in world.versions
        )
        return dataclasses.replace(world, versions=tuple(changed))

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        datastores.patch(self.version, {"image": self.image})


@dataclass(frozen=True)
class Reactivate:
    """Let an image's data be had again."""

    image: str

    def after(self, world: World) -> World:
        return world.with_image(self.image, lambda i: dataclasses.replace(i, status="active"))

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        images.reactivate(self.image)


@dataclass(frozen=True)
class Deactivate:
    """Take an image's data out of reach."""

    image: str

    def after(self, world: World) -> World:
        return world.with_image(self.image, lambda i: dataclasses.replace(i, status="deactivated"))

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        images.deactivate(self.image)


@dataclass(frozen=True)
class Delete:
    """Remove an image for good."""

    image: str

    def after(self, world: World) -> World:
        kept = tuple(i for i in world.images if i.id != self.image)
        return dataclasses.replace(world, images=kept)

    def perform(self, images: Images, datastores: Datastores) -> None:  # noqa: ARG002
        images.delete(self.image)


def _changed(found: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    whole = {**found, **changes}
    return {k: v for k, v in whole.items() if v is not None}


def _operations(image: Image | None, changes: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """JSON patch operations (RFC 6902) for the properties that differ."""
    found: list[dict[str, Any]] = []
    for name, value in changes.items():
        old = image.properties.get(name) if image else None
        if value == old:
            continue
        if value is None:
            found.append({"op": "remove", "path": f"/{name}"})
        else:
            found.append({"op": "add", "path": f"/{name}", "value": value})
    return found
