"""`datastore create`: a version as it is wanted, from whatever is there.

    propose      asks the services, passes the gates, changes nothing
    carry_out    makes what the proposal says, and looks whether it came true

Trove answers 202 with an empty body, 400 for a version that it made all the same, and 500
with a datastore left behind; so what it answers is never taken for what is.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.cloud.service import RefusedError, ServiceError, UnavailableError
from imagebuild.datastore import wanted as wants
from imagebuild.datastore.resolution import Candidate, Resolution, of_version, resolve
from imagebuild.datastore.skew import ControlSeries, check_skew
from imagebuild.datastore.trovemanage import TroveManage
from imagebuild.datastore.wanted import Plan, Wanted
from imagebuild.errors import PolicyError, PublishError
from imagebuild.publish import properties

_TRIES = 3
#: Seconds before the second try; each further one waits twice as long.
_DELAY = 1.0
_SHOWN = 5


@dataclass(frozen=True)
class Gates:
    """What the operator said of the gates. `control` is the control plane's series, if known."""

    force: bool = False
    allow_different_name: bool = False
    control: ControlSeries | None = None


@dataclass(frozen=True)
class Proposal:
    """What would be done. `wanted` is complete, its image an id.

    `before` is the image behind the version as it is, `after` as it is wanted.
    `is_new_datastore`: there is none of that name. `rival` is the version that is the
    default now and would no more be.
    """

    wanted: Wanted
    found: DatastoreVersion | None
    plan: Plan
    before: Resolution | None
    after: Resolution
    is_new_datastore: bool
    rival: DatastoreVersion | None
    notes: tuple[str, ...]


@dataclass
class Outcome:
    """What came of it: the version as it is now, and what Trove did beside."""

    version: DatastoreVersion
    is_created: bool
    notes: list[str] = field(default_factory=list)


def propose(cloud: Cloud, wanted: Wanted, gates: Gates) -> Proposal:
    """Compare what is wanted with what is there.

    Raises UsageError for what Trove would not take, PublishError when no image matches,
    PolicyError when a gate says no, and as `Service` does.
    """
    wanted.check()
    images, datastores = Images(cloud.image), Datastores(cloud.database)
    versions, existing = datastores.versions(), datastores.datastores()
    found = wants.find(versions, wanted)
    # What somebody else decided long ago is told, and not in the way of other changes.
    chooses = found is None or bool(wanted.image or wanted.image_tags)
    if wanted.image is not None:
        wanted = dataclasses.replace(wanted, image=_image(images, cloud, wanted.image).id)
    wanted = wants.complete(wanted, found, versions)
    _check_name(wanted, found, gates)
    before = of_version(images, cloud.project_id, found) if found else None
    if wanted.image or wanted.image_tags:
        after = resolve(
            images, cloud.project_id,
            image_id=wanted.image or "", tags=wanted.image_tags or (),
        )  # fmt: skip
    else:
        after = before or Resolution("", (), ())
    if chooses:
        _check_image(cloud, after, gates)
    notes = [*_image_notes(after), *_version_notes(wanted, found, versions)]
    taken = after.taken
    if taken and chooses:
        skew = check_skew(taken, gates.control)
        if skew and not (before and before.taken and before.taken.id == taken.id):
            notes.append(skew)
    plan = wants.plan(wanted, found, versions)
    if plan.default_left:
        notes.append(
            f"Trove's requests cannot make {wanted.label} the default: Trove looks for it by its "
            "name, which another version has, too; trove-manage can"
        )
    rivals = [v for v in versions if v.datastore == wanted.datastore and v.is_default]
    return Proposal(
        wanted=wanted,
        found=found,
        plan=plan,
        before=before,
        after=after,
        is_new_datastore=wanted.datastore not in {d.name for d in existing},
        rival=next((v for v in rivals if wanted.is_default and v != found), None),
        notes=tuple(notes),
    )


def carry_out(
    cloud: Cloud,
    proposal: Proposal,
    *,
    via: TroveManage | None = None,
    tell: Callable[[str], None] = lambda _text: None,
    delay: float = _DELAY,
) -> Outcome:
    """Make it so. `via` is for what the requests cannot do; `tell` is called with a sentence
    for each thing that is done; `delay` is in seconds, before the second try.

    Raises PublishError when the version is not as wanted in the end, and as `Service` does.
    """
    return _Work(cloud, proposal, via, tell, delay).run()


