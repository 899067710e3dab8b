"""Which cells have nothing to do: every stage id is known, and published.

In this process, and read only: profile → Inputs → Plan → build id; then each cloud is asked for
an image of that build with its proof, and each datastore version for the image that it has
(`published`). Where clouds have all of it, no artifact is needed on this host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.config.profile import Profile
from imagebuild.errors import ConfigError
from imagebuild.forecast import forecast
from imagebuild.host import versions
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.memory import Memory
from imagebuild.pipeline import gates, proof
from imagebuild.pipeline.cells import ImageCell, Places, profile_of
from imagebuild.pipeline.outcome import RunReport
from imagebuild.pipeline.published import Clouds, Published
from imagebuild.plan import Plan, make_plan
from imagebuild.resolve import resolve
from imagebuild.store.store import open_stores


@dataclass(frozen=True)
class Standing:
    """`build_id` of what would be built, `name` of its artifact; both are only likely when
    something was not `resolved`.

    `has_artifact`: it is in place, its images in their sizes. `is_verified`: its verify.json
    says the wanted level of it. `missing`: what is left to do, in plain sentences; empty:
    nothing, the cell can be skipped. `stages`: (stage, is it in the store). `published`:
    (cloud, Glance's id) of each image that is there, as it should be or not. `rolled_back`:
    versions that somebody has led away from this very image, one sentence each: they stay as
    they are until there is another build. `unresolved`: what nobody could tell.
    Without `clouds_asked`, nothing is known of what is published.
    """

    build_id: str
    name: str
    has_artifact: bool
    is_verified: bool
    stages: tuple[tuple[str, bool], ...]
    missing: tuple[str, ...]
    rolled_back: tuple[str, ...] = ()
    published: tuple[tuple[str, str], ...] = ()
    unresolved: tuple[str, ...] = ()
    clouds_asked: bool = True

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """Shape used by `pipeline plan`."""
        return {
            "build_id": self.build_id,
            "name": self.name,
            "has_artifact": self.has_artifact,
            "is_verified": self.is_verified,
            "stages": [{"stage": stage, "cached": cached} for stage, cached in self.stages],
            "published": [{"cloud": cloud, "image": image} for cloud, image in self.published],
            "missing": list(self.missing),
            "rolled_back": list(self.rolled_back),
            "unresolved": list(self.unresolved),
            "clouds_asked": self.clouds_asked,
            "unchanged": self.is_done,
        }


def standing(
    cell: ImageCell, places: Places, *, ask_clouds: bool = True, offline: bool = False
) -> Standing:
    """Look. Raises as resolving and `Service` do."""
    return Look(places, ask_clouds=ask_clouds, offline=offline).standing(cell)


@dataclass
class Look:
    """Looks at several cells: what they share is asked once. One thread at a time.

    Without `ask_clouds`, what is published is not known: then the artifact and its proof
    count alone. With `offline` nothing is asked of the network. `earlier` reports are what
    growth is told by.
    """

    places: Places
    ask_clouds: bool = True
    offline: bool = False
    earlier: Sequence[RunReport] = ()
    _plans: dict[str, Plan] = field(default_factory=dict)
    _clouds: Clouds = field(default_factory=Clouds)

    def __post_init__(self) -> None:
        # They answer while the network is asked.
        versions.prefetch(Memory(self.places.cache / "resolved", offline=True))

    def standing(self, cell: ImageCell) -> Standing:
        """Where a cell stands. Raises as resolving and `Service` do."""
        plan = self._plan(profile_of(cell).profile)
        stores = open_stores(self.places.cache, self.places.store)
        stages: dict[str, bool] = {}
        for part in forecast(plan, stores):
            stages[part.stage] = stages.get(part.stage, True) and part.cached
        view = _artifact(self.places.images / plan.name, plan.build_id)
        lacks = _lacks(view, cell) if view else ""
        missing = [f"it is not known what would be built: {t}" for t in plan.unresolved[:1]]
        asks = self.ask_clouds and not self.offline and bool(cell.publish)
        if view and lacks:
            missing.append(lacks)
        elif view:
            missing += _refused(view, cell, self.earlier)
        elif not asks:
            missing.append(_unbuilt(stages))
        found = Published()
        if asks:
            verified = view if not lacks else None
            found = self._clouds.look(cell, plan, verified, self.places.cache)
        if found.missing and not view:
            missing.append(_unbuilt(stages))
        return Standing(
            build_id=plan.build_id,
            name=plan.name,
            has_artifact=view is not None,
            is_verified=view is not None and not lacks,
            stages=tuple(stages.items()),
            missing=(*missing, *found.missing),
            rolled_back=tuple(found.rolled_back),
            published=tuple(found.images),
            unresolved=plan.unresolved,
            clouds_asked=asks or not cell.publish,
        )

    def _plan(self, profile: Profile) -> Plan:
        """What would be built of a profile; each one is resolved once."""
        key = json.dumps(profile.model_dump(mode="json"), sort_keys=True)
        if key not in self._plans:
            self._plans[key] = self._resolve(profile)
        return self._plans[key]

    def _resolve(self, profile: Profile) -> Plan:
        cache = self.places.cache
        inputs = resolve(
            profile,
            workdir=cache / "sources",
            memory=cache / "resolved",
            containers=cache / "containers",
            offline=self.offline,
            for_run=False,
        )
        return make_plan(inputs, self.places.images / "{name}")


def _unbuilt(stages: Mapping[str, bool]) -> str:
    made = [stage for stage, cached in stages.items() if not cached]
    if not made:
        return "there is no whole artifact; every stage of it is in the store"
    return f"there is no whole artifact; to be made: {', '.join(made)}"


def _artifact(directory: Path, build_id: str) -> ArtifactView | None:
    """The artifact of that build, if its files are there in their sizes.

    Their digests are for `build` and `upload`, which read them anyway.
    """
    try:
        view = open_artifact(directory)
        sizes = {i.path: i.size for i in view.images}
        is_whole = all(path.stat().st_size == size for path, size in sizes.items())
        return view if view.build_id == build_id and is_whole else None
    except (ConfigError, OSError):
        return None


def _refused(view: ArtifactView, cell: ImageCell, earlier: Sequence[RunReport]) -> list[str]:
    """What policies say that are younger than the artifact. That it is proven is looked at
    already, in the clouds, too.
    """
    try:
        rulings = gates.rule(cell, view, earlier)
    except ConfigError:
        return []  # what is damaged is built again, or told by those who read it
    return [f"a gate refuses it: {r.why}" for r in rulings if r.why and r.gate != gates.PROVEN]


def _lacks(view: ArtifactView, cell: ImageCell) -> str:
    """What its proof lacks; "" when it is as it is wanted."""
    image = proof.subject(view, gates.formats(cell.publish))
    if image is None:
        return "the artifact has no image that can be verified"
    try:
        document = view.verification
    except ConfigError:
        return "its verify.json cannot be read"
    lacks = proof.lacks(document, view, image, cell.verify, str(cell.arch))
    return f"to be verified: {lacks}" if lacks else ""
