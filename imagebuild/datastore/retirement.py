"""`datastore retire`: older images of a datastore go, first out of use, then for good.

    propose      what is there, what becomes of each image and why; changes nothing
    carry_out    does it, and looks before each image whether it is still so

Only images that imagebuild has published for our own project are meant. One that is to go is
deactivated, with the time on it; a later run deletes it. Whatever a version or a server refers
to stays, and so does a protected image.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.cloud.service import NotAllowedError, RefusedError
from imagebuild.datastore.resolution import Candidate
from imagebuild.datastore.rotation import Scene, images_of, scene_of, text_of
from imagebuild.datastore.turning import previous
from imagebuild.datastore.usage import Usage, servers, usage
from imagebuild.datastore.world import (
    REPLACES,
    RETIRED,
    ROLLED_BACK,
    Adopt,
    Deactivate,
    Delete,
    Entry,
    Step,
    Version,
    World,
)
from imagebuild.errors import PublishError
from imagebuild.publish import properties


class Fate(enum.Enum):
    """What becomes of an image."""

    KEEP = "keep"
    DEACTIVATE = "deactivate"
    #: It is deactivated, and stays so until the time is up.
    WAIT = "wait"
    DELETE = "delete"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one image, and why, for people."""

    image: Candidate
    fate: Fate
    why: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Retirement:
    """The verdicts, the newest image first."""

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    scene: Scene

    @property
    def pending(self) -> list[Verdict]:
        """Those that something is to be done for."""
        return [v for v in self.verdicts if v.steps]


@dataclass
class Outcome:
    """What came of it: ids of images, and what was left because it had changed meanwhile."""

    deactivated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """Of each version, the current image stays and `keep` more; `grace` is how long an image
    stays deactivated before it is deleted.
    """

    keep: int = 2
    grace: timedelta = timedelta(0)


def propose(
    cloud: Cloud,
    datastore: str,
    name: str | None,
    rules: Rules,
    now: datetime | None = None,
) -> Retirement:
    """Look at a datastore's images, or at those of one of its versions.

    Raises PublishError when there is no such version, and as `Service` does.
    """
    now = now or datetime.now(timezone.utc)
    versions = Datastores(cloud.database).versions()
    chosen = _chosen(versions, datastore, name)
    scene = _look(cloud, versions)
    used = usage(cloud)
    judge = _Judge(scene, rules, now, used, lambda image_id: servers(cloud, image_id))
    verdicts = judge.verdicts({v.id for v in chosen})
    notes = list(_version_notes(chosen, scene, used))
    if used.problems and any(v.why.startswith("may be in use") for v in verdicts):
        notes += used.problems
    return Retirement(tuple(verdicts), tuple(notes), scene)


def carry_out(
    cloud: Cloud, found: Retirement, tell: Callable[[str], None] = lambda _text: None
) -> Outcome:
    """Do what was proposed. An image that has changed since, or that a version or a server
    refers to by now, is left. `tell` is called with a sentence for each thing that is done.

    Raises PublishError at the end when a service refused some of it, and as `Service` does.
    """
    images, datastores = Images(cloud.image), Datastores(cloud.database)
    outcome = Outcome()
    refused: list[str] = []
    for verdict in found.pending:
        image = verdict.image
        if why := _changed(cloud, images, datastores, image.image):
            outcome.left.append(f"{image.label} is left: {why}")
            continue
        try:
            for step in verdict.steps:
                step.perform(images, datastores)
        except (RefusedError, NotAllowedError) as exc:
            refused.append(f"{image.label}: {exc.detail or exc.what}")
            continue
        tell(text_of(verdict.steps[-1], found.scene))
        done = outcome.deleted if verdict.fate is Fate.DELETE else outcome.deactivated
        done.append(image.id)
    if refused:
        raise PublishError(
            f"{len(refused)} of {len(found.pending)} images could not be retired",
            where=f"cloud {cloud.name}",
            detail="\n".join(refused),
            hint="run it again when what is in the way is gone",
        )
    return outcome