class _Work:
    """One run of `carry_out`."""

    def __init__(
        self,
        cloud: Cloud,
        proposal: Proposal,
        via: TroveManage | None,
        tell: Callable[[str], None],
        delay: float,
    ) -> None:
        self._cloud = cloud
        self._datastores = Datastores(cloud.database)
        self._wanted = proposal.wanted
        self._proposal = proposal
        self._via = via
        self._tell = tell
        self._delay = delay
        self._notes: list[str] = []

    def run(self) -> Outcome:
        plan, version = self._proposal.plan, self._proposal.found
        if plan.creates:
            self._create(plan)
            plan, version = self._look()
        if plan.changes and version:
            self._change(version, plan)
            plan, version = self._look()
        if plan.default_left and version and self._via:
            self._via.set_default(self._wanted.datastore, version.id)
            self._tell(f"made {version.label} the default, by trove-manage")
            plan, version = self._look()
        if version is None or not plan.is_empty:
            raise self._unlike(plan, version)
        return Outcome(version, self._proposal.found is None, self._notes)

    def _look(self) -> tuple[Plan, DatastoreVersion | None]:
        """The version as it is now, and what still differs."""
        versions = self._datastores.versions()
        found = wants.find(versions, self._wanted)
        return wants.plan(self._wanted, found, versions), found

    def _create(self, plan: Plan) -> None:
        label = self._wanted.label
        for attempt in range(_TRIES):
            try:
                self._datastores.create(plan.creates or {})
            except (RefusedError, UnavailableError) as exc:
                if self._look()[1]:
                    said = exc.detail if exc.status else "nothing"
                    self._notes.append(f"Trove made {label}, although it answered {said}")
                    self._tell(f"created {label}")
                    return
                if isinstance(exc, RefusedError) or attempt == _TRIES - 1:
                    self._clean_up(exc)
                    raise
                time.sleep(self._delay * 2**attempt)
            else:
                self._tell(f"created {label}")
                return

    def _change(self, version: DatastoreVersion, plan: Plan) -> None:
        try:
            self._datastores.patch(version.id, plan.changes or {})
        except (RefusedError, UnavailableError) as exc:
            now, _found = self._look()
            if now.changes:
                raise
            said = exc.detail if exc.status else "nothing"
            self._notes.append(f"Trove changed {version.label}, although it answered {said}")
        self._tell(f"changed {version.label}")

    def _clean_up(self, error: ServiceError) -> None:
        """Remove the datastore that Trove made for a version which it then did not make."""
        name = self._wanted.datastore
        if not self._proposal.is_new_datastore:
            return
        try:
            if name not in {d.name for d in self._datastores.datastores()}:
                return
            # Trove refuses if somebody has put a version into it meanwhile.
            self._datastores.delete_datastore(name)
        except (RefusedError, UnavailableError) as exc:
            error.detail += f"\nthe empty datastore {name} that Trove made is left: {exc.detail}"
        else:
            error.detail += f"\nthe empty datastore {name} that Trove had made is removed"

    def _unlike(self, plan: Plan, version: DatastoreVersion | None) -> PublishError:
        where = f"cloud {self._cloud.name}"
        if version is None:
            return PublishError(
                f"Trove did not make {self._wanted.label}, although it said so", where=where
            )
        hint = "run the same command again"
        if plan.default_left:
            action = f"trove-manage datastore_update {version.datastore} {version.id}"
            hint = f"--trove-manage PREFIX lets it be done; by hand: {action}"
        return PublishError(
            f"{version.label} is there, but not as wanted",
            where=where,
            detail="\n".join(
                f"{d.attribute} is {d.before!r}, wanted is {d.after!r}" for d in plan.differences
            ),
            hint=hint,
        )


def _image(images: Images, cloud: Cloud, text: str) -> Image:
    """The active image of that id or name. Raises PublishError when there is not just one."""
    where = f"cloud {cloud.name}"
    if wants.is_uuid(text):
        found = [i for i in [images.get(text)] if i]
    else:
        found = list(images.find(name=text))
    active = [i for i in found if i.status == "active"]
    if len(active) == 1:
        return active[0]
    if active:
        raise PublishError(
            f"{len(active)} images are called {text}",
            where=where,
            detail="\n".join(f"{i.id} of {i.created:%Y-%m-%d %H:%M} UTC" for i in active),
            hint="give the id of the one that is meant",
        )
    if found:
        raise PublishError(
            f"the image {text} is {found[0].status}, not active",
            where=where,
            hint="Trove would take it, and every instance would fail",
        )
    raise PublishError(f"there is no image {text}", where=where)


