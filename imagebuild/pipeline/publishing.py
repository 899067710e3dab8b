"""An image into its clouds: upload, datastore versions, promotion, retirement.

Phase by phase through all clouds; what fails in one holds what is left of that cloud alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from imagebuild.config.pipeline import Publish, VersionToPromote
from imagebuild.errors import PublishError
from imagebuild.manifest import ArtifactView
from imagebuild.pipeline import commands
from imagebuild.pipeline.answers import Answer, read
from imagebuild.pipeline.cells import ImageCell, Phase
from imagebuild.pipeline.night import Night
from imagebuild.pipeline.outcome import GOOD, PhaseReport, Status
from imagebuild.pipeline.phaserun import PhaseRun
from imagebuild.pipeline.process import Ended

_NOT_ASKED = "not asked for"
_BY_HAND = "promote: false: a person does that"


class Perform(Protocol):
    """Does what a phase is, and records its end."""

    def __call__(
        self, night: Night, cell_id: str, phase: PhaseRun, work: Callable[[], Answer]
    ) -> PhaseReport: ...


def targets(cell: ImageCell) -> Iterator[tuple[Phase, str]]:
    """The phases of publishing, each with its targets, in their order."""
    for phase in (Phase.UPLOAD, Phase.REGISTER, Phase.PROMOTE, Phase.RETIRE):
        for publish in cell.publish:
            for target, _ in _slots(phase, publish):
                yield phase, target


def _slots(phase: Phase, publish: Publish) -> list[tuple[str, Any]]:
    """What a phase does in a cloud: (target, what of it)."""
    if phase is Phase.UPLOAD:
        return [(commands.cloud_of(publish), None)]
    if phase in (Phase.REGISTER, Phase.PROMOTE):
        return [(commands.version_target(publish, v), v) for v in publish.versions]
    if publish.retire:
        return [(commands.retire(publish, d).target, d) for d in commands.datastores(publish)]
    return []


class Publishing:
    """All clouds of a cell. `view` is its artifact, which has passed the gates."""

    def __init__(
        self, night: Night, cell: ImageCell, view: ArtifactView | None, perform: Perform
    ) -> None:
        self._night = night
        self._cell = cell
        self._view = view
        self._perform = perform
        #: By cloud: why nothing more is done there, Glance's id of the image, Trove's of versions.
        self._held: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def run(self, held: str) -> None:
        """All phases that are asked for; `held` says why none is done."""
        works: Mapping[Phase, Callable[[PhaseRun, Publish, Any], Answer]] = {
            Phase.UPLOAD: self._upload,
            Phase.REGISTER: self._register,
            Phase.PROMOTE: self._promote,
            Phase.RETIRE: self._retire,
        }
        for phase, work in works.items():
            for publish in self._cell.publish:
                cloud = commands.cloud_of(publish)
                for target, what in _slots(phase, publish):
                    why = held or self._held.get(cloud, "")
                    self._one(phase, publish, target, what, why, work)

    def _one(
        self,
        phase: Phase,
        publish: Publish,
        target: str,
        what: Any,  # noqa: ANN401 - of the phase's own kind
        held: str,
        work: Callable[[PhaseRun, Publish, Any], Answer],
    ) -> None:
        night, cell_id = self._night, self._cell.id
        cloud = commands.cloud_of(publish)
        if not night.asked.has(phase):
            self._add(phase, target, Status.SKIPPED, _NOT_ASKED)
            return
        if not held and night.children.stopping.is_set():
            held = self._held[cloud] = "the run was interrupted"
        if held:
            self._add(phase, target, Status.HELD, held)
            return
        if phase in (Phase.REGISTER, Phase.PROMOTE) and not publish.promote:
            self._add(phase, target, Status.SKIPPED, _BY_HAND)
            return
        run = night.phase(cell_id, phase, target)
        report = self._perform(night, cell_id, run, lambda: work(run, publish, what))
        if report.status is Status.INTERRUPTED:
            self._held[cloud] = "the run was interrupted"
        elif report.status not in GOOD:
            self._held.setdefault(cloud, f"{phase.value} failed ({target})")

    def _add(self, phase: Phase, target: str, status: Status, why: str) -> None:
        report = PhaseReport(phase, status, target=target, why=why)
        self._night.recorder.add(self._cell.id, report)

    def _upload(self, phase: PhaseRun, publish: Publish, _nothing: object) -> Answer:
        answer = read(Phase.UPLOAD, phase.call(self._upload_command(publish)))
        if answer.status in GOOD:
            self._images[commands.cloud_of(publish)] = str(answer.result["image"])
        return answer

    def _register(self, phase: PhaseRun, publish: Publish, version: VersionToPromote) -> Answer:
        """Make a version that is not there; of one that is, what the file says of it.

        A new one that goes by tags needs an image that has them: where nobody has gone by them
        yet, this image gets them now. Where others do, theirs is taken: `promote` turns them.
        """
        image = self._images[commands.cloud_of(publish)]
        listed = phase.call(commands.versions(publish), is_main=False)
        if listed.code != 0 or not listed.document:
            return read(Phase.REGISTER, listed)
        found = _find(listed, version)
        if found:
            self._versions[commands.version_target(publish, version)] = str(found["id"])
            if version.default is None and not version.manager:
                return Answer(Status.UNCHANGED, {"version": found["id"], "changed": False})
            return read(Phase.REGISTER, phase.call(commands.register(publish, version, None)))
        if not version.create:
            raise PublishError(
                f"there is no datastore version {version.datastore} {version.version}",
                where=f"cloud {commands.cloud_of(publish)}",
                hint="`create: true` lets the pipeline make it",
            )
        if version.image_tags and not _goes_by(listed, version.image_tags):
            tagged = phase.call(self._upload_command(publish, candidate=False), is_main=False)
            if tagged.code != 0:
                return Answer(Status.FAILED, error=read(Phase.UPLOAD, tagged).error)
        answer = read(Phase.REGISTER, phase.call(commands.register(publish, version, image)))
        if answer.status in GOOD:
            target = commands.version_target(publish, version)
            self._versions[target] = str(answer.result["version"])
        return answer

    def _promote(self, phase: PhaseRun, publish: Publish, version: VersionToPromote) -> Answer:
        image = self._images[commands.cloud_of(publish)]
        number = version.number and version.number != version.version
        version_id = self._versions.get(commands.version_target(publish, version), "")
        command = commands.promote(publish, version, image, version_id if number else "")
        return read(Phase.PROMOTE, phase.call(command))

    def _retire(self, phase: PhaseRun, publish: Publish, datastore: str) -> Answer:
        return read(Phase.RETIRE, phase.call(commands.retire(publish, datastore)))

    def _upload_command(
        self, publish: Publish, *, candidate: bool | None = None
    ) -> commands.Command:
        assert self._view  # noqa: S101 - the gates have looked at it
        artifact = str(self._view.directory)
        return commands.upload(
            self._cell, publish, self._night.places, artifact, candidate=candidate
        )


def _goes_by(listed: Ended, tags: Sequence[str]) -> bool:
    """Whether a version that has an image goes by these tags."""
    every = (listed.document or {}).get("versions") or ()
    return any(v.get("taken") and set(v["image_tags"]) == set(tags) for v in every)


def _find(listed: Ended, version: VersionToPromote) -> dict[str, Any] | None:
    """The version that the file means, as `datastore create` finds it."""
    every = (listed.document or {}).get("versions") or ()
    same = [v for v in every if v["datastore"] == version.datastore]
    named = [v for v in same if v["name"] == version.version]
    if version.number:
        named = [v for v in named if v["number"] == version.number]
    return dict(named[0]) if named else None
