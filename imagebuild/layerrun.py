"""The stages that make the root filesystem: base, agent, containers, and what they come to."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild import preload
from imagebuild.agent import wheels
from imagebuild.agent.locks import AGENT
from imagebuild.host.preflight import MACHINES
from imagebuild.host.run import network_env
from imagebuild.plan import ENVIRONMENT, StagePlan, content_of
from imagebuild.preload import PreloadImage
from imagebuild.registry.layout import Layout
from imagebuild.stages import base, devmode
from imagebuild.store.store import Kind
from imagebuild.workspace import Workspace

_Maker = Callable[[StagePlan, Sequence[StagePlan], Path], Mapping[str, Any]]


@dataclass
class LayerRun:
    """The base tree and its layers. `hooks` are DIB's, with their times, by stage."""

    ws: Workspace
    hooks: dict[str, Any] = field(default_factory=dict)

    @property
    def base_in(self) -> Path:
        """What the elements of the base are pointed to; apt's settings also serve compilers."""
        return self.ws.scratch / "base-in"

    @property
    def wheelhouse(self) -> Path:
        """The wheels to install, and pip."""
        return self.ws.scratch / "agent-in"

    @property
    def content(self) -> Path:
        """The last layer, and what describes the whole filesystem."""
        return self.ws.scratch / "content"

    def base(self) -> None:
        """Distribution, kernel, cloud-init, docker."""
        plan = self.ws.plan.stage("base")

        def make(draft: Path) -> dict[str, Any]:
            self.ws.require_network("base")
            base.write_inputs(self.ws.inputs, self.base_in, network_env())
            return {"hooks": self.compose(plan, "base", None, draft)}

        with self.ws.stage(plan) as report:
            report.reused = self.ws.obtain(plan, Kind.BASE, make)
        self.hooks["base"] = [] if report.reused else self.ws.facts(plan)["hooks"]

    def compose(
        self, plan: StagePlan, run_name: str, below: Sequence[StagePlan] | None, draft: Path
    ) -> list[Any]:
        """Let DIB make the base or a layer of the agent; returns its hooks with their times."""
        stage = "base" if below is None else "agent"
        # Its own limit names the hook.
        answer = self.ws.worker.call(
            "compose",
            name=stage,
            argv=list(plan.argv),
            environment=dict(plan.environment),
            elements=[(e.name, str(e.path)) for e in self.ws.inputs.elements[run_name]],
            paths={
                "elements": ":".join(map(str, self.ws.inputs.element_paths)),
                "scratch": str(self.ws.scratch),
                "cache": str(self.ws.paths.cache),
            },
            below=None if below is None else [self.ws.path(p) for p in below],
            draft=str(draft),
            seconds=self.ws.seconds(stage),
            epoch=self.ws.inputs.epoch,
        )
        hooks: list[Any] = answer["hooks"]
        return hooks

    def agent(self) -> None:
        """The guest agent: environment, code, and what comes on top."""
        base_plan, plan = self.ws.plan.stage("base"), self.ws.plan.stage("agent")
        below = [base_plan]
        makers: dict[str, tuple[Kind, _Maker]] = {
            ENVIRONMENT: (Kind.ENVIRONMENT, self.make_environment),
            "code": (Kind.AGENT, self.make_code),
            "elements": (Kind.ELEMENTS, self.make_elements),
        }
        with self.ws.stage(plan) as report:
            reused = []
            for part in plan.parts:
                kind, maker = makers[part.name]
                secret = part.name == "elements" and self.ws.inputs.dev is not None
                make = functools.partial(maker, part, tuple(below))
                reused.append(self.ws.obtain(part, kind, make, secret=secret))
                below.append(part)
            report.reused = all(reused)
        self.hooks["agent"] = [
            h
            for p, had in zip(plan.parts, reused, strict=True)
            if not had
            for h in self.ws.facts(p).get("hooks", [])
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
        versions = self.ws.facts(below[-1])["versions"]
        arch = MACHINES[self.ws.inputs.arch]
        wheels.check_requirements(house, versions, self.ws.inputs.agent.python, arch)
        self.ws.call(
            "agent",
            "install_code",
            below=[self.ws.path(p) for p in below],
            wheel=str(next(house.path.glob(f"{AGENT}-*.whl"))),
            sha256=house.agent_sha256,
            draft=str(draft),
            scratch_dir=str(self.ws.scratch),
            epoch=self.ws.inputs.epoch,
            seconds=self.ws.seconds("agent"),
        )
        return {"wheels": dict(house.sha256)}

    def make_elements(
        self, plan: StagePlan, below: Sequence[StagePlan], draft: Path
    ) -> dict[str, Any]:
        """What a dev image has of its own, and the profile's own elements."""
        dev_in = self.ws.scratch / "dev-in"
        if self.ws.inputs.dev:
            # From here to the end it holds keys, the guest user's in the tree included,
            # whose uid is somebody's here, too.
            self.ws.scratch.chmod(0o700)
            devmode.write_inputs(
                self.ws.inputs.dev, self.ws.inputs.profile, self.ws.plan.name, dev_in
            )
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
                self.ws.require_network("agent")
            if not self.base_in.exists():
                base.write_inputs(self.ws.inputs, self.base_in, network_env())
            answer = self.ws.call(
                "agent",
                "build_wheels",
                below=[self.ws.path(below[0])],
                scratch_dir=str(self.ws.scratch),
                request={
                    "sources": [str(s) for s in request.sources],
                    "tools": str(request.tools),
                    "out": str(request.out),
                    "needs_compiler": request.needs_compiler,
                    "environment": dict(request.environment),
                },
                network={"apt_dir": str(self.base_in / "apt")},
                owner=self.ws.owner,
            )
            return [Path(w) for w in answer["wheels"]]

        shutil.rmtree(self.wheelhouse, ignore_errors=True)
        with self.ws.step("agent", "wheels", "download"):
            return wheels.collect(
                self.ws.inputs.agent,
                MACHINES[self.ws.inputs.arch],
                self.wheelhouse,
                cache=self.ws.paths.sources,
                env=network_env(),
                offline=self.ws.inputs.offline,
                build=compile_sources,
                environment=environment,
                code=not environment,
            )

    def containers(self) -> None:
        """The preloaded containers, each in docker's store with those before it."""
        if not self.ws.plan.containers:
            return
        below = [self.ws.plan.stage("base")]
        with self.ws.stage(self.ws.plan.stage("containers")) as report:
            reused = []
            for part, image in zip(self.ws.plan.containers, self.ws.inputs.preload, strict=True):
                make = functools.partial(self.make_container, image, tuple(below))
                reused.append(self.ws.obtain(part, Kind.CONTAINER, make))
                below.append(part)
            report.reused = all(reused)

    def make_container(
        self, image: PreloadImage, below: Sequence[StagePlan], draft: Path
    ) -> dict[str, Any]:
        """Fetch a container, and let the image's own docker load it."""
        layout = Layout(self.ws.paths.containers)
        with self.ws.step("containers", "pull", image.target):
            pulled = preload.fetch(image, self.ws.inputs, layout)
        with self.ws.step("containers", "load", image.target):
            report = self.ws.call(
                "containers",
                "load_container",
                below=[self.ws.path(p) for p in below],
                image=preload.local_image(image, pulled, layout).to_json(),
                draft=str(draft),
                scratch_dir=str(self.ws.scratch),
                seconds=self.ws.seconds("containers"),
                epoch=self.ws.inputs.epoch,
            )
        return {**report, "made_of": preload.describe(image, pulled).to_json()}

    def describe(self) -> dict[str, Any]:
        """Complete what is known of the content; its layer and lists go to `self.content`."""
        base_plan, agent = (self.ws.plan.stage(n) for n in ("base", "agent"))
        content = content_of(self.ws.plan, self.ws.inputs)
        installed = {
            n: h for p in agent.parts for n, h in self.ws.facts(p).get("wheels", {}).items()
        }
        content["agent"] |= {
            "wheel_sha256": installed[AGENT],
            "wheels": dict(sorted(installed.items())),
            "compiled": self.ws.facts(agent.part(ENVIRONMENT))["compiled"],
        }
        return self.ws.worker.call(
            "describe",
            system=[self.ws.path(p) for p in (base_plan, *agent.parts)],
            containers=[self.ws.path(p) for p in (base_plan, *self.ws.plan.containers)],
            content=content,
            made_of=[self.ws.facts(p)["made_of"] for p in self.ws.plan.containers],
            draft=str(self.content),
            owner=self.ws.owner,
            epoch=self.ws.inputs.epoch,
        )
