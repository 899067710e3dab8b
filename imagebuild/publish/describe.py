"""Artifact → what Glance is told of it. Pure: nothing is asked, no image file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagebuild import components
from imagebuild.config.words import Arch
from imagebuild.errors import UsageError
from imagebuild.manifest import ArtifactView
from imagebuild.publish import properties

#: MiB that a guest needs at least, where the manifest does not say: the agent, docker and
#: the smallest database do not fit into less.
MIN_RAM = 1024
#: The tag by which Trove's operators know its images, and its documentation does.
TAG = "trove"
#: Glance's limit on names, tags, and names and values of properties, in characters
#: (glance/api/v2/images.py, glance/db/sqlalchemy/models.py).
LONGEST = 255

_GIB = 1 << 30
#: Nova's names (nova/objects/fields.py, Architecture) of Debian's.
_ARCHITECTURES = {Arch.AMD64: "x86_64", Arch.ARM64: "aarch64"}
#: For artifacts that have no list of components, which holds os-release's VERSION_ID.
_VERSIONS = {"jammy": "22.04", "noble": "24.04", "bookworm": "12", "trixie": "13"}
#: What vSphere's driver must be told of the one VMDK that imagebuild makes.
_VMDK = {"vmware_disktype": "streamOptimized", "vmware_adaptertype": "lsiLogic"}
#: Attributes of an image that have their own options, or are Glance's alone.
_NOT_PROPERTIES = frozenset({
    "id", "name", "status", "visibility", "protected", "owner", "checksum", "size",
    "virtual_size", "min_disk", "min_ram", "disk_format", "container_format", "tags",
    "created_at", "updated_at", "self", "file", "schema", "direct_url", "locations",
    "os_hash_algo", "os_hash_value", "os_hidden", "stores", "deleted", "deleted_at",
})  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What people choose; None and empty leave it to the artifact.

    `properties` with None as value leave a default out. `datastores` are added to the tag
    "trove"; `tags` stand instead of both. A `candidate` gets no tags yet. `visibility` None
    is private for a new image, and leaves that of one that is there.
    """

    name: str | None = None
    tags: tuple[str, ...] = ()
    datastores: tuple[str, ...] = ()
    properties: Mapping[str, str | None] = field(default_factory=dict)
    visibility: str | None = None
    min_disk: int | None = None
    min_ram: int | None = None
    candidate: bool = False
    protected: bool = False


@dataclass(frozen=True)
class Description:
    """What an image's record is to say when all is done. `min_disk` is GiB, `min_ram` MiB.

    `tags` are those that the image gets now; `properties` name the others (`TAGS`).
    """

    name: str
    disk_format: str
    min_disk: int
    min_ram: int
    tags: tuple[str, ...]
    properties: Mapping[str, str]
    visibility: str | None = None
    protected: bool = False

    def to_json(self) -> dict[str, Any]:
        """Shape used by `upload --dry-run --json`."""
        return {
            "name": self.name,
            "disk_format": self.disk_format,
            "min_disk": self.min_disk,
            "min_ram": self.min_ram,
            "tags": list(self.tags),
            "visibility": self.visibility or "private",
            "protected": self.protected,
            "properties": dict(self.properties),
        }


def describe(
    view: ArtifactView,
    choice: Choice,
    *,
    fmt: str,
    virtual_size: int | None,
    sha256: str | None,
    source_sha256: str | None = None,
    proven: str | None = None,
) -> Description:
    """The record of one image of an artifact.

    `fmt` is the format that goes up; `virtual_size` in bytes; `sha256` of the file, None when
    it is not made yet; `source_sha256` of the artifact's file that it is converted from.
    `proven` is the level that verify.json says. Raises UsageError for what Glance would not
    take, ConfigError when the artifact is damaged.
    """
    tags = _tags(choice)
    known = _known(view, fmt) | {
        properties.PROVEN: proven or "none",
        properties.TAGS: ",".join(tags),
    }
    if sha256:
        known[properties.SHA256] = sha256
    if source_sha256:
        known[properties.SOURCE_SHA256] = source_sha256
    described = Description(
        name=choice.name or view.name,
        disk_format=fmt,
        min_disk=_gib(virtual_size) if choice.min_disk is None else choice.min_disk,
        min_ram=_min_ram(view) if choice.min_ram is None else choice.min_ram,
        tags=() if choice.candidate else tags,
        properties=_with(known, choice.properties),
        visibility=choice.visibility,
        protected=choice.protected,
    )
    _check(described, tags)
    return described