def _check_name(wanted: Wanted, found: DatastoreVersion | None, gates: Gates) -> None:
    if found or wanted.name == wanted.number or gates.allow_different_name:
        return
    raise PolicyError(
        f"the version's name {wanted.name} is not its number {wanted.number}",
        where=wanted.label,
        detail="Trove has the guest pull its container by the number when an instance is made,\n"
        "and by the name after a resize and in a rebuilt instance's settings.",
        hint=f"name it {wanted.number}; --allow-different-name if both tags are in the registry",
    )


def _check_image(cloud: Cloud, after: Resolution, gates: Gates) -> None:
    """The gates of the image that will be taken."""
    tags = ", ".join(after.tags)
    if after.taken is None:
        raise PublishError(
            f"no active image has the tags {tags}",
            where=f"cloud {cloud.name}",
            detail="\n".join(
                f"{c.label} has them, but is a community image: Trove finds none of those by tags"
                for c in after.unseen
            ),
            hint="imagebuild upload, or --image ID",
        )
    if properties.UPLOADING in after.taken.image.properties:
        raise PolicyError(
            "nobody has said that the image's data are whole",
            where=f"cloud {cloud.name}: {after.taken.label}",
            hint="its upload is under way, or was cut off: run it again",
        )
    if after.tags and after.taken.is_foreign and not gates.force:
        ours = any(not c.is_foreign for c in after.candidates)
        raise PolicyError(
            f"the newest image with the tags {tags} belongs to another project, and Trove takes it",
            where=f"cloud {cloud.name}",
            detail=_lines(after.candidates) + ("" if ours else "\nnone of them is ours"),
            hint="use tags that nobody else has, or --image ID; --force takes it as it is",
        )


def _image_notes(after: Resolution) -> list[str]:
    """What is to be said of the image that will be taken."""
    taken = after.taken
    tags = ", ".join(after.tags)
    if taken is None:
        missing = f"no active image has the tags {tags}" if tags else "the version's image is gone"
        return [f"{missing}: instances will fail"]
    notes = []
    if taken.is_foreign:
        notes.append(f"{taken.label} is not ours: its owner may change or remove it")
    if len(after.candidates) > 1:
        notes.append(
            f"{len(after.candidates)} images have the tags {tags}; Trove takes the newest:\n"
            + _lines(after.candidates)
        )
    if not after.is_usable:
        notes.append(f"{taken.label} is {taken.image.status}: instances will fail")
    if taken.image.properties.get(properties.DEV) == "true":
        notes.append(f"{taken.label} is a dev image: its agent fetches its code at every start")
    return notes


def _lines(candidates: Sequence[Candidate]) -> str:
    lines = [
        f"{c.image.created:%Y-%m-%d %H:%M} UTC  {c.id}  {c.image.name}"
        + (f"  ({c.image.visibility}, of project {c.image.owner})" if c.is_foreign else "")
        for c in candidates[:_SHOWN]
    ]
    more = len(candidates) - _SHOWN
    return "\n".join(lines + ([f"and {more} more"] if more > 0 else []))


def _version_notes(
    wanted: Wanted, found: DatastoreVersion | None, versions: Sequence[DatastoreVersion]
) -> list[str]:
    notes = []
    others = [v for v in versions if v.datastore == wanted.datastore and v != found]
    if found and found.name != found.number:
        notes.append(
            f"{found.label} has a number that is not its name: a resize has the guest pull "
            f"{found.name}, not {found.number}"
        )
    if wanted.datastore != wanted.manager:
        # trove/taskmanager/models.py, RebuildAction: it hands the one name for the other.
        notes.append(
            f"the datastore is not called {wanted.manager}, as its manager: Trove tells the guest "
            f"of a rebuilt instance that its manager is {wanted.datastore}"
        )
    namesakes = sorted(v.number for v in others if v.name == wanted.name)
    if namesakes:
        notes.append(
            f"{wanted.datastore} has more versions {wanted.name} ({', '.join(namesakes)}): "
            "users must name the number, too"
        )
    if wanted.image_tags:
        same = [v.name for v in others if set(v.image_tags) == set(wanted.image_tags)
                and not v.image]  # fmt: skip
        if same:
            notes.append(
                f"{wanted.datastore} {', '.join(sorted(same))} goes by the same tags, so by the "
                "same image"
            )
    if not found and not wanted.is_active:
        notes.append(f"{wanted.label} is not active: users do not see it (--active)")
    return notes
