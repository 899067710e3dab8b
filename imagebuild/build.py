"""Plan → Artifact: one build from its first stage to its files in place."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import artifact, components, inventory, sbom
from imagebuild.agent import wheels
from imagebuild.claims import claim_directory, claim_file, sweep
from imagebuild.config.profile import Format
from imagebuild.errors import ImagebuildError, Interrupted, PreflightError, TemporaryError
from imagebuild.events import (
    Emit,
    Event,
    Note,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from imagebuild.host import scratch
from imagebuild.host.preflight import MACHINES
from imagebuild.host.run import network_env
from imagebuild.host.space import SpaceWatch
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs
from imagebuild.plan import Plan, StagePlan, content_of
from imagebuild.stages import base, devmode, formats, trees

#: Seconds that an interrupted build takes for tidying up. Who says ^C wants to go on.
PATIENCE = 3.0


@dataclass(frozen=True)
class Paths:
    """Where a build works (`cache`) and where its results go."""

    cache: Path
    artifact: Path
    places: tuple[Path, ...] = ()
    link: bool = True

    @property
    def scratch_root(self) -> Path:
        """Scratch directories of all builds; on the store's filesystem, for renames."""
        return self.cache / "scratch"

    @property
    def sources(self) -> Path:
        """Clones and downloaded distribution files of the agent; `resolve` uses it too."""
        return self.cache / "sources"

    @property
    def trees(self) -> Path:
        """Finished trees, by stage and id."""
        return self.cache / "trees"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    directory: Path
    manifest: Mapping[str, Any]


