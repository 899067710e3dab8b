"""What a profile is: the schema, with every key described.

A `Profile` is a frozen value with nothing left to look up: inheritance, overrides and
relative paths have been dealt with by `imagebuild.config.load`. The descriptions here
are what `imagebuild profile schema` prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from imagebuild.config import images, values
from imagebuild.config.words import (
    AgentMode,
    Arch,
    Compression,
    Datasource,
    DockerSource,
    Format,
    Os,
    Series,
)

_T = TypeVar("_T")


def _unique(items: tuple[_T, ...]) -> tuple[_T, ...]:
    seen = set()
    for item in items:
        if item in seen:
            raise ValueError(f"{values.shown(str(item))} is listed twice")
        seen.add(item)
    return items


def _not_empty(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if not items:
        raise ValueError("the list is empty; at least one entry is needed")
    return items


def _path(value: object) -> object:
    # Before pydantic makes a Path of it: a Path would tidy away what must be refused.
    return values.check_path(value) if isinstance(value, str) else value


def _controller_path(value: object) -> object:
    return values.check_controller_path(value) if isinstance(value, str) else value


Url = Annotated[str, AfterValidator(values.check_url)]
SnapshotUrl = Annotated[str, AfterValidator(values.check_snapshot_url)]
UrlOrPath = Annotated[str, AfterValidator(values.check_url_or_path)]
AbsolutePath = Annotated[Path, BeforeValidator(_path)]
Package = Annotated[str, AfterValidator(values.check_package)]
Packages = Annotated[tuple[Package, ...], AfterValidator(_unique)]
Suite = Annotated[str, AfterValidator(values.check_suite)]
Suites = Annotated[tuple[Suite, ...], AfterValidator(_unique), AfterValidator(_not_empty)]
Component = Annotated[str, AfterValidator(values.check_component)]
Components = Annotated[tuple[Component, ...], AfterValidator(_unique), AfterValidator(_not_empty)]
Element = Annotated[str, AfterValidator(values.check_element)]
Elements = Annotated[tuple[Element, ...], AfterValidator(_unique)]
Size = Annotated[
    str,
    BeforeValidator(values.check_disk_size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["5G", "800M", 5]}),
]
Duration = Annotated[
    str | None,
    BeforeValidator(values.check_duration),
    WithJsonSchema({"type": ["string", "null"], "examples": ["90s", "30m", "1h30m"]}),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class ArchUrls(_Model):
    """Main archives of architectures that live apart from the others."""

    amd64: Url | None = Field(
        default=None, description="Archive used for amd64 instead of mirror.url."
    )
    arm64: Url | None = Field(
        default=None, description="Archive used for arm64 instead of mirror.url."
    )


class SecurityArchive(_Model):
    """A security archive that is apart from the main one, as Debian's is."""

    url: Url = Field(description="URL of the security archive.")
    suites: Suites = Field(description="Suites taken from it, for example bookworm-security.")
    keyring: AbsolutePath | None = Field(
        default=None, description="Keyring that signs it; mirror.keyring when not set."
    )
    components: Components | None = Field(
        default=None, description="Components taken from it; mirror.components when not set."
    )
    snapshot_url: SnapshotUrl | None = Field(
        default=None, description="URL of its snapshots; {snapshot} stands for mirror.snapshot."
    )


class Mirror(_Model):
    """The distribution's archive."""

    url: Url = Field(
        description="URL of the main archive. Setting it clears an inherited mirror.arch_url."
    )
    arch_url: ArchUrls = Field(
        default=ArchUrls(),
        description="Per architecture, an archive used instead of mirror.url.",
    )
    keyring: AbsolutePath = Field(
        description="OpenPGP keyring on the building host that the archive's Release files are "
        "checked with: an absolute path, or one relative to the profile's file."
    )
    suites: Suites = Field(description="Suites taken from the archive; the first is the release.")
    components: Components = Field(description="Components taken from the archive.")
    snapshot: Annotated[str, AfterValidator(values.check_snapshot)] | None = Field(
        default=None,
        description="Point in time (UTC) that packages are taken from, like 20250101T000000Z or "
        "2025-01-01: mirror.snapshot_url is used instead of mirror.url.",
    )
    snapshot_url: SnapshotUrl | None = Field(
        default=None,
        description="URL of the archive's snapshots; {snapshot} stands for mirror.snapshot.",
    )
    security: SecurityArchive | None = Field(
        default=None,
        description="Security archive of its own; null when mirror.url carries it.",
    )

    @property
    def security_keyring(self) -> Path:
        """Keyring of the security archive, or of the main one."""
        return (self.security and self.security.keyring) or self.keyring

    @property
    def security_components(self) -> tuple[str, ...]:
        """Components of the security archive, or of the main one."""
        return (self.security and self.security.components) or self.components


