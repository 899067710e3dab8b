"""One build while it runs: its stages, in order.

What is around them (who may write where, what is left, what is placed) is in `build.py`.
"""

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
from imagebuild.config.words import Format
from imagebuild.errors import TemporaryError
from imagebuild.events import Emit, Note, StageFinished, StageStarted, StepFinished, StepStarted
from imagebuild.host import scratch
from imagebuild.host.preflight import MACHINES
from imagebuild.host.run import network_env
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs
from imagebuild.plan import Plan, StagePlan, content_of
from imagebuild.stages import base, devmode, formats, trees


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


@dataclass
class StageRun:
    """One build while it runs; its methods are the stages, in order.

    `locks` holds what is held to the end of the build; `deadline` is a `time.monotonic()`.
    """

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
                limit_of="agent",
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
                limit_of="disk",
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


def _renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise
    return True


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