class _Judge:
    """Gives the verdicts. `count` says how many servers there are of an image, None: unknown."""

    def __init__(
        self,
        scene: Scene,
        rules: Rules,
        now: datetime,
        used: Usage,
        count: Callable[[str], int | None],
    ) -> None:
        self._scene = scene
        self._rules = rules
        self._now = now
        self._used = used
        self._count = count
        self._families = {v.id: family(scene.world, v) for v in scene.world.versions}
        self._current = _referenced(scene)
        self._kept = self._keep()

    def verdicts(self, chosen: set[str]) -> list[Verdict]:
        wanted = {i.id for v in chosen for i in self._families[v]}
        found = []
        for entry in self._scene.world.images:
            candidate = self._scene.candidate(entry.id)
            if entry.id in wanted and candidate:
                found.append(self._verdict(candidate, entry))
        return found

    def _verdict(self, candidate: Candidate, entry: Entry) -> Verdict:
        if why := self._reason(candidate, entry):
            return Verdict(candidate, Fate.KEEP, why)
        retired = _time(entry.properties.get(RETIRED))
        if entry.is_active:
            stamp = retired or self._now
            steps = (
                Adopt(entry.id, frozenset(), {RETIRED: stamp.isoformat(timespec="seconds")}),
                Deactivate(entry.id),
            )
            return Verdict(candidate, Fate.DEACTIVATE, self._beyond(), steps)
        if entry.status != "deactivated" or retired is None:
            by = "somebody has deactivated it" if retired is None else f"it is {entry.status}"
            return Verdict(candidate, Fate.KEEP, by)
        due = retired + self._rules.grace
        if self._now < due:
            return Verdict(candidate, Fate.WAIT, f"to be deleted after {due:%Y-%m-%d %H:%M} UTC")
        why = f"deactivated since {retired:%Y-%m-%d %H:%M} UTC"
        return Verdict(candidate, Fate.DELETE, why, (Delete(entry.id),))

    def _reason(self, candidate: Candidate, entry: Entry) -> str:
        """Why it stays, empty when there is no reason."""
        if labels := self._current.get(entry.id):
            return f"current: {', '.join(sorted(labels))}"
        if why := self._kept.get(entry.id):
            return why
        if candidate.image.is_protected:
            return "protected"
        number = self._count(entry.id)
        if number:
            return f"in use: {number} server{'' if number == 1 else 's'}"
        if number is None and (users := self._users(entry)):
            return f"may be in use: the cloud has no compute to ask, and {users}"
        return ""

    def _users(self, entry: Entry) -> str:
        """Versions that the image was made for and that have instances."""
        found = []
        for version_id, members in self._families.items():
            if all(i.id != entry.id for i in members):
                continue
            version = self._scene.versions[version_id]
            if self._used.instances is None:
                return "Trove does not tell its instances"
            if count := self._used.instances.get((version.datastore, version.name)):
                found.append(f"{version.label} has {count} instance{'' if count == 1 else 's'}")
        return ", ".join(sorted(found))

    def _keep(self) -> dict[str, str]:
        """Images that stay beside the current ones: by id, why."""
        kept: dict[str, str] = {}
        for version in self._scene.world.versions:
            label = self._scene.versions[version.id].label
            current = self._scene.world.taken(version)
            others = [i for i in self._families[version.id] if not current or i.id != current.id]
            back = previous(self._scene.world, version)
            first = [i for i in others if i.id == back]
            rest = [i for i in others if i.id != back]
            for image in (first + rest)[: self._rules.keep]:
                why = f"rollback of {label} leads to it" if image.id == back else (
                    f"one of the newest of {label}"
                )  # fmt: skip
                kept.setdefault(image.id, why)
        for entry in self._scene.world.images:
            if labels := self._candidate_for(entry):
                kept.setdefault(entry.id, f"newer than the current image of {labels}")
        return kept

    def _candidate_for(self, image: Entry) -> str:
        """The versions that it is a candidate for: it is newer than the current image of all
        that it was made for, and was never taken back. Empty for another image.
        """
        if image.withdrawn or RETIRED in image.properties:
            return ""
        labels = []
        order = [i.id for i in self._scene.world.images]
        for version_id, members in self._families.items():
            if all(i.id != image.id for i in members):
                continue
            current = self._scene.world.taken(self._scene.world.version(version_id))
            if current is None or order.index(image.id) >= order.index(current.id):
                return ""
            labels.append(self._scene.versions[version_id].label)
        return ", ".join(sorted(labels))

    def _beyond(self) -> str:
        return f"beyond the newest {self._rules.keep}"