class DockerRepository(_Model):
    """The package repository of docker-ce."""

    url: Url = Field(description="URL of the repository.")
    suite: Suite = Field(description="Suite, usually the release's code name.")
    components: Components = Field(default=("stable",), description="Components.")
    snapshot_url: SnapshotUrl | None = Field(
        default=None,
        description="URL of its snapshots; {snapshot} stands for mirror.snapshot. Docker keeps "
        "none: a mirror of one's own may.",
    )
    key: UrlOrPath = Field(
        description="Where the signing key is: a URL, or a path on the building host, absolute "
        "or relative to the profile's file."
    )
    fingerprint: Annotated[str, AfterValidator(values.check_fingerprint)] = Field(
        description="Fingerprint that the key must have: 40 hexadecimal digits."
    )


class Registry(_Model):
    """A private registry that the guest's docker pulls from."""

    host: Annotated[str, AfterValidator(values.check_registry_host)] = Field(
        description="HOST or HOST:PORT, exactly as the names of the container images have it."
    )
    ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file with the certificate authority of the registry; relative to the "
        "profile's file. Null: one that the guest trusts anyway.",
    )
    username: Annotated[str, AfterValidator(values.check_registry_user)] | None = Field(
        default=None, description="User that the guest logs in as; null: none."
    )
    password_file: AbsolutePath | None = Field(
        default=None,
        description="File on the building host with the user's password or token. It will be "
        "readable by root and the guest user in every guest: give that user read access only.",
    )

    @model_validator(mode="after")
    def _match_credentials(self) -> Registry:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        return self


def _unique_hosts(items: tuple[Registry, ...]) -> tuple[Registry, ...]:
    _unique(tuple(item.host for item in items))
    return items


_DOCKER_PACKAGES = {
    "docker-ce": ("docker-ce", "docker-ce-cli", "containerd.io"),
    "docker.io": ("docker.io",),
}


