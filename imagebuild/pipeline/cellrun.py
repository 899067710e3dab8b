"""One cell from its first phase to its last.

A phase that fails holds the cell's later ones; of publishing, those of its own cloud alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagebuild.digest import of_file
from imagebuild.errors import ImagebuildError, Interrupted, VerifyError
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.pipeline import artifacts, commands, facts, gates, proof
from imagebuild.pipeline.answers import Answer, read
from imagebuild.pipeline.cells import ImageCell, MirrorCell, Phase
from imagebuild.pipeline.night import Night
from imagebuild.pipeline.outcome import GOOD, PhaseReport, Status
from imagebuild.pipeline.phaserun import PhaseRun
from imagebuild.pipeline.process import Stopped
from imagebuild.pipeline.publishing import Publishing, targets

NOT_ASKED = "not asked for"
INTERRUPTED = "the run was interrupted"


def run_mirror(night: Night, cell: MirrorCell) -> bool:
    """Sync a mirror list; whether all of it is there."""
    asked = night.asked.has(Phase.MIRROR)
    if not asked or night.children.stopping.is_set():
        status = Status.HELD if asked else Status.SKIPPED
        why = INTERRUPTED if asked else NOT_ASKED
        night.recorder.add(cell.id, PhaseReport(Phase.MIRROR, status, why=why))
        return not asked
    phase = night.phase(cell.id, Phase.MIRROR)

    def sync() -> Answer:
        return read(Phase.MIRROR, phase.call(commands.mirror(cell, night.places)))

    return perform(night, cell.id, phase, sync).status in GOOD


def perform(night: Night, cell_id: str, phase: PhaseRun, work: Callable[[], Answer]) -> PhaseReport:
    """Do what a phase is, and record its end, whatever that is."""
    try:
        report = phase.end(work())
    except Stopped:
        error = Interrupted(night.children.signum).to_json()
        report = phase.end(Answer(Status.INTERRUPTED, error=error))
    except Exception as exc:  # noqa: BLE001 - one cell's trouble is not the others'
        report = phase.failed(error_of(exc))
    night.recorder.add(cell_id, report)
    return report


def error_of(exc: BaseException) -> dict[str, Any]:
    """What went wrong, as an error document."""
    if isinstance(exc, ImagebuildError):
        return exc.to_json()
    if isinstance(exc, OSError):
        what = exc.strerror or str(exc) or type(exc).__name__
        return ImagebuildError(what, where=str(exc.filename or "")).to_json()
    return ImagebuildError(
        f"{type(exc).__name__}: {exc}", hint="this is a mistake in imagebuild: please report it"
    ).to_json()


class ImageRun:
    """An image cell. `held_by`: the mirror lists that failed and hold what is published."""

    def __init__(self, night: Night, cell: ImageCell, held_by: str = "") -> None:
        self._night = night
        self._cell = cell
        self._held = ""
        self._held_by = held_by
        self._view: ArtifactView | None = None
        self._was_built = False
        self._has_changed = False

    def run(self) -> None:
        """All phases that are asked for."""
        if self._night.children.stopping.is_set():
            self._held = INTERRUPTED
        elif self._night.asked.skip_unchanged and self._is_unchanged():
            return
        for phase, work in (
            (Phase.BUILD, self._build),
            (Phase.VERIFY, self._verify),
            (Phase.GATES, self._gates),
        ):
            self._one(phase, work)
        if not self._cell.publish:
            return
        if self._held_by and not self._held:
            self._held = f"{self._held_by} failed, and nothing is published then (gates.mirrors)"
        Publishing(self._night, self._cell, self._view, perform).run(self._held)

    def _one(self, phase: Phase, work: Callable[[PhaseRun], Answer]) -> None:
        night, cell_id = self._night, self._cell.id
        if not night.asked.has(phase):
            night.recorder.add(cell_id, PhaseReport(phase, Status.SKIPPED, why=NOT_ASKED))
            return
        if not self._held and night.children.stopping.is_set():
            self._held = INTERRUPTED
        if self._held:
            night.recorder.add(cell_id, PhaseReport(phase, Status.HELD, why=self._held))
            return
        run = night.phase(cell_id, phase)
        report = perform(night, cell_id, run, lambda: work(run))
        self._has_changed |= report.status is Status.PASSED
        if report.status is Status.INTERRUPTED:
            self._held = INTERRUPTED
        elif report.status not in GOOD:
            self._held = f"{phase.value} failed"

    # The phases

    def _build(self, phase: PhaseRun) -> Answer:
        night, cell = self._night, self._cell
        answer = read(Phase.BUILD, phase.call(commands.build(cell, night.places)))
        if answer.status in GOOD:
            artifact = Path(answer.result["artifact"])
            self._was_built = True
            self._take(open_artifact(artifact))
            build_id = str(answer.result["build_id"])
            artifacts.point(night.places.images, night.pipeline.name, cell.id, artifact, build_id)
        return answer

    def _verify(self, phase: PhaseRun) -> Answer:
        night, cell, view = self._night, self._cell, self._artifact()
        image = proof.subject(view, gates.formats(cell.publish))
        if image and not proof.lacks(
            view.verification, view, image, cell.verify, arch=str(cell.arch)
        ):
            # Who has built it has compared the digests.
            if self._was_built or of_file(image.path) == image.sha256:
                known = view.verification or {}
                result = {k: known.get(k) for k in ("verdict", "asked", "proven", "started")}
                why = f"verify.json says it of this very file, since {known.get('started')}"
                return Answer(Status.UNCHANGED, result, why=why)
            raise VerifyError(
                "the image is not what its manifest says", where=str(image.path),
                hint="copy the artifact anew, or build the image anew",
            )  # fmt: skip
        is_usual = image is None or image.format == "qcow2"
        path = str(view.directory if is_usual else image.path)  # type: ignore[union-attr]
        answer = read(Phase.VERIFY, phase.call(commands.verify(cell, night.places, path)))
        self._take(view)  # what was found is among the facts now
        return answer

    def _gates(self, phase: PhaseRun) -> Answer:  # noqa: ARG002 - as the others
        view = self._artifact()
        rulings = gates.rule(self._cell, view, self._night.earlier)
        result = {"gates": [r.to_json() for r in rulings]}
        if error := gates.error_of(rulings, view.name):
            return Answer(Status.FAILED, result, error.to_json())
        # Of an image that was there last night, the policy says what it said then.
        return Answer(Status.PASSED if self._has_changed else Status.UNCHANGED, result)

    # Around them

    def _artifact(self) -> ArtifactView:
        """The cell's artifact; see `engine` for which that is. Raises ConfigError."""
        night = self._night
        if self._view is None:
            found = artifacts.find(
                night.places.images, night.pipeline.name, self._cell.id, night.asked.artifact,
                night.earlier,
            )  # fmt: skip
            artifacts.check_fits(self._cell, found)
            self._take(found)
            return found
        return self._view

    def _take(self, view: ArtifactView) -> None:
        self._view = view
        known = {"build_id": view.build_id, "artifact": str(view.directory)}
        try:
            image = facts.facts_of(view.directory).to_json()
        except ImagebuildError as exc:
            self._night.recorder.note(f"{self._cell.id}: no facts of the image: {exc.what}")
            image = None
        self._night.recorder.describe(self._cell.id, **known, image=image)

    def _is_unchanged(self) -> bool:
        """Whether nothing is left to do; all phases are skipped then."""
        night, cell = self._night, self._cell
        images, pipeline = night.places.images, night.pipeline.name
        if not night.asked.has(Phase.BUILD) and artifacts.is_skipped(images, pipeline, cell.id):
            # Another machine may see a newer archive meanwhile: what the job of the build has
            # found counts.
            self._skip("nothing had changed when it was to be built")
            return True
        try:
            with night.looking:
                found = night.look.standing(cell)
        except Exception as exc:  # noqa: BLE001 - of services' libraries, too
            # What hinders looking is told by the phase that it hinders.
            what = error_of(exc)["what"]
            night.recorder.note(f"{cell.id}: it is not known whether it has changed: {what}")
            return False
        if not found.is_done:
            return False
        if night.asked.phases and night.asked.has(Phase.BUILD):
            place = images / found.name
            artifacts.point(images, pipeline, cell.id, place, found.build_id, is_skipped=True)
        if found.has_artifact:
            with contextlib.suppress(ImagebuildError):
                self._take(open_artifact(images / found.name))
        night.recorder.describe(cell.id, build_id=found.build_id)
        kept = "; ".join(found.rolled_back)
        why = f"nothing has changed: build {found.build_id[:8]} is "
        self._skip(why + ("published" if cell.publish else "proven"), kept)
        return True

    def _skip(self, why: str, kept: str = "") -> None:
        """All phases are skipped; `kept` is why versions have another image."""
        night, cell = self._night, self._cell
        slots = [(p, "") for p in (Phase.BUILD, Phase.VERIFY, Phase.GATES)]
        for phase, target in (*slots, *targets(cell)):
            if night.asked.has(phase):
                text = f"{why}; {kept}" if kept and phase is Phase.PROMOTE else why
                report = PhaseReport(phase, Status.SKIPPED, target=target, why=text)
            else:
                report = PhaseReport(phase, Status.SKIPPED, target=target, why=NOT_ASKED)
            night.recorder.add(cell.id, report)
