"""`datastore promote` and `rollback`: a version gets another image, or the one before.

    propose_promotion, propose_rollback    ask the services, pass the gates, change nothing
    carry_out                              take the steps, and look whether it came true

What is to be remembered is written on the images themselves. Each step is one request that may
be sent twice, and the plan of a second run takes up where the first was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.datastore import candidates, turning
from imagebuild.datastore.resolution import Candidate
from imagebuild.datastore.skew import ControlSeries, check_skew
from imagebuild.datastore.turning import Way
from imagebuild.datastore.world import (
    REPLACES,
    Adopt,
    Deactivate,
    Delete,
    Entry,
    Point,
    Reactivate,
    Step,
    Version,
    Withdraw,
    World,
)
from imagebuild.errors import PolicyError, PublishError, UsageError

#: How often it is looked again, when somebody has uploaded meanwhile.
_ROUNDS = 3


@dataclass(frozen=True)
class Gates:
    """What the operator said of the gates. `control` is the control plane's series, if known.

    `unless_taken_back`: an image that somebody has led the version away from is left alone.
    """

    force: bool = False
    dev: bool = False
    control: ControlSeries | None = None
    unless_taken_back: bool = False


@dataclass(frozen=True)
class Scene:
    """What was found: the services' own records beside the value that plans are made on."""

    project_id: str
    world: World
    versions: Mapping[str, DatastoreVersion]
    images: Mapping[str, Image]

    def candidate(self, image_id: str | None) -> Candidate | None:
        """The image of that id, if it was found."""
        image = self.images.get(image_id or "")
        return Candidate(image, image.owner != self.project_id) if image else None

    def label(self, image_id: str) -> str:
        """An image's name for people."""
        found = self.candidate(image_id)
        return found.label if found else image_id


@dataclass(frozen=True)
class Effect:
    """A version that gets another image than before; None: no instance can be made."""

    version: DatastoreVersion
    before: Candidate | None
    after: Candidate | None


@dataclass(frozen=True)
class Proposal:
    """What would be done. `steps` is empty when the version has that image already, and when it
    is not to get it since it was taken back: `left_alone` says so then, and `after` is what the
    version has.
    """

    way: Way
    version: DatastoreVersion
    before: Candidate | None
    after: Candidate
    steps: tuple[Step, ...]
    effects: tuple[Effect, ...]
    notes: tuple[str, ...]
    scene: Scene
    gates: Gates
    left_alone: str = ""

    def texts(self) -> list[str]:
        """The steps for people, in their order."""
        return [text_of(s, self.scene) for s in self.steps]


def pick(
    versions: Sequence[DatastoreVersion], datastore: str, name: str | None
) -> DatastoreVersion:
    """The version of that name, number or id; without one, the only one of the datastore.

    Raises UsageError when there is not just one, PublishError when there is none.
    """
    mine = [v for v in versions if v.datastore == datastore]
    if name is None:
        found = mine
    else:
        found = [v for v in mine if name in (v.name, v.id)] or [v for v in mine if v.number == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"which version of {datastore} is meant?",
            detail="\n".join(f"{v.label}  {v.id}" for v in found),
            hint="name one, or give its id" if name else "name one",
        )
    raise PublishError(
        f"there is no datastore version {datastore} {name or ''}".rstrip(),
        detail="there are: " + (", ".join(sorted(v.label for v in versions)) or "none"),
        hint="imagebuild datastore create",
    )


def propose_promotion(
    cloud: Cloud,
    datastore: str,
    name: str | None,
    image: str,
    gates: Gates,
    images_dir: Path | None = None,
) -> Proposal:
    """How a version comes to have that image: by Glance's id, a build id, an artifact or a name.

    Raises PolicyError when a gate says no, PublishError when there is no such version or image,
    UsageError when it is not clear which, and as `Service` does.
    """
    versions = Datastores(cloud.database).versions()
    version = pick(versions, datastore, name)
    scene = look(cloud, versions, version.id)
    taken = _taken(scene, version)
    candidate = candidates.find(cloud, image, images_dir, taken.image if taken else None)
    scene = look(cloud, versions, version.id, [candidate.id])
    candidate = scene.candidate(candidate.id) or candidate
    model = scene.world.version(version.id)
    if gates.unless_taken_back and turning.was_taken_back(scene.world, model, candidate.id):
        return _left_alone(scene, version, candidate, gates)
    candidates.check(candidate, force=gates.force, dev=gates.dev)
    _check_newer(scene, version, candidate, gates)
    notes = []
    if not (taken and taken.id == candidate.id) and (skew := check_skew(candidate, gates.control)):
        notes.append(skew)
    return _proposal(Way.PROMOTE, scene, version, candidate, notes, gates)


