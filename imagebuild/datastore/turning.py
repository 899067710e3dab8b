"""How a version gets another image, step by step, with one to be had at every moment.

Pure: it looks at a `World` and returns steps. Trove looks for the image whenever an instance
is made, so what holds between two steps is seen by users.

- A version that has an image's id: one request changes it.
- A version that goes by tags: the new image gets all of them at one moment; only then do
  images that are newer lose one. Until the last of them is gone, the oldest first, the image
  that was current stays so: a run that was cut off finds what it found the first time.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.datastore.world import (
    REPLACES,
    RETIRED,
    ROLLED_BACK,
    Adopt,
    Entry,
    Point,
    Reactivate,
    Step,
    Version,
    Withdraw,
    World,
)
from imagebuild.errors import PolicyError
from imagebuild.publish import properties


class Way(enum.Enum):
    """Why a version gets another image."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Effect:
    """What becomes of a version: ids of the usable images that it gets, None for none."""

    version: str
    before: str | None
    after: str | None


def steps_to(world: World, version_id: str, image_id: str, way: Way) -> list[Step]:
    """The steps after which that version gets that image; none when it does already.

    Raises PolicyError when there is no way that leaves every version with an image.
    """
    version, image = world.version(version_id), world.image(image_id)
    assert image is not None  # noqa: S101 - the caller has it from there
    current = world.taken(version)
    kept = Adopt(image_id, frozenset(), {RETIRED: None})
    if current and current.id == image_id and image.is_active:
        return [kept] if RETIRED in image.properties else []
    steps: list[Step] = []
    adopt = _adopt(version, image, current, way)
    if adopt.after(world) != world:
        steps.append(adopt)
    if not image.is_active:
        steps.append(Reactivate(image_id))
    # Only now: it says that it was `retire` that had deactivated the image.
    if RETIRED in image.properties:
        steps.append(kept)
    if version.image or not version.tags:
        return [*steps, *([Point(version_id, image_id)] if version.image != image_id else [])]
    now = world.after(steps)
    newer = _newer(now, version, image_id)
    for other in reversed(newer):
        step = Withdraw(other.id, _tag_to_take(now, version, other))
        steps.append(step)
        now = step.after(now)
    return steps


def effects(before: World, after: World) -> list[Effect]:
    """What becomes of each version that gets another image than before."""
    was, will = before.outcome(), after.outcome()
    return [Effect(v, was[v], will[v]) for v in was if was[v] != will[v]]


def newer_than(world: World, version: Version, image: Entry) -> list[Entry]:
    """The images that Trove would take before this one, if it had all the tags; newest first."""
    if version.image or not version.tags:
        return []
    with_tags = Adopt(image.id, version.tags, {}, shows=True).after(world)
    if not image.is_active:
        with_tags = Reactivate(image.id).after(with_tags)
    return _newer(with_tags, version, image.id)


def previous(world: World, version: Version) -> str | None:
    """The image that a rollback leads to: what the current one replaced when it was promoted,
    as far as that is there; else, by tags, the next older one that is ours.
    """
    current = world.taken(version)
    if current is None:
        return None
    recorded = current.properties.get(f"{REPLACES}{version.id}")
    if recorded and recorded != current.id and world.image(recorded):
        return recorded
    if version.image:
        return None
    order = [i.id for i in world.images]
    older = world.images[order.index(current.id) + 1 :]
    return next((i.id for i in older if _may_come_back(i, version)), None)


def _may_come_back(image: Entry, version: Version) -> bool:
    """Whether it is ours, has the tags, and is active, or is not because of `retire` alone."""
    is_ready = image.is_active or (image.status == "deactivated" and RETIRED in image.properties)
    return version.tags <= image.tags and is_ready and not image.is_foreign and not image.is_hidden


def was_rolled_back(world: World, version: Version) -> str | None:
    """The image that was left when a rollback led to the current one; None: it did not."""
    current = world.taken(version)
    left = current.properties.get(f"{ROLLED_BACK}{version.id}") if current else None
    return left if current and left != current.id else None


def was_taken_back(world: World, version: Version, image_id: str) -> bool:
    """Whether somebody has led the version away from that image on purpose: by a rollback, or
    by promoting an older one in its place. An image that cannot be had is not to be kept.
    """
    current, image = world.taken(version), world.image(image_id)
    if current is None or image is None or current.id == image_id or not current.is_active:
        return False
    if was_rolled_back(world, version) == image_id:
        return True
    order = [i.id for i in world.images]
    if order.index(image_id) > order.index(current.id):
        return False  # the older one of both: what is newer has replaced it
    replaced = current.properties.get(f"{REPLACES}{version.id}")
    by_tags = not version.image and image.withdrawn & version.tags
    return bool(by_tags) or replaced == image_id


def _adopt(version: Version, image: Entry, current: Entry | None, way: Way) -> Adopt:
    """What is written on the image before it becomes current, and the tags that it lacks."""
    marks: dict[str, str | None] = {}
    replaced, left = f"{REPLACES}{version.id}", f"{ROLLED_BACK}{version.id}"
    if way is Way.PROMOTE:
        if current and current.id != image.id:
            marks[replaced] = current.id
        marks[left] = None
    elif current:
        marks[left] = current.id
    by_tags = not version.image and version.tags
    tags = version.tags - image.tags if by_tags else frozenset()
    if by_tags and image.withdrawn:
        still = sorted(image.withdrawn - version.tags)
        marks[properties.WITHDRAWN] = ",".join(still) or None
    return Adopt(image.id, tags, marks, shows=bool(by_tags) and image.is_hidden)


def _newer(world: World, version: Version, image_id: str) -> list[Entry]:
    found = []
    for image in world.matches(version.tags):
        if image.id == image_id:
            break
        found.append(image)
    return found


def _tag_to_take(world: World, version: Version, image: Entry) -> str:
    """The tag of an image whose loss disturbs the fewest other versions, and leaves none of
    them without an image.
    """
    was = world.outcome()
    best: tuple[int, int, str] | None = None
    for tag in sorted(version.tags):
        will = Withdraw(image.id, tag).after(world).outcome()
        others = [v for v in was if v != version.id and was[v] != will[v]]
        if any(will[v] is None for v in others):
            continue
        users = sum(tag in v.tags for v in world.versions)
        best = min(filter(None, (best, (len(others), users, tag))))
    if best is None:
        stranded = _stranded(world, version, image)
        raise PolicyError(
            "a newer image is in the way, and another version would be left without any",
            where=f"image {image.id}",
            detail=f"without any of its tags {', '.join(sorted(version.tags))}, instances of "
            f"{len(stranded)} other versions would find no image",
            hint="promote an image for those versions first, or give this version tags of its own",
        )
    return best[2]


def _stranded(world: World, version: Version, image: Entry) -> Sequence[str]:
    was = world.outcome()
    found: set[str] = set()
    for tag in version.tags:
        will = Withdraw(image.id, tag).after(world).outcome()
        found |= {v for v in was if v != version.id and was[v] and not will[v]}
    return sorted(found)
