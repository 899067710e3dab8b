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
from imagebuild.config.words import AgentMode
from imagebuild.digest import of_value
from imagebuild.inputs import Inputs

SCHEMA_VERSION = 1
STAGES = ("base", "agent", "disk", "formats")
#: With which a dev image fetches the agent's code.
DEV_PACKAGES = ("openssh-client", "rsync")


@dataclass(frozen=True)
class StagePlan:
    """One stage: its content id and everything that went into it.

    `environment` and `argv` are those of the DIB run; empty where DIB has no part.
    """

    name: str
    id: str
    elements: tuple[Mapping[str, str], ...]
    inputs: Mapping[str, Any]
    environment: Mapping[str, str]
    argv: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order people read them."""
        return {
            "name": self.name,
            "id": self.id,
            "elements": list(self.elements),
            "inputs": dict(self.inputs),
            "environment": dict(self.environment),
            "argv": list(self.argv),
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
        """The stage of that name."""
        return next(s for s in self.stages if s.name == name)

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
    base = _stage("base", _base_inputs(inputs), inputs, _base_environment(inputs))
    agent = _stage("agent", _agent_inputs(inputs, base.id), inputs, _agent_environment(inputs))
    disk = _stage("disk", _disk_inputs(inputs, agent.id))
    formats = _stage("formats", _formats_inputs(inputs, disk.id))
    profile = inputs.profile
    link = f"trove-guest-{profile.os}-{profile.release}-{inputs.arch}"
    if profile.is_dev:
        link += "-dev"
    name = f"{link}-{formats.id[:8]}"
    return Plan(
        build_id=formats.id,
        name=name,
        link=link,
        profile=json.loads(profile.model_dump_json()),
        stages=(base, agent, disk, formats),
        environment={
            "set": {s.name: dict(s.environment) for s in (base, agent)},
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
    stage_inputs: Mapping[str, Any],
    inputs: Inputs | None = None,
    environment: Mapping[str, str] | None = None,
) -> StagePlan:
    elements: tuple[Mapping[str, str], ...] = ()
    argv: tuple[str, ...] = ()
    if inputs is not None:
        elements = tuple({"name": e.name, "sha256": e.sha256} for e in inputs.elements[name])
        asked = inputs.base_elements if name == "base" else inputs.agent_elements
        argv = dib.arguments(asked, inputs.arch)
    hashed = {
        "schema": SCHEMA_VERSION,
        "stage": name,
        "elements": list(elements),
        "inputs": dict(stage_inputs),
        "environment": dict(environment or {}),
        "argv": list(argv),
    }
    return StagePlan(
        name, of_value(hashed), elements, dict(stage_inputs), dict(environment or {}), argv
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
    }


def _agent_inputs(inputs: Inputs, parent: str) -> dict[str, Any]:
    return {
        "parent": parent,
        # content.json says it (see content_of): a tree of another profile would say another.
        "profile": inputs.profile.name,
        "agent": inputs.agent.to_json(),
        # A dev image's own keys: no second build has the same.
        **({"dev": inputs.dev.mark} if inputs.dev else {}),
        "tools": _tools(inputs, "diskimage-builder"),
    }


def _agent_environment(inputs: Inputs) -> dict[str, str]:
    environment = _common_environment(inputs) | {
        "DISTRO_NAME": str(inputs.profile.os),
        "DIB_RELEASE": inputs.profile.release,
        "IMAGEBUILD_PYTHON": inputs.profile.python,
        "IMAGEBUILD_SEED_TREE": "{base_tree}",
        "IMAGEBUILD_WHEELHOUSE": "{scratch}/agent-in",
    }
    if inputs.dev:
        environment["IMAGEBUILD_DEV_DIR"] = "{scratch}/dev-in"
    return environment


def _disk_inputs(inputs: Inputs, parent: str) -> dict[str, Any]:
    return {
        "parent": parent,
        "size": inputs.profile.disk.size_bytes,
        "label": inputs.profile.disk.label,
        "epoch": inputs.epoch,
        "tools": _tools(inputs, "mke2fs", "mtools"),
    }


def _formats_inputs(inputs: Inputs, parent: str) -> dict[str, Any]:
    return {
        "parent": parent,
        "formats": [str(f) for f in inputs.profile.formats],
        "compression": str(inputs.profile.compression),
        "tools": _tools(inputs, "qemu-img"),
    }


def content_of(plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """What describes the content of the trees: `/etc/imagebuild/content.json` before the
    package lists are added, and the manifest's part of that name.

    Nothing about disk or formats, which the image cannot know.
    """
    profile = inputs.profile
    stages = [plan.stage(n) for n in ("base", "agent")]
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
        "python": profile.python,
        "stages": {s.name: {"id": s.id, "inputs": dict(s.inputs)} for s in stages},
        "elements": {e["name"]: e["sha256"] for s in stages for e in s.elements},
    }