def propose_rollback(cloud: Cloud, datastore: str, name: str | None, gates: Gates) -> Proposal:
    """How a version comes to have the image before its present one.

    That is the one which the present one replaced when it was promoted; else, by tags, the
    next older one. A version that was rolled back already stays as it is: what is lost after
    the last step does not make a second run go further. Raises as `propose_promotion`, and
    PublishError when there is nothing to go back to.
    """
    versions = Datastores(cloud.database).versions()
    version = pick(versions, datastore, name)
    scene = look(cloud, versions, version.id)
    world, model = scene.world, scene.world.version(version.id)
    current = _taken(scene, version)
    if current is None:
        raise PublishError(
            f"{version.label} has no image to go back from", where=f"cloud {cloud.name}",
            hint="imagebuild datastore promote",
        )  # fmt: skip
    target = turning.previous(world, model)
    if left := turning.was_rolled_back(world, model):
        notes = [f"{version.label} was rolled back to it already, from {scene.label(left)}"]
        if target and target != left:
            notes.append(
                f"further back: imagebuild datastore promote {target} {datastore} {version.name}"
            )
        return _proposal(Way.ROLLBACK, scene, version, current, notes, gates)
    candidate = scene.candidate(target)
    if candidate is None:
        raise PublishError(
            f"there is no image that {version.label} had before",
            where=f"cloud {cloud.name}",
            detail=f"{current.label} does not say what it replaced, "
            + ("or that is gone" if version.image else "and no older one has the version's tags"),
            hint="imagebuild datastore promote IMAGE names any other",
        )
    candidates.check(candidate, force=gates.force, dev=True)
    _check_newer(scene, version, candidate, gates)
    notes = []
    if (recorded := current.image.properties.get(f"{REPLACES}{version.id}")) and (
        recorded != candidate.id
    ):
        notes.append(
            f"what {current.label} replaced is gone ({recorded}): it is the next older one"
        )
    try:
        if skew := check_skew(candidate, gates.control):
            notes.append(skew)
    except PolicyError as exc:
        # It ran before; going back is what is asked for.
        notes.append(f"{exc.what} ({candidate.label})")
    return _proposal(Way.ROLLBACK, scene, version, candidate, notes, gates)


def carry_out(
    cloud: Cloud, proposal: Proposal, tell: Callable[[str], None] = lambda _text: None
) -> None:
    """Take the steps. `tell` is called with a sentence for each that is done.

    Raises PublishError when the version has another image in the end, PolicyError when
    somebody has put a newer one in the way meanwhile, and as `Service` does: run it again then.
    """
    images, datastores = Images(cloud.image), Datastores(cloud.database)
    steps, scene = proposal.steps, proposal.scene
    version_id, wanted = proposal.version.id, proposal.after.id
    for _ in range(_ROUNDS):
        for step in steps:
            step.perform(images, datastores)
            tell(text_of(step, scene))
        scene = look(cloud, datastores.versions(), version_id, [wanted])
        if scene.world.outcome().get(version_id) == wanted:
            return
        candidate = scene.candidate(wanted)
        if candidate is None:
            raise PublishError("the image is gone", where=f"cloud {cloud.name}: {wanted}")
        # Somebody has uploaded meanwhile, or Glance orders images of one second otherwise.
        _check_newer(scene, scene.versions[version_id], candidate, proposal.gates)
        steps = tuple(turning.steps_to(scene.world, version_id, wanted, proposal.way))
    taken = _taken(scene, proposal.version)
    raise PublishError(
        f"{proposal.version.label} does not get {proposal.after.label}",
        where=f"cloud {cloud.name}",
        detail=f"Trove takes {taken.label if taken else 'none'}",
        hint="run the same command again",
    )


def look(
    cloud: Cloud,
    versions: Sequence[DatastoreVersion],
    version_id: str,
    more: Sequence[str] = (),
) -> Scene:
    """The versions, and all images that they may get: those with a version's tags, in whatever
    state, those that versions name, what those of `version_id` replaced, and `more`.
    """
    images = Images(cloud.image)
    # That of the version first: of images of one second, its order is what counts.
    found = images_of(images, sorted(versions, key=lambda v: v.id != version_id))
    for image_id in more:
        _add(images, found, image_id)
    replaced = f"{REPLACES}{version_id}"
    for image_id in [i.properties[replaced] for i in found.values() if replaced in i.properties]:
        _add(images, found, image_id)
    return scene_of(cloud.project_id, versions, list(found.values()))


