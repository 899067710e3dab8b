"""Inputs → Plan: pure, so that showing a plan and running it use the same value.

Paths of the machine (scratch, cache) appear as placeholders in braces: a plan's bytes,
and the ids in it, do not depend on where it runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import dib
from imagebuild.config.words import AgentMode, Format
from imagebuild.digest import of_value
from imagebuild.inputs import Inputs
from imagebuild.store.objects import Kind

SCHEMA_VERSION = 1
STAGES = ("base", "agent", "containers", "disk", "formats")
#: Inputs that name other stages and parts.
_LINKS = ("parent", "base", "layers", "stages")
#: The kinds of the parts by name; any other is a container, which has the image's name.
_KINDS = {
    "environment": Kind.ENVIRONMENT,
    "code": Kind.AGENT,
    "elements": Kind.ELEMENTS,
    "base-disk": Kind.TRUNK,
    "trunk": Kind.TRUNK,
    "base-qcow2": Kind.QCOW2,
    "qcow2": Kind.QCOW2,
}
#: The part of the agent's stage that a new agent of the same series leaves as it is.
ENVIRONMENT = "environment"
#: With which a dev image fetches the agent's code.
DEV_PACKAGES = ("openssh-client", "rsync")


@dataclass(frozen=True)
class StagePlan:
    """One stage, or a part of one: its content id and everything that went into it.

    `environment` and `argv` are those of the DIB run; empty where DIB has no part. `parts`
    are kept in the store each by its own id, so that a change makes only what it reaches.
    """

    name: str
    id: str
    elements: tuple[Mapping[str, str], ...]
    inputs: Mapping[str, Any]
    environment: Mapping[str, str]
    argv: tuple[str, ...]
    parts: tuple[StagePlan, ...] = ()

    @property
    def own(self) -> dict[str, Any]:
        """What goes in that is not another stage's or part's id: what the store keeps, to say
        later why an object with another id is not there.
        """
        inputs = {k: v for k, v in self.inputs.items() if k not in _LINKS}
        inputs["part"] = self.name
        if self.elements:
            inputs["elements"] = {e["name"]: e["sha256"] for e in self.elements}
        if self.environment:
            inputs["environment"] = dict(self.environment)
        return inputs

    def part(self, name: str) -> StagePlan:
        """The part of that name. KeyError: this stage has none."""
        found = {p.name: p for p in self.parts}
        return found[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order people read them."""
        return {
            "name": self.name,
            "id": self.id,
            "elements": list(self.elements),
            "inputs": dict(self.inputs),
            "environment": dict(self.environment),
            "argv": list(self.argv),
            "parts": [p.to_json() for p in self.parts],
        }


