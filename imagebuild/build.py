"""Plan → Artifact: one build from its first stage to its files in place."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import artifact
from imagebuild.claims import claim_directory, claim_file, sweep
from imagebuild.errors import ImagebuildError, Interrupted, PreflightError, TemporaryError
from imagebuild.events import Emit, Event, Note, StageFinished
from imagebuild.host import scratch
from imagebuild.host.space import SpaceWatch
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs
from imagebuild.plan import Plan
from imagebuild.stagerun import Paths, StageRun, Workspace
from imagebuild.store.pruning import prune
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import Sharing
from imagebuild.store.store import Stores, open_stores

__all__ = ["Artifact", "Paths", "build"]

#: Seconds that an interrupted build takes for tidying up. Who says ^C wants to go on.
PATIENCE = 3.0


@dataclass(frozen=True)
class Artifact:
    """A finished artifact; `unchanged` when it was in place already, and nothing was done."""

    directory: Path
    manifest: Mapping[str, Any]
    unchanged: bool = False


def build(
    plan: Plan,
    inputs: Inputs,
    paths: Paths,
    emit: Emit,
    log: Path | None = None,
    *,
    stores: Stores | None = None,
    remote: RemoteAddress | None = None,
    wait: bool = False,
) -> Artifact:
    """Run a plan and place the artifact.

    An artifact of the same build that is in place, whole, is left as it is. `stores` keep
    what stages make (default: one in the cache); through `remote` it is shared with other
    machines, unless the build is offline. `log` is the build's log so far: a copy goes into
    the artifact. When another build is writing one of the outputs, this one waits for it with
    `wait`, else TemporaryError. Raises what the stages raise, and PreflightError when a disk
    is full; nothing is left at the outputs' places then.
    """
    if plan.provisional:
        raise PreflightError(
            "the plan is provisional and cannot be run",
            detail="not resolved: " + "; ".join(plan.unresolved),
            hint="run without --offline",
        )
    artifact.check_target(paths.artifact)
    for target in paths.places:
        artifact.check_writable(target.parent)
    stores = stores or open_stores(paths.cache)
    places = [paths.cache, paths.artifact.parent, *(p.parent for p in paths.places)]
    watch = SpaceWatch(places, _users(paths, stores))
    with ExitStack() as claims, watch:
        sweep(paths.artifact.parent, "trove-guest-*")
        try:
            whole = claims.enter_context(
                claim_directory(paths.artifact, on_wait=_waiter(emit, wait, paths.artifact))
            )
            partials = {
                target: claims.enter_context(
                    claim_file(target, on_wait=_waiter(emit, wait, target))
                )
                for target in sorted(set(paths.places))
            }
            document = artifact.standing(paths.artifact, plan.build_id)
            unchanged = document is not None
            if document is None:
                document = _make(plan, inputs, paths, stores, remote, emit, log, whole)
            for target, partial in partials.items():
                image = paths.artifact / f"{plan.name}{target.suffix}"
                artifact.place_file(image, partial, target)
        except (ImagebuildError, OSError) as exc:
            if isinstance(exc, Interrupted | TemporaryError):
                raise
            full = watch.explain(exc)
            if full:
                raise full from exc
            raise
    if paths.link:
        artifact.link_newest(paths.artifact, plan.link)
    return Artifact(paths.artifact, document, unchanged)


def _waiter(emit: Emit, wait: bool, output: Path) -> Callable[[], None] | None:
    if not wait:
        return None
    return lambda: emit(Note(f"waiting for another build that is writing {output}"))


def _users(paths: Paths, stores: Stores) -> dict[str, Path]:
    """What takes the space, by the names that an error uses."""
    cache = paths.cache
    return {
        f"scratch space of builds ({paths.scratch_root})": paths.scratch_root,
        f"finished stages ({stores.own.root})": stores.own.root,
        f"downloads ({paths.sources})": paths.sources,
        f"diskimage-builder's packages ({cache / 'dib'})": cache / "dib",
        f"images ({paths.artifact.parent})": paths.artifact.parent,
    }


def _make(
    plan: Plan,
    inputs: Inputs,
    paths: Paths,
    stores: Stores,
    remote: RemoteAddress | None,
    emit: Emit,
    log: Path | None,
    whole: Path,
) -> dict[str, Any]:
    """Run all stages with a worker and scratch space, and place the artifact."""
    started = time.time()
    limit = inputs.profile.timeout.seconds("build")
    deadline = None if limit is None else time.monotonic() + limit
    recorder = _Recorder(emit)
    with ExitStack() as locks:
        directory = locks.enter_context(scratch.directory(paths.scratch_root, plan.name))
        worker = locks.enter_context(Worker(recorder))
        worker.call("sweep", root=str(paths.scratch_root))
        sharing = None
        if remote and not inputs.offline:
            sharing = Sharing(remote, directory, recorder, deadline)
        ws = Workspace(
            plan, inputs, paths, stores, recorder, worker, directory, locks, deadline, sharing
        )
        run = StageRun(ws)
        patience = None
        try:
            document = run.make(whole)
            timing = {
                "started": started,
                "seconds": round(time.time() - started, 2),
                **recorder.timing(),
                "hooks": run.layers.hooks,
            }
            artifact.write_json(whole / "timing.json", timing)
            if log:
                shutil.copyfile(log, whole / "build.log")
            artifact.place(whole, paths.artifact)
            if sharing:
                sharing.finish()
            for store in stores.all:
                prune(store, worker.call, limit=store.limit)
        except BaseException as exc:
            if not isinstance(exc, ImagebuildError) or isinstance(exc, Interrupted):
                worker.stop()  # it may be in the middle of a task
                patience = PATIENCE
            elif sharing:
                sharing.finish()  # what could be made, others need not make
            raise
        finally:
            if sharing:
                sharing.close()
            _tidy(directory, ws, patience)
    return document


def _tidy(directory: Path, ws: Workspace, seconds: float | None) -> None:
    """Remove this build's scratch, for so long at most."""
    with ExitStack() as held:
        worker = ws.worker
        try:
            if not worker.is_running:
                worker = held.enter_context(Worker(ws.emit, may_ask=False))
            deadline = None if seconds is None else time.monotonic() + seconds
            worker.call("remove", deadline=deadline, paths=[str(directory)])
        except ImagebuildError:
            return  # no root any more, or no time: the next build sweeps the scratch
        (ws.paths.scratch_root / f"{directory.name}.lock").unlink(missing_ok=True)


class _Recorder:
    """Passes events on and keeps the times of the stages."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._stages: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageFinished):
            self._stages.append(
                {"stage": event.stage, "seconds": event.seconds, "reused": event.reused}
            )
        self._emit(event)

    def timing(self) -> dict[str, Any]:
        return {"stages": self._stages}
