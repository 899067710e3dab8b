"""Whether clouds have a build as a pipeline wants it, by the code of the verbs that bring it there.

    upload              existing.look, changes.differences
    datastore create    wanted.find, complete, plan
    datastore promote   rotation.look, turning.was_taken_back
    datastore retire    retirement.propose

Read only. What is not as it should be is one sentence each.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from imagebuild.cloud.connection import Cloud, connect
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.config.pipeline import LEVELS, Level, Publish, VersionToPromote
from imagebuild.datastore import retirement, rotation, turning
from imagebuild.datastore import wanted as wants
from imagebuild.errors import PolicyError, UsageError
from imagebuild.manifest import ArtifactView
from imagebuild.pipeline.cells import ImageCell
from imagebuild.pipeline.checking import wanted
from imagebuild.plan import Plan
from imagebuild.publish import changes, existing, properties
from imagebuild.publish.describe import TAG, Choice, Description
from imagebuild.publish.existing import Existing
from imagebuild.publish.job import Way, prepare

#: The order in which `upload` chooses a format (publish/payload.py).
_FORMATS = ("qcow2", "raw", "vmdk", "vhd")


@dataclass
class Published:
    """What clouds have of a build: see `Standing`."""

    images: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)


def choice_of(publish: Publish) -> Choice:
    """What `upload` is asked for (`commands.upload`)."""
    tags = [t for v in publish.versions for t in v.image_tags]
    usual = (TAG, *publish.datastores)
    if publish.tags or not set(tags) <= set(usual):
        tags = list(dict.fromkeys((*(publish.tags or usual), *tags)))
    else:
        tags = []
    return Choice(
        name=publish.name,
        tags=tuple(tags),
        datastores=() if tags else publish.datastores,
        properties={k: v or None for k, v in publish.properties.items()},
        visibility=str(publish.visibility) if publish.visibility else None,
        candidate=bool(publish.versions),
        protected=publish.protected,
    )


@dataclass
class Clouds:
    """Asks clouds; each is connected to once, and asked for its versions once."""

    _connected: dict[str | None, Cloud] = field(default_factory=dict)
    _versions: dict[str | None, list[DatastoreVersion]] = field(default_factory=dict)

    def look(
        self, cell: ImageCell, plan: Plan, view: ArtifactView | None, cache: Path
    ) -> Published:
        """What the cell's clouds have of a build. `view` is the artifact, where it is here and
        verified: then what `upload` would change is known to the last property.

        Raises as `connect` and `Service` do.
        """
        found = Published()
        for publish in cell.publish:
            _Question(self, cell, plan, view, cache, publish, found).ask()
        return found

    def cloud(self, name: str | None) -> Cloud:
        """The cloud of that name."""
        if name not in self._connected:
            self._connected[name] = connect(name)
        return self._connected[name]

    def versions(self, name: str | None) -> list[DatastoreVersion]:
        """The datastore versions of that cloud."""
        if name not in self._versions:
            self._versions[name] = Datastores(self.cloud(name).database).versions()
        return self._versions[name]


@dataclass
class _Question:
    """One cell and one cloud."""

    clouds: Clouds
    cell: ImageCell
    plan: Plan
    view: ArtifactView | None
    cache: Path
    publish: Publish
    found: Published

    def ask(self) -> None:
        cloud = self.clouds.cloud(self.publish.cloud)
        image = self._image(cloud)
        if image is None:
            return
        self.found.images.append((self.publish.label, image.id))
        # Without `promote` a person makes and turns versions: they are no business of the run's.
        versions = self.publish.versions if self.publish.promote else ()
        is_there = [self._version(cloud, v, image) for v in versions]
        if self.publish.retire and all(is_there):
            self._retire(cloud)

    def _say(self, text: str) -> None:
        self.found.missing.append(f"{self.publish.label}: {text}")

    # Glance

    def _image(self, cloud: Cloud) -> Image | None:
        """The image of the build, whatever is to be changed of it; None when there is none."""
        there = existing.look(
            Images(cloud.image), cloud.project_id, self.plan.build_id, self._format
        )
        if not there.whole:
            self._say(_absence(there))
            return None
        image = there.whole[0]
        level = image.properties.get(properties.PROVEN)
        proven = [str(known) for known in LEVELS].index(level) if level in set(LEVELS) else -1
        if proven < LEVELS.index(Level(self.cell.verify.level)):
            self._say(f"the image is proven to {level or 'no level'} only")
        try:
            differences = changes.differences(image, self._description(image))
        except PolicyError as exc:
            self._say(f"it would be refused: {exc.what}")
            return image
        if differences:
            self._say("to be changed: " + "; ".join(map(str, differences)))
        return image

    @property
    def _format(self) -> str:
        if self.publish.convert:
            return "raw"
        made = [str(f) for f in self.plan.profile["formats"]]
        return str(self.publish.format or next((f for f in _FORMATS if f in made), made[0]))

    def _description(self, image: Image) -> Description:
        """What its record is to say. Without the artifact: what the pipeline's file says of it,
        and what the record says already.
        """
        choice, publish = choice_of(self.publish), self.publish
        if self.view:
            series = publish.control_plane_series
            job = prepare(
                self.view, choice, Way(self.cache), fmt=str(publish.format or "") or None,
                convert=publish.convert, control_plane=str(series) if series else None,
            )  # fmt: skip
            return job.description
        tags = tuple(dict.fromkeys(choice.tags or (TAG, *choice.datastores)))
        said = {k: v for k, v in choice.properties.items() if v is not None}
        return Description(
            name=choice.name or self.plan.name,
            disk_format=image.disk_format or "",
            min_disk=image.min_disk,
            min_ram=image.min_ram,
            tags=() if choice.candidate else tags,
            properties={properties.TAGS: ",".join(tags), **said},
            visibility=choice.visibility,
            protected=choice.protected,
        )

    # Trove

    def _version(self, cloud: Cloud, version: VersionToPromote, image: Image) -> bool:
        """See to one version; whether it is there."""
        versions = self.clouds.versions(self.publish.cloud)
        # One that is there keeps the image, or the tags, that it goes by.
        asked = dataclasses.replace(wanted(version), image=None, image_tags=None)
        try:
            there = wants.find(versions, asked)
            if there is None:
                self._say(f"the datastore version {version.label} is not there")
                return False
            plan = wants.plan(wants.complete(asked, there, versions), there, versions)
        except UsageError as exc:
            self._say(f"{version.label}: {exc.what}")
            return False
        if differences := [d.attribute for d in plan.differences]:
            self._say(f"{version.label}: to be changed: {', '.join(differences)}")
        self._promotion(cloud, versions, there, image)
        return True

    def _promotion(
        self,
        cloud: Cloud,
        versions: list[DatastoreVersion],
        version: DatastoreVersion,
        image: Image,
    ) -> None:
        scene = rotation.look(cloud, versions, version.id, [image.id])
        model = scene.world.version(version.id)
        taken = scene.world.taken(model)
        if taken and taken.id == image.id:
            return
        has = scene.label(taken.id) if taken else "no image"
        if turning.was_taken_back(scene.world, model, image.id):
            self.found.rolled_back.append(
                f"{self.publish.label}: {version.label} was taken back from this build: it keeps "
                f"{has} until there is another build, or somebody promotes this one"
            )
        else:
            self._say(f"{version.label} has {has}, not this build")

    def _retire(self, cloud: Cloud) -> None:
        asked = self.publish.retire
        assert asked  # noqa: S101 - the caller has seen it
        rules = retirement.Rules(asked.keep, timedelta(seconds=asked.grace_seconds))
        for datastore in dict.fromkeys(v.datastore for v in self.publish.versions):
            pending = retirement.propose(cloud, datastore, None, rules).pending
            if pending:
                noun = "image" if len(pending) == 1 else "images"
                self._say(f"{len(pending)} older {noun} of {datastore} to be retired")


def _absence(there: Existing) -> str:
    if there.deactivated:
        return f"the image is deactivated: somebody has withdrawn it ({there.deactivated[0].id})"
    if there.leftovers:
        return "an upload of the image was cut off, or is under way"
    return "the image is not there"