@dataclass(frozen=True)
class Plan:
    """All that a build will do.

    `provisional` says that something was not resolved (see `unresolved`): such a plan can
    be shown, not run.
    """

    build_id: str
    name: str
    link: str
    profile: Mapping[str, Any]
    stages: tuple[StagePlan, ...]
    environment: Mapping[str, Any]
    outputs: Mapping[str, Any]
    unresolved: tuple[str, ...]

    @property
    def provisional(self) -> bool:
        """Whether something could not be resolved."""
        return bool(self.unresolved)

    def stage(self, name: str) -> StagePlan:
        """The stage of that name. KeyError: this image has none (containers)."""
        found = {s.name: s for s in self.stages}
        return found[name]

    @property
    def objects(self) -> tuple[tuple[str, Kind, StagePlan], ...]:
        """What the store keeps of the stages: stage, kind and plan of each, in the order in
        which they are made. The last one is the finished artifact.
        """
        found = []
        for stage in self.stages:
            if stage.name == "base":
                found.append((stage.name, Kind.BASE, stage))
            for part in stage.parts:
                found.append((stage.name, _KINDS.get(part.name, Kind.CONTAINER), part))
        return (*found, ("formats", Kind.FORMATS, self.stage("formats")))

    @property
    def containers(self) -> tuple[StagePlan, ...]:
        """The parts of the containers' stage, which not every image has."""
        return next((s.parts for s in self.stages if s.name == "containers"), ())

    def to_json(self) -> dict[str, Any]:
        """The document of `--dry-run --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "build_id": self.build_id,
            "provisional": self.provisional,
            "unresolved": list(self.unresolved),
            "name": self.name,
            "profile": dict(self.profile),
            "stages": [s.to_json() for s in self.stages],
            "environment": dict(self.environment),
            "outputs": dict(self.outputs),
        }


def make_plan(inputs: Inputs, artifacts: Path, places: Sequence[Path] = ()) -> Plan:
    """The plan for resolved inputs.

    `artifacts` is the directory of the artifact, or its parent with a trailing `{name}`;
    `places` are the files that the user asked for beside it. Neither changes an id.
    """
    base = _composed("base", "base", _base_inputs(inputs), inputs, _base_environment(inputs))
    agent = _agent(inputs, base.id)
    containers = _containers(inputs, base.id)
    disk = _disk(inputs, base, containers, agent)
    formats = _formats(inputs, disk)
    profile = inputs.profile
    link = f"trove-guest-{profile.os}-{profile.release}-{inputs.arch}"
    if profile.is_dev:
        link += "-dev"
    name = f"{link}-{formats.id[:8]}"
    stages = (base, agent, *([containers] if containers else []), disk, formats)
    return Plan(
        build_id=formats.id,
        name=name,
        link=link,
        profile=json.loads(profile.model_dump_json()),
        stages=stages,
        environment={
            "set": {s.name: dict(s.environment) for s in (base, *agent.parts) if s.environment},
            "from_host": list(inputs.network_variables),
        },
        outputs={
            "artifact": str(artifacts).replace("{name}", name),
            "images": [f"{name}.{f}" for f in profile.formats],
            "places": [str(p) for p in places],
        },
        unresolved=inputs.unresolved,
    )


def _stage(
    name: str,
    inputs: Mapping[str, Any],
    parts: tuple[StagePlan, ...] = (),
    *,
    elements: tuple[Mapping[str, str], ...] = (),
    environment: Mapping[str, str] | None = None,
    argv: tuple[str, ...] = (),
) -> StagePlan:
    hashed = {
        "schema": SCHEMA_VERSION,
        "stage": name,
        "elements": list(elements),
        "inputs": dict(inputs),
        "environment": dict(environment or {}),
        "argv": list(argv),
        "parts": [p.id for p in parts],
    }
    return StagePlan(
        name, of_value(hashed), elements, dict(inputs), dict(environment or {}), argv, parts
    )


def _composed(
    name: str,
    run: str,
    stage_inputs: Mapping[str, Any],
    inputs: Inputs,
    environment: Mapping[str, str],
) -> StagePlan:
    """What DIB composes; `run` names the list of elements in the inputs."""
    return _stage(
        name,
        stage_inputs,
        elements=tuple({"name": e.name, "sha256": e.sha256} for e in inputs.elements[run]),
        environment=environment,
        argv=dib.arguments(inputs.asked_elements[run], inputs.arch),
    )


def base_packages(inputs: Inputs) -> tuple[str, ...]:
    """Packages of the base tree, in one transaction: the kernel's initramfs is made once."""
    profile = inputs.profile
    dev = DEV_PACKAGES if profile.agent.mode is AgentMode.DEV else ()
    wanted = (
        *profile.packages, *profile.network.packages, *profile.docker.packages, *dev,
        profile.kernel_package,
    )  # fmt: skip
    return tuple(dict.fromkeys(wanted))


def _tools(inputs: Inputs, *names: str) -> dict[str, str]:
    return {n: inputs.tools[n] for n in ("imagebuild", *names)}