def images_of(images: Images, versions: Sequence[DatastoreVersion]) -> dict[str, Image]:
    """By id, the images that versions may get: with a version's tags, in whatever state, or
    named by one. In the order of the versions, and of Glance's lists.
    """
    found: dict[str, Image] = {}
    asked: set[frozenset[str]] = set()
    for version in versions:
        tags = frozenset(version.image_tags)
        if version.image or not tags or tags in asked:
            continue
        asked.add(tags)
        for image in images.find(tags=sorted(tags)):
            found.setdefault(image.id, image)
    for version in versions:
        if version.image:
            _add(images, found, version.image)
    return found


def scene_of(
    project_id: str, versions: Sequence[DatastoreVersion], images: Sequence[Image]
) -> Scene:
    """The value of these records; images of one second stay in the order that they are in."""
    ordered = sorted(images, key=lambda i: i.created, reverse=True)
    world = World(
        tuple(Entry.of(i, project_id) for i in ordered), tuple(Version.of(v) for v in versions)
    )
    return Scene(project_id, world, {v.id: v for v in versions}, {i.id: i for i in ordered})


def text_of(step: Step, scene: Scene) -> str:
    """A step for people."""
    image = scene.label(step.image)
    if isinstance(step, Adopt):
        if step.tags:
            return f"{image} gets the tags {', '.join(sorted(step.tags))}"
        return f"{image}: what it replaces is written down"
    if isinstance(step, Withdraw):
        return f"{image} loses the tag {step.tag}"
    if isinstance(step, Point):
        return f"{scene.versions[step.version].label} uses {image}"
    if isinstance(step, Reactivate):
        return f"{image} is reactivated"
    if isinstance(step, Deactivate):
        return f"{image} is deactivated"
    assert isinstance(step, Delete)  # noqa: S101 - there are no others
    return f"{image} is deleted"


def _add(images: Images, found: dict[str, Image], image_id: str) -> None:
    if image_id not in found and (image := images.get(image_id)):
        found[image_id] = image


def _taken(scene: Scene, version: DatastoreVersion) -> Candidate | None:
    taken = scene.world.taken(scene.world.version(version.id))
    return scene.candidate(taken.id) if taken else None


def _check_newer(
    scene: Scene, version: DatastoreVersion, candidate: Candidate, gates: Gates
) -> None:
    """Raise PolicyError when an image of somebody else's would have to lose a tag."""
    model, entry = scene.world.version(version.id), scene.world.image(candidate.id)
    if entry is None or gates.force:
        return
    foreign = [i for i in turning.newer_than(scene.world, model, entry) if i.is_foreign]
    if foreign:
        raise PolicyError(
            "a newer image with the version's tags belongs to another project, and Trove takes it",
            where=candidate.label,
            detail="\n".join(scene.label(i.id) for i in foreign),
            hint="tags that nobody else has, or an image by id (datastore create); --force takes "
            "a tag from the other project's image",
        )


def _left_alone(
    scene: Scene, version: DatastoreVersion, candidate: Candidate, gates: Gates
) -> Proposal:
    """The version keeps what it has, which somebody has led it to."""
    current = _taken(scene, version)
    assert current is not None  # noqa: S101 - `was_taken_back` has seen it
    why = f"somebody has taken {version.label} back from {candidate.label} to {current.label}"
    note = (
        f"{why}: it stays so; to promote it all the same: imagebuild datastore promote "
        f"{candidate.id} {version.datastore} {version.name}"
    )
    return Proposal(
        way=Way.PROMOTE,
        version=version,
        before=current,
        after=current,
        steps=(),
        effects=(),
        notes=(note,),
        scene=scene,
        gates=gates,
        left_alone=why,
    )


def _proposal(
    way: Way,
    scene: Scene,
    version: DatastoreVersion,
    candidate: Candidate,
    notes: Sequence[str],
    gates: Gates,
) -> Proposal:
    world = scene.world
    steps = turning.steps_to(world, version.id, candidate.id, way)
    effects = [
        Effect(scene.versions[e.version], scene.candidate(e.before), scene.candidate(e.after))
        for e in turning.effects(world, world.after(steps))
    ]
    effects.sort(key=lambda e: (e.version.id != version.id, e.version.label))
    return Proposal(
        way=way,
        version=version,
        before=_taken(scene, version),
        after=candidate,
        steps=tuple(steps),
        effects=tuple(effects),
        notes=tuple(notes),
        scene=scene,
        gates=gates,
    )