class Docker(_Model):
    """The container engine that runs the databases."""

    source: DockerSource = Field(
        description="docker-ce from Docker's repository, or the distribution's docker.io. "
        "Changing it clears inherited docker.packages and docker.repository."
    )
    packages: Packages = Field(
        default=(),
        description="Packages of the engine; when not set: docker-ce, docker-ce-cli and "
        "containerd.io, or docker.io.",
    )
    repository: DockerRepository | None = Field(
        default=None, description="Repository of docker-ce; must be null for docker.io."
    )
    registries: Annotated[tuple[Registry, ...], AfterValidator(_unique_hosts)] = Field(
        default=(),
        description="Private registries: their CA and the guest's credentials for them. Trove "
        "itself has no option for a CA, and its login is lost under network isolation.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_packages(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file says
        if isinstance(data, dict) and data.get("packages") is None:
            default = _DOCKER_PACKAGES.get(str(data.get("source")), ())
            return data | {"packages": default}
        return data

    @model_validator(mode="after")
    def _match_repository(self) -> Docker:
        if self.source is DockerSource.DOCKER_CE and self.repository is None:
            raise ValueError("docker-ce needs the key docker.repository")
        if self.source is DockerSource.DOCKER_IO and self.repository is not None:
            raise ValueError(
                "docker.io comes from the distribution: docker.repository must be null"
            )
        if not self.packages:
            raise ValueError("docker.packages is empty; at least one package is needed")
        return self


class Preload(_Model):
    """A database or backup container that is in the image before the guest asks for it.

    In a file it may also be the text SOURCE or SOURCE=TARGET.
    """

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    source: Annotated[str, AfterValidator(images.check_source)] = Field(
        description="Image that is fetched when the guest image is built: "
        "HOST[:PORT]/NAME with a tag, a digest or both."
    )
    target: Annotated[str, AfterValidator(images.check_target)] = Field(
        description="Name and tag that the guest is configured with (docker_image and the "
        "datastore version); when not set: source without its digest."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file says
        if isinstance(data, str):
            names = images.split(data)
            data = dict(zip(("source", "target"), names, strict=True))
        if not isinstance(data, dict) or data.get("target") is not None:
            return data
        source = data.get("source")
        if not isinstance(source, str):  # said by the check of the key itself
            return data | {"target": "unknown:unknown"}
        return data | {"target": images.default_target(images.check_source(source))}


def _unique_targets(items: tuple[Preload, ...]) -> tuple[Preload, ...]:
    _unique(tuple(images.full_name(item.target) for item in items))
    return items


class Guest(_Model):
    """The guest's own user."""

    username: Annotated[str, AfterValidator(values.check_username)] = Field(
        default="ubuntu",
        description="User that cloud-init sets up and the guest agent runs as. Trove's option "
        "injected_config_owner must name the same user.",
    )
    root_password_file: AbsolutePath | None = Field(
        default=None,
        description="File on the building host with a password for root, to look into a guest "
        "on its console. It marks the image as a dev image.",
    )


class CloudInit(_Model):
    """How the guest finds its metadata."""

    datasources: Annotated[
        tuple[Datasource, ...], AfterValidator(_unique), AfterValidator(_not_empty)
    ] = Field(
        default=(Datasource.CONFIGDRIVE, Datasource.OPENSTACK),
        description="cloud-init's datasources, in the order in which they are asked.",
    )


class Network(_Model):
    """Network stack of the guest."""

    packages: Packages = Field(default=(), description="Packages that bring the network up.")


class Controller(_Model):
    """Where a dev image fetches the agent's code from, by ssh and rsync."""

    username: Annotated[str, AfterValidator(values.check_host_user)] = Field(
        default="stack",
        description="User on the controller (HOST_SCP_USERNAME of trovestack).",
    )
    path: Annotated[Path, BeforeValidator(_controller_path)] = Field(
        default=Path("/opt/stack/trove"),
        description="Directory of Trove's source on the controller (PATH_TROVE of trovestack).",
    )


class Agent(_Model):
    """The Trove guest agent."""

    mode: AgentMode = Field(
        default=AgentMode.INJECT,
        description="inject: the agent is part of the image; dev: the guest fetches its code "
        "from the controller whenever the service starts. For developers only.",
    )
    controller: Controller = Field(
        default=Controller(), description="Where a dev image fetches the agent's code from."
    )

    source: Annotated[str, AfterValidator(values.check_agent_source)] | None = Field(
        default=None,
        description="pypi:trove==VERSION, git+URL@REF or a local path (relative to the "
        "profile's file); null: the release that the series' lock file pins.",
    )
    series: Series | None = Field(
        default=None,
        description="OpenStack series whose lock file is used; null: the newest that the "
        "release's Python can run.",
    )


class Time(_Model):
    """Time synchronisation."""

    servers: Annotated[
        tuple[Annotated[str, AfterValidator(values.check_time_server)], ...],
        AfterValidator(_unique),
    ] = Field(default=(), description="NTP servers; none: the distribution's pool.")


class ExtraElements(_Model):
    """Elements of one's own."""

    path: Annotated[tuple[AbsolutePath, ...], AfterValidator(_unique)] = Field(
        default=(),
        description="Directories that hold elements, searched first to last before the "
        "tool's own; relative to the profile's file.",
    )
    base: Elements = Field(default=(), description="Elements added to the base stage.")
    agent: Elements = Field(default=(), description="Elements added to the agent stage.")


class Disk(_Model):
    """The virtual disk."""

    size: Size = Field(
        default="5G", description="Size of the disk: 5G, 800M; a bare number is GiB."
    )
    label: Annotated[str, AfterValidator(values.check_label)] = Field(
        default="cloudimg-rootfs",
        description="Label of the root filesystem, at most 16 characters.",
    )

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        return values.parse_size(self.size)


class Timeout(_Model):
    """How long things may take; null is no limit."""

    build: Duration = Field(default="2h", description="Limit of the whole build.")
    base: Duration = Field(default="1h", description="Limit of the base stage.")
    agent: Duration = Field(default="30m", description="Limit of the agent stage.")
    containers: Duration = Field(
        default="30m", description="Limit of the containers stage, for each container."
    )
    disk: Duration = Field(default="15m", description="Limit of the disk stage.")
    formats: Duration = Field(default="30m", description="Limit of the formats stage.")

    def seconds(self, stage: str) -> int | None:
        """Limit of `build` or of a stage in seconds, or None. KeyError: no such stage."""
        if stage not in type(self).model_fields:
            raise KeyError(stage)
        text = getattr(self, stage)
        return None if text is None else values.parse_duration(text)


class Profile(_Model):
    """What guest image is wanted."""

    name: Annotated[str, AfterValidator(values.check_profile_name)] = Field(
        description="Name of the profile; when not set, it is the file's name."
    )
    os: Os = Field(description="Distribution.")
    release: Annotated[str, AfterValidator(values.check_release)] = Field(
        description="Code name of the distribution's release."
    )
    python: Annotated[str, AfterValidator(values.check_python)] = Field(
        description="Version of the release's /usr/bin/python3, X.Y."
    )
    arch: Arch = Field(default=Arch.AMD64, description="Architecture of the image.")
    mirror: Mirror = Field(description="The distribution's archive.")
    kernel: Annotated[str, AfterValidator(values.check_kernel)] = Field(
        description="Kernel package; {arch} stands for the architecture."
    )
    docker: Docker = Field(description="The container engine that runs the databases.")
    preload: Annotated[tuple[Preload, ...], AfterValidator(_unique_targets)] = Field(
        default=(),
        description="Database and backup containers that are put into the image, so that the "
        "guest need not fetch them: a list of {source, target} or of SOURCE[=TARGET].",
    )
    guest: Guest = Field(default=Guest(), description="The guest's own user.")
    cloud_init: CloudInit = Field(
        default=CloudInit(), description="How the guest finds its metadata."
    )
    network: Network = Field(default=Network(), description="Network stack of the guest.")
    packages: Packages = Field(default=(), description="What else the guest gets.")
    agent: Agent = Field(default=Agent(), description="The Trove guest agent.")
    ca_certificates: Annotated[tuple[AbsolutePath, ...], AfterValidator(_unique)] = Field(
        default=(),
        description="PEM files with certificate authorities that the guest itself must trust "
        "(message bus, Keystone, object store); relative to the profile's file.",
    )
    time: Time = Field(default=Time(), description="Time synchronisation.")
    elements: ExtraElements = Field(default=ExtraElements(), description="Elements of one's own.")
    disk: Disk = Field(default=Disk(), description="The virtual disk.")
    formats: Annotated[tuple[Format, ...], AfterValidator(_unique), AfterValidator(_not_empty)] = (
        Field(default=(Format.QCOW2,), description="Image formats to make.")
    )
    compression: Compression = Field(
        default=Compression.ZSTD,
        description="Compression of qcow2 images; zlib for hypervisors older than QEMU 5.1.",
    )
    timeout: Timeout = Field(default=Timeout(), description="How long things may take.")

    @property
    def is_dev(self) -> bool:
        """Whether the image is for development only: it holds a key or a known password."""
        return self.agent.mode is AgentMode.DEV or self.guest.root_password_file is not None

    @property
    def kernel_package(self) -> str:
        """The kernel package of this profile's architecture."""
        return self.kernel.replace("{arch}", str(self.arch))

    def mirror_url(self, arch: Arch | None = None) -> str:
        """URL of the main archive for an architecture (default: the profile's own)."""
        return getattr(self.mirror.arch_url, str(arch or self.arch)) or self.mirror.url