def _base_inputs(inputs: Inputs) -> dict[str, Any]:
    profile = inputs.profile
    return {
        "os": str(profile.os),
        "release": profile.release,
        "arch": inputs.arch,
        "archives": [
            {
                "name": a.name,
                "url": a.url,
                "components": list(a.components),
                "keyring": a.keyring_sha256,
                "suites": {s.name: s.sha256 for s in a.suites},
                "snapshot": a.is_snapshot,
            }
            for a in inputs.archives
        ],
        "certificates": {c.name: c.sha256 for c in inputs.certificates},
        "registries": [r.to_json() for r in inputs.registries],
        "tools": _tools(inputs, "diskimage-builder", "mmdebstrap"),
    }


def _base_environment(inputs: Inputs) -> dict[str, str]:
    profile = inputs.profile
    mirror = inputs.archives[0]
    return _common_environment(inputs) | {
        "DISTRO_NAME": str(profile.os),
        "DIB_RELEASE": profile.release,
        "DIB_DISTRIBUTION_MIRROR": mirror.url,
        "DIB_DEBIAN_COMPONENTS": ",".join(mirror.components),
        "DIB_MMDEBSTRAP_EXTRA_ARGS": "--keyring={scratch}/base-in/apt/archive.d/"
        + mirror.keyring.name
        + " --aptopt={scratch}/base-in/apt/host.conf",
        "IMAGEBUILD_APT_DIR": "{scratch}/base-in/apt",
        "IMAGEBUILD_DOCKER_DIR": "{scratch}/base-in/docker",
        "IMAGEBUILD_CA_DIR": "{scratch}/base-in/ca",
        "IMAGEBUILD_PACKAGES": " ".join(base_packages(inputs)),
        "IMAGEBUILD_DATASOURCES": ", ".join(map(str, profile.cloud_init.datasources)),
        "IMAGEBUILD_TIME_SERVERS": " ".join(profile.time.servers),
        "IMAGEBUILD_ROOT_LABEL": profile.disk.label,
    }


def _common_environment(inputs: Inputs) -> dict[str, str]:
    return {
        # Which elements are used is in the plan, by digest; where they lie is not.
        "ELEMENTS_PATH": "{elements}",
        "IMAGEBUILD_GUEST_USERNAME": inputs.profile.guest.username,
        "SOURCE_DATE_EPOCH": str(inputs.epoch),
        # Packages compile their Python when they are installed: in an order that follows from
        # hashes (py3compile), and up to 3.10 with sets in the order of theirs.
        "PYTHONHASHSEED": "0",
    }


def _agent(inputs: Inputs, base: str) -> StagePlan:
    """The agent's stage: environment, code, and what the profile adds on top.

    The environment (the venv with all that the lock pins, the units) is the same for all
    agents of a series; of the code only what ends up in the image counts, not where it was
    found.
    """
    agent = inputs.agent
    environment = _composed(
        ENVIRONMENT,
        "environment",
        {
            "parent": base,
            "lock": agent.lock,
            "lock_sha256": agent.lock_sha256,
            "build_lock": agent.build_lock,
            "build_lock_sha256": agent.build_lock_sha256,
            "tools": _tools(inputs, "diskimage-builder"),
        },
        inputs,
        _common_environment(inputs)
        | {
            "DISTRO_NAME": str(inputs.profile.os),
            "DIB_RELEASE": inputs.profile.release,
            "IMAGEBUILD_PYTHON": inputs.profile.python,
            "IMAGEBUILD_SEED_TREE": "{seed}",
            "IMAGEBUILD_WHEELHOUSE": "{scratch}/agent-in",
        },
    )
    code = _stage(
        "code",
        {
            "parent": environment.id,
            "kind": agent.kind.value,
            "version": agent.version,
            "sha256": agent.sha256,
            "epoch": inputs.epoch,
            "tools": _tools(inputs),
        },
    )
    parts = [environment, code]
    if "late" in inputs.elements:
        parts.append(_late(inputs, code.id))
    return _stage("agent", {"parent": base}, tuple(parts))