def family(world: World, version: Version) -> list[Entry]:
    """The images of ours that were made for a version, newest first: those that are meant to
    have its tags, and those that it had by id.
    """
    current = world.taken(version)
    tags = version.tags or (_meant(current) if current else frozenset())
    names = (f"{REPLACES}{version.id}", f"{ROLLED_BACK}{version.id}")
    had = {i.properties[n] for i in world.images for n in names if n in i.properties}
    return [
        i
        for i in world.images
        if not i.is_foreign
        and properties.BUILD_ID in i.properties
        and properties.UPLOADING not in i.properties
        and (
            (tags and tags <= i.tags | _meant(i))
            or i.id in had
            or i.id == version.image
            or any(n in i.properties for n in names)
        )
    ]


def _meant(image: Entry) -> frozenset[str]:
    """The tags that an image is meant to have, whether or not it has them now."""
    said = frozenset(filter(None, image.properties.get(properties.TAGS, "").split(",")))
    return (said or image.tags) | image.withdrawn


def _look(cloud: Cloud, versions: Sequence[DatastoreVersion]) -> Scene:
    """All images of our project, and all others that versions may get."""
    images = Images(cloud.image)
    found = images_of(images, versions)
    for hidden in ("false", "true"):  # Glance lists one kind or the other
        for image in images.find(owner=cloud.project_id, os_hidden=hidden):
            if properties.BUILD_ID in image.properties:
                found.setdefault(image.id, image)
    return scene_of(cloud.project_id, versions, list(found.values()))


def _chosen(
    versions: Sequence[DatastoreVersion], datastore: str, name: str | None
) -> list[DatastoreVersion]:
    mine = [v for v in versions if v.datastore == datastore]
    found = [v for v in mine if name is None or name in (v.name, v.number, v.id)]
    if not found:
        raise PublishError(
            f"there is no datastore version {datastore} {name or ''}".rstrip(),
            detail="there are: " + (", ".join(sorted(v.label for v in versions)) or "none"),
        )
    return found


def _referenced(scene: Scene) -> Mapping[str, list[str]]:
    """Image → the versions that refer to it, by id or by what their tags lead to."""
    found: dict[str, list[str]] = {}
    for version in scene.world.versions:
        taken = scene.world.taken(version)
        if taken:
            record = scene.versions[version.id]
            label = record.label + ("" if record.is_active else " (inactive)")
            found.setdefault(taken.id, []).append(label)
    return found


def _version_notes(chosen: Sequence[DatastoreVersion], scene: Scene, used: Usage) -> list[str]:
    """Versions that nobody can use and nothing uses, but that hold an image."""
    notes = []
    for version in chosen:
        taken = scene.world.taken(scene.world.version(version.id))
        if version.is_active or not taken:
            continue
        users = used.of(version.datastore, version.name, version.id)
        if not users:
            notes.append(
                f"{version.label} is inactive and nothing uses it, yet it holds "
                f"{scene.label(taken.id)}: openstack datastore version delete {version.id}"
            )
        elif users != "?":
            notes.append(f"{version.label} is inactive, but has {users}: its image stays")
    return notes


def _changed(cloud: Cloud, images: Images, datastores: Datastores, planned: Image) -> str:
    """What speaks against it by now; empty when nothing does."""
    now = images.get(planned.id)
    if now is None:
        return "it is gone"
    if (
        now.updated != planned.updated
        or now.status != planned.status
        or (now.tags != planned.tags or now.properties != planned.properties)
    ):
        return "it has changed since"
    if now.is_protected:
        return "it is protected"
    if any(v.image == planned.id for v in datastores.versions()):
        return "a version refers to it now"
    if servers(cloud, planned.id):
        return "a server was made of it"
    return ""


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=timezone.utc) if found and found.tzinfo is None else found
