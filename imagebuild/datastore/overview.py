"""`datastore list`: every version, and the image behind it."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Images
from imagebuild.cloud.service import ServiceError
from imagebuild.datastore.resolution import Candidate, Resolution, of_version, resolve
from imagebuild.datastore.usage import instances as instances_of
from imagebuild.publish import properties


class State(enum.Enum):
    """How it stands with the image behind a version."""

    CURRENT = "current"
    #: By tags: the newest match is another project's.
    FOREIGN = "foreign"
    #: By id: a newer image has the same tags.
    OUTDATED = "outdated"
    #: By id: it is there, but not active (deactivated, say).
    UNUSABLE = "unusable"
    #: By id: it is not there any more. By tags: none matches.
    GONE = "gone"


@dataclass(frozen=True)
class Row:
    """A version. `newest` is the newest image with the tags that are the version's, or its
    image's; the one that is taken, where it is by tags. `instances` is None when not counted.
    """

    version: DatastoreVersion
    resolution: Resolution
    newest: Candidate | None
    instances: int | None

    @property
    def state(self) -> State:
        """The worst that is to be said."""
        taken = self.resolution.taken
        if taken is None:
            return State.GONE
        if not self.resolution.is_usable:
            return State.UNUSABLE
        if self.resolution.tags and taken.is_foreign:
            return State.FOREIGN
        if self.newest and self.newest.image.created > taken.image.created:
            return State.OUTDATED
        return State.CURRENT


@dataclass(frozen=True)
class Overview:
    """The versions of a cloud, by datastore and name; `empty` are datastores without any."""

    rows: tuple[Row, ...]
    empty: tuple[str, ...]
    notes: tuple[str, ...]


def overview(
    cloud: Cloud, datastore: str | None = None, *, count: bool = False, page: int = 100
) -> Overview:
    """Look at all versions, or those of one datastore; `count` their instances, too, of which
    `page` are asked for at a time.

    Raises as `Service` does.
    """
    images, datastores = Images(cloud.image), Datastores(cloud.database)
    existing = {d.name for d in datastores.datastores()}
    every = datastores.versions()
    versions = sorted(
        (v for v in every if datastore in (None, v.datastore)),
        key=lambda v: (v.datastore, _order(v.name), _order(v.number)),
    )
    notes: list[str] = []
    counts: Mapping[tuple[str, str], int] | None = None
    if count:
        try:
            counts = instances_of(cloud, page)
        except ServiceError as exc:
            notes.append(f"instances cannot be counted: {exc.detail or exc.what}")
    finder = _Finder(images, cloud.project_id)
    names = Counter((v.datastore, v.name) for v in every)
    rows = []
    for version in versions:
        key = (version.datastore, version.name)
        # Trove's list of instances tells the name alone.
        instances = counts.get(key, 0) if counts is not None and names[key] == 1 else None
        rows.append(finder.row(version, instances))
    used = {v.datastore for v in every}
    empty = sorted(d for d in existing - used if datastore in (None, d))
    return Overview(tuple(rows), tuple(empty), tuple(notes))


class _Finder:
    """Asks for each image and each set of tags once."""

    def __init__(self, images: Images, project_id: str) -> None:
        self._images = images
        self._project_id = project_id
        self._known: dict[object, Resolution] = {}

    def row(self, version: DatastoreVersion, instances: int | None) -> Row:
        key: object = version.image or frozenset(version.image_tags)
        if key not in self._known:
            self._known[key] = of_version(self._images, self._project_id, version)
        resolution = self._known[key]
        taken = resolution.taken
        newest = taken
        if version.image:
            tags = version.image_tags or (_tags(taken) if taken else ())
            newest = self._newest(tags) if tags else None
        return Row(version, resolution, newest, instances)

    def _newest(self, tags: Sequence[str]) -> Candidate | None:
        key = frozenset(tags)
        if key not in self._known:
            self._known[key] = resolve(self._images, self._project_id, tags=tags)
        return self._known[key].taken


def _tags(image: Candidate) -> tuple[str, ...]:
    """The tags by which an image's successors are known: those it was meant for, else its own."""
    meant = image.image.properties.get(properties.TAGS, "")
    return tuple(t for t in meant.split(",") if t) or tuple(sorted(image.image.tags))


def _order(text: str) -> list[tuple[int, int, str]]:
    """8.4 before 8.10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in text.split(".")]