def _late(inputs: Inputs, parent: str) -> StagePlan:
    variables = _common_environment(inputs) | {
        "DISTRO_NAME": str(inputs.profile.os),
        "DIB_RELEASE": inputs.profile.release,
        "IMAGEBUILD_PYTHON": inputs.profile.python,
        "IMAGEBUILD_SEED_TREE": "{seed}",
    }
    if inputs.dev:
        variables["IMAGEBUILD_DEV_DIR"] = "{scratch}/dev-in"
    late = {
        "parent": parent,
        # A dev image's own keys: no second build has the same.
        **({"dev": inputs.dev.mark} if inputs.dev else {}),
        "tools": _tools(inputs, "diskimage-builder"),
    }
    return _composed("elements", "late", late, inputs, variables)


def _containers(inputs: Inputs, base: str) -> StagePlan | None:
    """One part a container, each on docker's store with those before; None without any."""
    parts: list[StagePlan] = []
    for image in inputs.preload:
        parent = parts[-1].id if parts else base
        parts.append(
            _stage(
                image.target,
                {
                    "base": base,
                    "parent": parent,
                    "image": image.to_json(),
                    "epoch": inputs.epoch,
                    "tools": _tools(inputs),
                },
            )
        )
    return _stage("containers", {"parent": base}, tuple(parts)) if parts else None


def _disk(
    inputs: Inputs, base: StagePlan, containers: StagePlan | None, agent: StagePlan
) -> StagePlan:
    """The disk: that of the base alone, then the trunk, which has all that a new agent of the
    same series leaves as it is.
    """
    tools = _tools(inputs, "mke2fs", "mtools")
    base_disk = _stage(
        "base-disk",
        {
            "base": base.id,
            "size": inputs.profile.disk.size_bytes,
            "label": inputs.profile.disk.label,
            "epoch": inputs.epoch,
            "tools": tools,
        },
    )
    layers = [*(containers.parts if containers else ()), agent.part(ENVIRONMENT)]
    trunk = _stage(
        "trunk", {"parent": base_disk.id, "layers": [p.id for p in layers], "tools": tools}
    )
    stages = {s.name: s.id for s in (base, agent, *([containers] if containers else []))}
    return _stage(
        "disk", {"stages": stages, "content": of_value(_content(inputs))}, (base_disk, trunk)
    )


def _formats(inputs: Inputs, disk: StagePlan) -> StagePlan:
    compression = str(inputs.profile.compression)
    tools = _tools(inputs, "qemu-img")

    def packed(name: str, disk: StagePlan) -> StagePlan:
        return _stage(name, {"parent": disk.id, "compression": compression, "tools": tools})

    parts = (packed("base-qcow2", disk.part("base-disk")), packed("qcow2", disk.part("trunk")))
    return _stage(
        "formats",
        {
            "parent": disk.id,
            "formats": [str(f) for f in inputs.profile.formats],
            "compression": compression,
            "tools": tools,
        },
        parts if Format.QCOW2 in inputs.profile.formats else (),
    )


def content_of(plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """What describes the content of the trees: `/etc/imagebuild/content.json` before the
    package lists are added, and the manifest's part of that name.

    Nothing about disk or formats, which the image cannot know.
    """
    stages = [s for s in plan.stages if s.name in ("base", "agent", "containers")]
    composed = (p for s in stages for p in (s, *s.parts))
    return _content(inputs) | {
        "stages": {
            s.name: {
                "id": s.id,
                "inputs": dict(s.inputs),
                **({"parts": {p.name: p.id for p in s.parts}} if s.parts else {}),
            }
            for s in stages
        },
        "elements": {e["name"]: e["sha256"] for p in composed for e in p.elements},
    }


def _content(inputs: Inputs) -> dict[str, Any]:
    profile = inputs.profile
    return {
        "schema_version": SCHEMA_VERSION,
        "profile": profile.name,
        "os": str(profile.os),
        "release": profile.release,
        "arch": inputs.arch,
        "mode": str(profile.agent.mode),
        "dev": profile.is_dev,
        "guest_username": profile.guest.username,
        "datasources": [str(d) for d in profile.cloud_init.datasources],
        "agent": inputs.agent.to_json(),
        "containers": [image.to_json() for image in inputs.preload],
        "python": profile.python,
    }
