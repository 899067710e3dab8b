"""Inputs: everything a build depends on, every name resolved to a digest.

`resolve.py` makes them (the only step that asks the network), `plan.py` reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.agent.source import AgentInput
from imagebuild.archive import Suite
from imagebuild.config.profile import Profile
from imagebuild.dib import Element
from imagebuild.memory import Fact

if TYPE_CHECKING:
    from imagebuild.preload import PreloadImage


@dataclass(frozen=True)
class Archive:
    """A package archive as the image will have it. `name` is the stem of its .sources file.

    A snapshot's Release files are past their Valid-Until: apt must not mind.
    """

    name: str
    url: str
    suites: tuple[Suite, ...]
    components: tuple[str, ...]
    keyring: Path
    keyring_sha256: str
    is_snapshot: bool = False


@dataclass(frozen=True)
class DockerKey:
    """The checked public key of docker's repository."""

    data: bytes
    sha256: str


@dataclass(frozen=True)
class Certificate:
    """A CA certificate for the guest: its file name in the guest and its PEM text."""

    name: str
    pem: bytes
    sha256: str


@dataclass(frozen=True)
class Registry:
    """A private registry as the guest's docker will know it.

    `ca_sha256` is that of `ca` (PEM). `secret` is a digest of the credentials that is slow
    to make (see `resolve.py`): it stands in plans and manifests, where they must not.
    """

    host: str
    ca: bytes
    ca_sha256: str
    username: str
    password: str = dataclasses.field(repr=False)
    secret: str

    def to_json(self) -> dict[str, str]:
        """What identifies it, without a secret."""
        return {"host": self.host, "ca": self.ca_sha256, "credentials": self.secret}


@dataclass(frozen=True)
class DevKey:
    """The ssh key of a dev image: made by the build, for nothing but fetching code.

    `private` is in OpenSSH's own format, `public` one line of an authorized_keys file.
    """

    private: bytes = dataclasses.field(repr=False)
    public: str


@dataclass(frozen=True)
class Dev:
    """What only a dev image has.

    `mark` is made anew by each build: what it stands for (key, password's hash) is not the
    same twice. None: this plan is to be shown, not run.
    """

    mark: str | None
    key: DevKey | None
    root_password: str | None = dataclasses.field(default=None, repr=False)


@dataclass(frozen=True)
class Inputs:
    """A profile with nothing left to look up.

    `tools` maps the programs whose version shapes the result to their versions.
    `asked_elements` are those named for each run of DIB, "base", "environment" and, if there
    is one, "late"; `elements` what they are with all they depend on. `unresolved` names what
    `--offline` left open; plans made from such inputs are provisional. `epoch` is the time
    that files of the image may carry (seconds since 1970).
    `offline` says that the network must not be asked later either; `remembered`, what was
    learned earlier instead of asked now. Neither counts for what the image is.
    """

    profile: Profile
    arch: str
    archives: tuple[Archive, ...]
    docker_key: DockerKey | None
    certificates: tuple[Certificate, ...]
    registries: tuple[Registry, ...]
    dev: Dev | None
    asked_elements: Mapping[str, tuple[str, ...]]
    elements: Mapping[str, tuple[Element, ...]]
    element_paths: tuple[Path, ...]
    agent: AgentInput
    preload: tuple[PreloadImage, ...]
    tools: Mapping[str, str]
    network_variables: tuple[str, ...]
    epoch: int
    unresolved: tuple[str, ...]
    offline: bool = False
    remembered: tuple[Fact, ...] = ()

    @property
    def registry_secrets(self) -> bool:
        """Whether even the base tree holds credentials."""
        return any(r.password for r in self.registries)

    @property
    def holds_secrets(self) -> bool:
        """Whether the image holds what not everybody on the building host may read."""
        return self.dev is not None or self.registry_secrets