def check_choice(choice: Choice) -> None:
    """Raise UsageError for what Glance would not take, before there is an artifact."""
    tags = _tags(choice)
    chosen = _with({}, choice.properties)
    _check(Description(choice.name or TAG, "", 0, 0, (), chosen), tags)


def _known(view: ArtifactView, fmt: str) -> dict[str, str]:
    """What the manifest says, in the words of Nova and Glance."""
    content = view.content
    agent = content.get("agent")
    agent = agent if isinstance(agent, Mapping) else {}
    arch = str(content.get("arch") or "")
    found = {
        properties.RNG: "virtio",
        properties.OS_TYPE: "linux",
        properties.OS_DISTRO: str(content.get("os") or ""),
        properties.OS_VERSION: _os_version(view),
        properties.ARCHITECTURE: _ARCHITECTURES.get(Arch(arch), "") if arch in set(Arch) else "",
        # Images for amd64 start by BIOS and by UEFI: what the cloud prefers is right.
        properties.FIRMWARE: "uefi" if arch == Arch.ARM64 else "",
        properties.BUILD_ID: view.build_id,
        properties.ARTIFACT: view.name,
        properties.FORMAT: fmt,
        properties.AGENT_SERIES: str(agent.get("series") or ""),
        properties.AGENT_VERSION: str(agent.get("version") or ""),
        properties.DEV: "true" if view.is_dev else "false",
    }
    found = {name: value for name, value in found.items() if value}
    return found | (_VMDK if fmt == "vmdk" else {})


def _os_version(view: ArtifactView) -> str:
    if view.has(components.FILE_NAME) and (found := view.components.os.get("VERSION_ID")):
        return found
    release = str(view.content.get("release") or "")
    return _VERSIONS.get(release, release)


def _tags(choice: Choice) -> tuple[str, ...]:
    """All tags that the image is meant for, each once."""
    return tuple(dict.fromkeys(choice.tags or (TAG, *choice.datastores)))


def _gib(size: int | None) -> int:
    return -(-(size or 0) // _GIB)


def _min_ram(view: ArtifactView) -> int:
    said = view.content.get("min_ram")
    return said if isinstance(said, int) else MIN_RAM


def _with(known: Mapping[str, str], chosen: Mapping[str, str | None]) -> dict[str, str]:
    for name in chosen:
        if name in _NOT_PROPERTIES or name.startswith("os_glance_"):
            raise UsageError(
                f"--property: {name} is no property",
                detail="it is an attribute that Glance sets, or that has its own option",
            )
        if name.startswith(properties.PREFIX):
            raise UsageError(
                f"--property: {name} is not to be chosen",
                detail="other commands go by what these properties say of the artifact",
            )
    return {n: v for n, v in {**known, **chosen}.items() if v is not None}


def _check(described: Description, tags: Sequence[str]) -> None:
    """Raise UsageError for what is longer than Glance takes, or empty."""
    texts = [("the name", described.name)]
    texts += [("a tag", t) for t in tags]
    texts += [("a property's name", n) for n in described.properties]
    texts += [(f"the property {n}", v) for n, v in described.properties.items()]
    for what, text in texts:
        if len(text) > LONGEST:
            raise UsageError(
                f"{what} is longer than Glance takes", where=text[:60] + "…",
                detail=f"{len(text)} characters; {LONGEST} is the limit",
            )  # fmt: skip
    if not all(tags) or not all(described.properties) or not described.name:
        raise UsageError("a name, a tag or a property's name is empty")
    if any("," in t for t in tags):
        raise UsageError("a tag with a comma in it", detail="Trove separates tags by commas")