@dataclass
class _Build:
    """One build while it runs; its methods are the stages, in order."""

    plan: Plan
    inputs: Inputs
    paths: Paths
    emit: Emit
    worker: Worker
    scratch: Path
    locks: ExitStack
    deadline: float | None
    hooks: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def owner(self) -> list[int]:
        return [os.getuid(), os.getgid()]

    def entry(self, stage: str) -> Path:
        """The store's place for a stage's tree."""
        return self.paths.trees / f"{stage}-{self.plan.stage(stage).id[:32]}"

    def seconds(self, stage: str) -> float | None:
        """What is left for a stage: its own limit, and the build's."""
        own = self.inputs.profile.timeout.seconds(stage)
        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0.01)
        limits = [x for x in (own, left) if x is not None]
        return min(limits) if limits else None

    def until(self, stage: str) -> float | None:
        """The same as a `time.monotonic()`."""
        left = self.seconds(stage)
        return None if left is None else time.monotonic() + left

    def substitutions(self, stage: str) -> dict[str, str]:
        """Values of the placeholders in the stage's plan, and the entry it goes to."""
        return {
            "elements": ":".join(map(str, self.inputs.element_paths)),
            "scratch": str(self.scratch),
            "cache": str(self.paths.cache),
            "base_tree": str(self.entry("base") / "tree"),
            "entry": str(self.entry(stage)),
            "image": self.plan.link,
        }

    def tree(
        self, stage: str, prepare: Callable[[], None], content: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The tree of a stage: taken from the store, or composed now. Returns its description.

        The stage's lock is held to the end of the build: exclusively while the tree is
        made, so that a second build of the same waits and then finds it; shared afterwards,
        so that nobody removes it.
        """
        plan = self.plan.stage(stage)
        entry = self.entry(stage)
        path = self.paths.cache / "locks" / f"{entry.name}.lock"
        with _stage(self.emit, plan) as report:
            lock = self.lock(path, f"is making the same tree of the stage {stage}")
            report.reused = all((entry / n).exists() for n in trees.entry_files(content))
            if not report.reused:
                prepare()
                self.compose(plan, content)
            scratch.share(lock)
        meta: dict[str, Any] = json.loads((entry / "meta.json").read_text())
        self.hooks[stage] = [] if report.reused else meta["hooks"]
        return meta

    def lock(self, path: Path, what: str) -> int:
        """Hold a lock to the end of the build; says so when it has to wait for another."""
        try:
            return self.locks.enter_context(scratch.lock(path, wait=False))
        except TemporaryError:
            self.emit(Note(f"waiting for another build, which {what}"))
        return self.locks.enter_context(scratch.lock(path))

    def compose(self, plan: StagePlan, content: Mapping[str, Any] | None) -> None:
        self.worker.call(
            "compose",
            stage=plan.name,
            argv=list(plan.argv),
            environment=dict(plan.environment),
            elements=[(e.name, str(e.path)) for e in self.inputs.elements[plan.name]],
            paths=self.substitutions(plan.name),
            seconds=self.seconds(plan.name),
            content=content,
            owner=self.owner,
            epoch=self.inputs.epoch,
        )

    def make(self, whole: Path) -> dict[str, Any]:
        """Run all stages; the images go to the new directory `whole`. Returns the manifest."""
        self.base()
        described = self.agent()
        raw = self.disk()
        if self.inputs.dev:
            devmode.write_public(self.inputs.dev, self.inputs.profile, self.plan.name, whole)
        for name in (inventory.FILE_NAME, components.FILE_NAME):
            shutil.copyfile(self.entry("agent") / name, whole / name)
        images = self.formats(raw, whole)
        document = artifact.manifest(self.plan, self.inputs, described, images)
        made_of = components.read(whole / components.FILE_NAME)
        sbom.write(whole, document, made_of, self.inputs.epoch)
        return document

    def base(self) -> None:
        """Distribution, kernel, cloud-init, docker."""

        def prepare() -> None:
            base.write_inputs(self.inputs, self.scratch / "base-in", network_env())

        self.tree("base", prepare, None)

    def agent(self) -> dict[str, Any]:
        """The guest agent, on top of the base tree. Returns what `trees.compose` returned."""

        content = content_of(self.plan, self.inputs)

        dev_in = self.scratch / "dev-in"

        def prepare() -> None:
            if self.inputs.dev:
                # From here to the end it holds keys, the guest user's in the tree included,
                # whose uid is somebody's here, too.
                self.scratch.chmod(0o700)
                devmode.write_inputs(self.inputs.dev, self.inputs.profile, self.plan.name, dev_in)
            content["agent"] |= self.collect_wheels()

        described = self.tree("agent", prepare, content)
        shutil.rmtree(dev_in, ignore_errors=True)
        return described

    def collect_wheels(self) -> dict[str, Any]:
        """Fill the wheelhouse; what has no wheel is compiled by the worker."""

        def compile_sources(request: wheels.BuildRequest) -> list[Path]:
            if not (self.scratch / "base-in").exists():
                base.write_inputs(self.inputs, self.scratch / "base-in", network_env())
            answer = self.worker.call(
                "build_wheels",
                deadline=self.until("agent"),
                tree=str(self.entry("base") / "tree"),
                scratch_dir=str(self.scratch),
                request={
                    "sources": [str(s) for s in request.sources],
                    "tools": str(request.tools),
                    "out": str(request.out),
                    "needs_compiler": request.needs_compiler,
                    "environment": dict(request.environment),
                },
                network={"apt_dir": str(self.scratch / "base-in/apt")},
                owner=self.owner,
            )
            return [Path(w) for w in answer["wheels"]]

        with _step(self.emit, "agent", "wheels", "download"):
            house = wheels.collect(
                self.inputs.agent,
                MACHINES[self.inputs.arch],
                self.scratch / "agent-in",
                cache=self.paths.sources,
                env=network_env(),
                offline=False,
                build=compile_sources,
            )
        return {
            "wheel_sha256": house.agent_sha256,
            "wheels": dict(house.sha256),
            "compiled": [dataclasses.asdict(c) for c in house.compiled],
        }

    def disk(self) -> Path:
        """Assemble the raw disk in scratch."""
        plan = self.plan.stage("disk")
        raw = self.scratch / "disk.raw"
        with _stage(self.emit, plan):
            self.worker.call(
                "make_disk",
                deadline=self.until("disk"),
                tree=str(self.entry("agent") / "tree"),
                raw=str(raw),
                spec={
                    "size": plan.inputs["size"],
                    "label": plan.inputs["label"],
                    "arch": self.inputs.arch,
                    "epoch": plan.inputs["epoch"],
                    # Not the stage's id: the same tree gives the same disk.
                    "seed": self.plan.stage("agent").id,
                },
                scratch_dir=str(self.scratch),
                owner=self.owner,
            )
        return raw

    def formats(self, raw: Path, whole: Path) -> list[Path]:
        """Convert the disk into the wanted formats, in the directory that becomes the artifact."""
        profile = self.inputs.profile
        wanted = sorted(profile.formats, key=lambda f: f is Format.RAW)
        images = []
        with _stage(self.emit, self.plan.stage("formats")):
            for fmt in wanted:
                image = whole / f"{self.plan.name}.{fmt}"
                with _step(self.emit, "formats", "convert", str(fmt)):
                    # The raw disk itself, last, when a rename can bring it there.
                    if fmt is not Format.RAW or not _renamed(raw, image):
                        formats.convert(
                            raw,
                            image,
                            fmt,
                            profile.compression,
                            threads=os.cpu_count() or 1,
                            seed=self.plan.stage("disk").id,
                            epoch=self.inputs.epoch,
                            timeout=self.seconds("formats"),
                        )
                if self.inputs.holds_secrets:
                    image.chmod(0o600)
                images.append(image)
        return images


def build(
    plan: Plan,
    inputs: Inputs,
    paths: Paths,
    emit: Emit,
    log: Path | None = None,
    *,
    wait: bool = False,
) -> Artifact:
    """Run a plan and place the artifact.

    `log` is the build's log so far: a copy goes into the artifact. When another build is
    writing one of the outputs, this one waits for it with `wait`, else TemporaryError.
    Raises what the stages raise, and PreflightError when a disk is full; nothing is left
    at the outputs' places then.
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
    watch = SpaceWatch(
        [paths.cache, paths.artifact.parent, *(p.parent for p in paths.places)], _users(paths)
    )
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
            document = _make(plan, inputs, paths, emit, log, whole)
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
    return Artifact(paths.artifact, document)


def _waiter(emit: Emit, wait: bool, output: Path) -> Callable[[], None] | None:
    if not wait:
        return None
    return lambda: emit(Note(f"waiting for another build that is writing {output}"))


def _users(paths: Paths) -> dict[str, Path]:
    """What takes the space, by the names that an error uses."""
    cache = paths.cache
    return {
        f"scratch space of builds ({paths.scratch_root})": paths.scratch_root,
        f"finished trees ({paths.trees})": paths.trees,
        f"downloads ({paths.sources})": paths.sources,
        f"diskimage-builder's packages ({cache / 'dib'})": cache / "dib",
        f"images ({paths.artifact.parent})": paths.artifact.parent,
    }


def _make(
    plan: Plan, inputs: Inputs, paths: Paths, emit: Emit, log: Path | None, whole: Path
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
        run = _Build(plan, inputs, paths, recorder, worker, directory, locks, deadline)
        patience = None
        try:
            document = run.make(whole)
            timing = {
                "started": started,
                "seconds": round(time.time() - started, 2),
                **recorder.timing(),
                "hooks": run.hooks,
            }
            artifact.write_description(whole, document, timing)
            if log:
                shutil.copyfile(log, whole / "build.log")
            artifact.place(whole, paths.artifact)
        except BaseException as exc:
            if not isinstance(exc, ImagebuildError) or isinstance(exc, Interrupted):
                worker.stop()  # it may be in the middle of a task
                patience = PATIENCE
            raise
        finally:
            _tidy(directory, run, patience)
    return document


def _renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise
    return True


def _tidy(directory: Path, run: _Build, seconds: float | None) -> None:
    """Remove this build's scratch, and the trees that its own replace, for so long at most."""
    paths = run.paths
    with ExitStack() as held:
        old = [directory]
        for stage in ("base", "agent"):
            keep = run.entry(stage)
            if keep.exists():
                old += _superseded(paths, stage, keep, run.plan.link, held)
        worker = run.worker
        try:
            if not worker.is_running:
                worker = held.enter_context(Worker(run.emit, may_ask=False))
            deadline = None if seconds is None else time.monotonic() + seconds
            worker.call("remove", deadline=deadline, paths=[str(p) for p in old])
        except ImagebuildError:
            return  # no root any more, or no time: the next build sweeps the scratch
        (paths.scratch_root / f"{directory.name}.lock").unlink(missing_ok=True)


def _superseded(paths: Paths, stage: str, keep: Path, link: str, held: ExitStack) -> list[Path]:
    """Older trees of the same image and stage that no build is using; their locks go to `held`."""
    found = []
    for meta in paths.trees.glob(f"{stage}-*/meta.json"):
        entry = meta.parent
        if entry == keep or json.loads(meta.read_text())["image"] != link:
            continue
        try:
            held.enter_context(
                scratch.lock(paths.cache / "locks" / f"{entry.name}.lock", wait=False)
            )
        except TemporaryError:
            continue
        found.append(entry)
    return found


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


@dataclass
class _StageReport:
    reused: bool = False


@contextmanager
def _stage(emit: Emit, plan: StagePlan) -> Iterator[_StageReport]:
    report = _StageReport()
    emit(StageStarted(plan.name, plan.id))
    started = time.monotonic()
    yield report
    emit(StageFinished(plan.name, round(time.monotonic() - started, 2), report.reused))


@contextmanager
def _step(emit: Emit, stage: str, phase: str, name: str) -> Iterator[None]:
    emit(StepStarted(stage, phase, name))
    started = time.monotonic()
    yield
    emit(StepFinished(stage, phase, name, round(time.monotonic() - started, 2)))
