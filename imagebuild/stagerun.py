"""One build while it runs: its stages, in order.

What is around them (who may write where, what is left, what is placed) is in `build.py`.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild import artifact, components, inventory, preload, sbom
from imagebuild.agent import wheels
from imagebuild.agent.locks import AGENT
from imagebuild.config.words import Format
from imagebuild.errors import PreflightError
from imagebuild.events import (
    Emit,
    Event,
    Note,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from imagebuild.host.background import start
from imagebuild.host.preflight import MACHINES
from imagebuild.host.run import network_env, run, sparse_copy_argv
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs
from imagebuild.plan import ENVIRONMENT, Plan, StagePlan, content_of
from imagebuild.preload import PreloadImage
from imagebuild.stages import base, devmode, formats, qcow2patch
from imagebuild.store.store import Held, Key, Kind, Object, Store, Stores

#: Names of the disk in the store's objects.
_RAW, _QCOW2 = "disk.raw", "disk.qcow2"

_Maker = Callable[[StagePlan, Sequence[StagePlan], Path], Mapping[str, Any]]


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
    def containers(self) -> Path:
        """Fetched container images, as an OCI image layout."""
        return self.cache / "containers"


@dataclass
class StageRun:
    """One build while it runs; its methods are the stages, in order.

    `locks` holds what is held to the end of the build; `deadline` is a `time.monotonic()`.
    """

    plan: Plan
    inputs: Inputs
    paths: Paths
    stores: Stores
    emit: Emit
    worker: Worker
    scratch: Path
    locks: ExitStack
    deadline: float | None
    hooks: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    held: dict[Key, tuple[Store, Held]] = field(default_factory=dict)

    @property
    def base_in(self) -> Path:
        """What the elements of the base are pointed to; apt's settings also serve compilers."""
        return self.scratch / "base-in"

    @property
    def wheelhouse(self) -> Path:
        """The wheels to install, and pip."""
        return self.scratch / "agent-in"

    @property
    def content(self) -> Path:
        """The last layer, and what describes the whole filesystem."""
        return self.scratch / "content"

    @property
    def owner(self) -> list[int]:
        return [os.getuid(), os.getgid()]

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

    def call(self, stage: str, task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Let the worker do a task within the stage's limit."""
        return self.worker.call(task, deadline=self.until(stage), limit_of=stage, **arguments)

    def make(self, whole: Path) -> dict[str, Any]:
        """Run all stages; the images go to the new directory `whole`. Returns the manifest."""
        if done := self.restore(whole):
            return done
        self.base()
        with self.aside() as other:
            ahead = start(other.disks_ahead)
            self.agent()
            self.containers()
            ahead.result()
            described = start(other.describe)
            raw = self.disk(described.result)
            if self.inputs.dev:
                devmode.write_public(self.inputs.dev, self.inputs.profile, self.plan.name, whole)
            boms = start(self.write_boms, described.result(), whole)
            images = self.formats(raw, whole)
            boms.result()
        document = artifact.manifest(self.plan, self.inputs, described.result(), images)
        artifact.write_description(whole, document)
        self.keep(whole)
        return document

    @contextmanager
    def aside(self) -> Iterator[StageRun]:
        """The same build with a worker of its own, for what is done at the same time; it tells
        nothing but notes.
        """

        def notes(event: Event) -> None:
            if isinstance(event, Note):
                self.emit(event)

        with Worker(notes, may_ask=False) as worker:
            yield dataclasses.replace(self, worker=worker, emit=notes)

    # What the store has of earlier builds, and gets of this one.

    def find(self, plan: StagePlan, kind: Kind, *, secret: bool = False) -> Object | None:
        """The object of a stage or part, whole; None: it is to be made, and nobody else does.

        Its name is held to the end of the build: others wait until it is made, and nobody
        removes it afterwards.
        """
        store = self.stores.of(secret=secret or self.inputs.registry_secrets)
        key = Key(kind, plan.id)

        def wait() -> None:
            self.emit(Note(f"waiting for another build, which is making the same {kind}"))

        held = self.locks.enter_context(store.hold(key, wait))
        self.held[key] = (store, held)
        found = store.take(held, self.worker.call, self.emit)
        if found:
            held.share()
            self.objects[plan.id] = found
        return found

    def obtain(
        self,
        plan: StagePlan,
        kind: Kind,
        make: Callable[[Path], Mapping[str, Any]],
        *,
        secret: bool = False,
    ) -> bool:
        """See that the store has the object of a stage or part; whether it had it already.

        `make` writes its files into a new directory and returns its facts.
        """
        if plan.id in self.objects or self.find(plan, kind, secret=secret):
            return True
        draft = self.draft(kind)
        self.put(plan, kind, draft, make(draft))
        return False

    def draft(self, kind: Kind) -> Path:
        """A new directory for the files of an object."""
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.scratch))

    def put(self, plan: StagePlan, kind: Kind, draft: Path, facts: Mapping[str, Any]) -> None:
        """Turn a directory into the object whose name `find` holds."""
        store, held = self.held[Key(kind, plan.id)]
        self.objects[plan.id] = store.seal(
            held,
            self.worker.call,
            draft,
            image=self.plan.link,
            inputs=plan.own,
            facts=facts,
        )
        held.share()

    def path(self, plan: StagePlan) -> str:
        """Where the object of a stage or part is."""
        return str(self.objects[plan.id].path)

    def facts(self, plan: StagePlan) -> Mapping[str, Any]:
        """What its maker had to say of an object."""
        return self.objects[plan.id].facts

    # The stages.

    def base(self) -> None:
        """Distribution, kernel, cloud-init, docker."""
        plan = self.plan.stage("base")

        def make(draft: Path) -> dict[str, Any]:
            self.require_network("base")
            base.write_inputs(self.inputs, self.base_in, network_env())
            return {"hooks": self.compose(plan, "base", None, draft)}

        with _stage(self.emit, plan) as report:
            report.reused = self.obtain(plan, Kind.BASE, make)
        self.hooks["base"] = [] if report.reused else self.facts(plan)["hooks"]

    def compose(
        self, plan: StagePlan, run_name: str, below: Sequence[StagePlan] | None, draft: Path
    ) -> list[Any]:
        """Let DIB make the base or a layer of the agent; returns its hooks with their times."""
        stage = "base" if below is None else "agent"
        answer = self.call(
            stage,
            "compose",
            name=stage,
            argv=list(plan.argv),
            environment=dict(plan.environment),
            elements=[(e.name, str(e.path)) for e in self.inputs.elements[run_name]],
            paths={
                "elements": ":".join(map(str, self.inputs.element_paths)),
                "scratch": str(self.scratch),
                "cache": str(self.paths.cache),
            },
            below=None if below is None else [self.path(p) for p in below],
            draft=str(draft),
            seconds=self.seconds(stage),
            epoch=self.inputs.epoch,
        )
        hooks: list[Any] = answer["hooks"]
        return hooks

    def agent(self) -> None:
        """The guest agent: environment, code, and what comes on top."""
        base_plan, plan = self.plan.stage("base"), self.plan.stage("agent")
        below = [base_plan]
        makers: dict[str, tuple[Kind, _Maker]] = {
            ENVIRONMENT: (Kind.ENVIRONMENT, self.make_environment),
            "code": (Kind.AGENT, self.make_code),
            "elements": (Kind.ELEMENTS, self.make_elements),
        }
        with _stage(self.emit, plan) as report:
            reused = []
            for part in plan.parts:
                kind, maker = makers[part.name]
                secret = part.name == "elements" and self.inputs.dev is not None
                make = functools.partial(maker, part, tuple(below))
                reused.append(self.obtain(part, kind, make, secret=secret))
                below.append(part)
            report.reused = all(reused)
        self.hooks["agent"] = [
            h
            for p, had in zip(plan.parts, reused, strict=True)
            if not had
            for h in self.facts(p).get("hooks", [])
        ]

    def make_environment(
        self, plan: StagePlan, below: Sequence[StagePlan], draft: Path
    ) -> dict[str, Any]:
        """The venv with what the lock pins, the units, the directories."""
        house = self.collect_wheels(below, environment=True)
        hooks = self.compose(plan, "environment", below, draft)
        return {
            "hooks": hooks,
            "wheels": dict(house.sha256),
            "versions": dict(house.versions),
            "compiled": [dataclasses.asdict(c) for c in house.compiled],
        }

    def make_code(
        self,
        plan: StagePlan,  # noqa: ARG002 - as the other makers
        below: Sequence[StagePlan],
        draft: Path,
    ) -> dict[str, Any]:
        """The agent's own wheel."""
        house = self.collect_wheels(below, environment=False)
        versions = self.facts(below[-1])["versions"]
        arch = MACHINES[self.inputs.arch]
        wheels.check_requirements(house, versions, self.inputs.agent.python, arch)
        self.call(
            "agent",
            "install_code",
            below=[self.path(p) for p in below],
            wheel=str(next(house.path.glob(f"{AGENT}-*.whl"))),
            sha256=house.agent_sha256,
            draft=str(draft),
            scratch_dir=str(self.scratch),
            epoch=self.inputs.epoch,
            seconds=self.seconds("agent"),
        )
        return {"wheels": dict(house.sha256)}

    def make_elements(
        self, plan: StagePlan, below: Sequence[StagePlan], draft: Path
    ) -> dict[str, Any]:
        """What a dev image has of its own, and the profile's own elements."""
        dev_in = self.scratch / "dev-in"
        if self.inputs.dev:
            # From here to the end it holds keys, the guest user's in the tree included,
            # whose uid is somebody's here, too.
            self.scratch.chmod(0o700)
            devmode.write_inputs(self.inputs.dev, self.inputs.profile, self.plan.name, dev_in)
        try:
            return {"hooks": self.compose(plan, "late", below, draft)}
        finally:
            shutil.rmtree(dev_in, ignore_errors=True)

    def collect_wheels(self, below: Sequence[StagePlan], *, environment: bool) -> wheels.Wheelhouse:
        """Fill the wheelhouse with the environment's wheels, or with the agent's own; what has
        no wheel is compiled by the worker.
        """

        def compile_sources(request: wheels.BuildRequest) -> list[Path]:
            if request.needs_compiler:
                self.require_network("agent")
            if not self.base_in.exists():
                base.write_inputs(self.inputs, self.base_in, network_env())
            answer = self.call(
                "agent",
                "build_wheels",
                below=[self.path(below[0])],
                scratch_dir=str(self.scratch),
                request={
                    "sources": [str(s) for s in request.sources],
                    "tools": str(request.tools),
                    "out": str(request.out),
                    "needs_compiler": request.needs_compiler,
                    "environment": dict(request.environment),
                },
                network={"apt_dir": str(self.base_in / "apt")},
                owner=self.owner,
            )
            return [Path(w) for w in answer["wheels"]]

        shutil.rmtree(self.wheelhouse, ignore_errors=True)
        with _step(self.emit, "agent", "wheels", "download"):
            return wheels.collect(
                self.inputs.agent,
                MACHINES[self.inputs.arch],
                self.wheelhouse,
                cache=self.paths.sources,
                env=network_env(),
                offline=self.inputs.offline,
                build=compile_sources,
                environment=environment,
                code=not environment,
            )

    def containers(self) -> None:
        """The preloaded containers, each in docker's store with those before it."""
        if not self.plan.containers:
            return
        below = [self.plan.stage("base")]
        with _stage(self.emit, self.plan.stage("containers")) as report:
            reused = []
            for part, image in zip(self.plan.containers, self.inputs.preload, strict=True):
                make = functools.partial(self.make_container, image, tuple(below))
                reused.append(self.obtain(part, Kind.CONTAINER, make))
                below.append(part)
            report.reused = all(reused)

    def make_container(
        self, image: PreloadImage, below: Sequence[StagePlan], draft: Path
    ) -> dict[str, Any]:
        """Fetch a container, and let the image's own docker load it."""
        layout = preload.layout(self.paths.containers)
        with _step(self.emit, "containers", "pull", image.target):
            pulled = preload.fetch(image, self.inputs, layout)
        with _step(self.emit, "containers", "load", image.target):
            report = self.call(
                "containers",
                "load_container",
                below=[self.path(p) for p in below],
                image=preload.local_image(image, pulled, layout).to_json(),
                draft=str(draft),
                scratch_dir=str(self.scratch),
                seconds=self.seconds("containers"),
                epoch=self.inputs.epoch,
            )
        return {**report, "made_of": preload.describe(image, pulled).to_json()}

    def describe(self) -> dict[str, Any]:
        """Complete what is known of the content; its layer and lists go to `self.content`."""
        base_plan, agent = self.plan.stage("base"), self.plan.stage("agent")
        content = content_of(self.plan, self.inputs)
        installed = {n: h for p in agent.parts for n, h in self.facts(p).get("wheels", {}).items()}
        content["agent"] |= {
            "wheel_sha256": installed[AGENT],
            "wheels": dict(sorted(installed.items())),
            "compiled": self.facts(agent.part(ENVIRONMENT))["compiled"],
        }
        return self.worker.call(
            "describe",
            system=[self.path(p) for p in (base_plan, *agent.parts)],
            containers=[self.path(p) for p in (base_plan, *self.plan.containers)],
            content=content,
            made_of=[self.facts(p)["made_of"] for p in self.plan.containers],
            draft=str(self.content),
            owner=self.owner,
            epoch=self.inputs.epoch,
        )

    def write_boms(self, described: Mapping[str, Any], whole: Path) -> None:
        """What describes the filesystem, beside the images."""
        for name in (inventory.FILE_NAME, components.FILE_NAME):
            shutil.copyfile(self.content / name, whole / name)
        document = artifact.manifest(self.plan, self.inputs, described, [])
        sbom.write(
            whole, document, components.read(whole / components.FILE_NAME), self.inputs.epoch
        )

    @property
    def spec(self) -> dict[str, Any]:
        """The disk, as disk.DiskSpec has it. Its ids are the same for all images of a base."""
        plan = self.plan.stage("disk").part("base-disk")
        return {
            "size": plan.inputs["size"],
            "label": plan.inputs["label"],
            "arch": self.inputs.arch,
            "epoch": plan.inputs["epoch"],
            "seed": plan.id,
        }

    @property
    def raw(self) -> Path:
        """The disk of this image."""
        return self.scratch / "disk.raw"

    def disks_ahead(self) -> None:
        """What of disk and formats needs no more than the base, or is in the store."""
        disk, formats_plan = self.plan.stage("disk"), self.plan.stage("formats")
        has_trunk = self.find(disk.part("trunk"), Kind.TRUNK)
        if has_trunk:
            self.copy_disk(disk.part("trunk"), self.raw)
        else:
            self.obtain(disk.part("base-disk"), Kind.TRUNK, self.make_base_disk)
        if not formats_plan.parts:
            return
        if not self.find(formats_plan.part("qcow2"), Kind.QCOW2):
            self.obtain(disk.part("base-disk"), Kind.TRUNK, self.make_base_disk)
            self.obtain(formats_plan.part("base-qcow2"), Kind.QCOW2, self.make_base_qcow2)

    def make_base_disk(self, draft: Path) -> dict[str, Any]:
        """The disk of the base alone."""
        return self.call(
            "disk",
            "make_disk",
            base=self.path(self.plan.stage("base")),
            raw=str(draft / _RAW),
            spec=self.spec,
            scratch_dir=str(self.scratch),
            owner=self.owner,
        )

    def make_base_qcow2(self, draft: Path) -> dict[str, Any]:
        """The same disk as qcow2."""
        source = self.objects[self.plan.stage("disk").part("base-disk").id].path / _RAW
        self.convert(source, draft / _QCOW2, Format.QCOW2)
        return {}

    def make_trunk(self, draft: Path) -> dict[str, Any]:
        """The base's disk with containers and the agent's environment."""
        raw = draft / _RAW
        self.copy_disk(self.plan.stage("disk").part("base-disk"), raw)
        layers = [*self.plan.containers, self.plan.stage("agent").part(ENVIRONMENT)]
        self.add_layers([self.path(p) for p in layers], raw)
        return {}

    def copy_disk(self, plan: StagePlan, raw: Path) -> None:
        """Copy a disk of the store, to be changed."""
        with _step(self.emit, "disk", "copy", plan.name):
            run(
                sparse_copy_argv(self.objects[plan.id].path / _RAW, raw),
                what="cannot copy the disk",
                timeout=self.seconds("disk"),
            )

    def add_layers(self, layers: Sequence[str], raw: Path) -> None:
        """Add layers to a disk."""
        self.call(
            "disk", "add_layers",
            layers=list(layers), raw=str(raw), spec=self.spec, scratch_dir=str(self.scratch),
        )  # fmt: skip

    def disk(self, described: Callable[[], object]) -> Path:
        """Assemble the raw disk in scratch: the trunk, and what this agent adds to it.

        `described` waits until the last layer is there.
        """
        plan, agent = self.plan.stage("disk"), self.plan.stage("agent")
        trunk = plan.part("trunk")
        with _stage(self.emit, plan):
            if trunk.id not in self.objects:
                draft = self.draft(Kind.TRUNK)
                self.put(trunk, Kind.TRUNK, draft, self.make_trunk(draft))
            if not self.raw.exists():
                self.copy_disk(trunk, self.raw)
            self.add_layers([self.path(p) for p in agent.parts if p.name != ENVIRONMENT], self.raw)
            described()
            self.add_layers([str(self.content)], self.raw)
        return self.raw

    def formats(self, raw: Path, whole: Path) -> list[Path]:
        """Convert the disk into the wanted formats, in the directory that becomes the artifact."""
        profile = self.inputs.profile
        wanted = sorted(profile.formats, key=lambda f: f is Format.RAW)
        images = []
        with _stage(self.emit, self.plan.stage("formats")):
            for fmt in wanted:
                image = whole / f"{self.plan.name}.{fmt}"
                if fmt is Format.QCOW2:
                    self.qcow2(raw, image)
                    images.append(image)
                    continue
                with _step(self.emit, "formats", "convert", str(fmt)):
                    # The raw disk itself, last, when a rename can bring it there.
                    if fmt is not Format.RAW or not _renamed(raw, image):
                        self.convert(raw, image, fmt)
                images.append(image)
            if self.inputs.holds_secrets:
                for image in images:
                    image.chmod(0o600)
        return images

    def qcow2(self, raw: Path, image: Path) -> None:
        """The qcow2 of the trunk, with the clusters that this agent's disk has of its own."""
        disks, packed = self.plan.stage("disk"), self.plan.stage("formats")
        plan = packed.part("qcow2")
        if plan.id not in self.objects:
            draft = self.draft(Kind.QCOW2)
            with _step(self.emit, "formats", "convert", "trunk"):
                self.patch(
                    packed.part("base-qcow2"),
                    disks.part("base-disk"),
                    self.objects[disks.part("trunk").id].path / _RAW,
                    draft / _QCOW2,
                )
            self.put(plan, Kind.QCOW2, draft, {})
        with _step(self.emit, "formats", "convert", "qcow2"):
            self.patch(plan, disks.part("trunk"), raw, image)

    def patch(self, packed: StagePlan, before: StagePlan, after: Path, out: Path) -> None:
        """Make a qcow2 of `after` from that of another disk."""
        qcow2patch.patch(
            self.objects[packed.id].path / _QCOW2,
            self.objects[before.id].path / _RAW,
            after,
            out,
            self.inputs.profile.compression,
            threads=os.cpu_count() or 1,
            work=self.scratch,
            timeout=self.seconds("formats"),
        )

    def convert(self, raw: Path, image: Path, fmt: Format) -> None:
        """Convert a whole disk."""
        formats.convert(
            raw,
            image,
            fmt,
            self.inputs.profile.compression,
            threads=os.cpu_count() or 1,
            seed=self.plan.stage("disk").id,
            epoch=self.inputs.epoch,
            timeout=self.seconds("formats"),
        )

    # The finished artifact.

    def restore(self, whole: Path) -> dict[str, Any] | None:
        """Bring the images of an earlier build of the same back; its manifest, None without one."""
        plan = self.plan.stage("formats")
        if self.inputs.dev:
            return None  # its keys are its own: no second build is the same
        started = time.monotonic()
        found = self.find(plan, Kind.FORMATS)
        if found is None:
            return None
        self.emit(StageStarted(plan.name, plan.id))
        for name in found.payload:
            run(sparse_copy_argv(found.path / name, whole / name), what="cannot copy the image")
        document: dict[str, Any] = json.loads((whole / artifact.MANIFEST).read_text())
        self.emit(StageFinished(plan.name, round(time.monotonic() - started, 2), reused=True))
        return document

    def keep(self, whole: Path) -> None:
        """Put a copy of the finished artifact into the store."""
        plan = self.plan.stage("formats")
        if self.inputs.dev:
            return
        draft = self.draft(Kind.FORMATS)
        with _step(self.emit, "formats", "store", "copy"):
            for path in sorted(whole.iterdir()):
                run(sparse_copy_argv(path, draft / path.name), what="cannot copy the image")
            self.put(plan, Kind.FORMATS, draft, {})

    def require_network(self, stage: str) -> None:
        """Stop where a stage would have to be made that needs more than is here."""
        if self.inputs.offline:
            raise PreflightError(
                f"the stage {stage} is not in the store, and making it needs the network",
                where=f"stage {stage} {self.plan.stage(stage).id[:16]}",
                hint="run the same command once without --offline",
            )


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
