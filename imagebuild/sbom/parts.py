"""What an SBOM lists, before it is one: the same parts for SPDX and for CycloneDX."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from packageurl import PackageURL

from imagebuild.components import (
    Components,
    Container,
    ContainerPackage,
    DebPackage,
    PythonPackage,
)
from imagebuild.registry.reference import Reference

#: Ids of our documents are made from build ids below this name (RFC 9562, version 5).
_NAMESPACE = uuid.UUID("6f1d6c0e-3d0b-5c9c-9b7e-2f6f0a3b7a51")


@dataclass(frozen=True)
class Part:
    """One package. `id` is unique in the document; `licence` is an SPDX expression or empty.

    `maintainer` is who hands it out, `author` who wrote it; `sha256` is of the file that it
    was installed from, where that is known.
    """

    id: str
    name: str
    version: str
    purl: PackageURL
    licence: str
    homepage: str
    maintainer: str = ""
    author: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Group:
    """Packages that lie together in a place of their own inside the image: the agent's venv, a
    container. `sha256` and `purl` are a container's alone; `comment` says what is not known.
    """

    id: str
    name: str
    description: str
    parts: tuple[Part, ...]
    version: str = ""
    purl: PackageURL | None = None
    sha256: str = ""
    comment: str = ""


@dataclass(frozen=True)
class ImageFile:
    """A file of the artifact that holds the image."""

    id: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Bill:
    """All that an SBOM says of an image.

    `parts` are the packages of the distribution. What else an image holds comes as a group
    each, with purls of its own kind.
    """

    name: str
    version: str
    description: str
    uuid: uuid.UUID
    time: datetime.datetime
    tool_version: str
    parts: tuple[Part, ...]
    groups: tuple[Group, ...]
    files: tuple[ImageFile, ...]


def make_bill(manifest: Mapping[str, Any], components: Components, epoch: int) -> Bill:
    """The bill of an image. The same arguments give the same bill: its time is `epoch`
    (seconds), its id comes from the build id.
    """
    agent = manifest["content"].get("agent", {})
    wheels = agent.get("wheels", {})
    venv = tuple(_of_python(p, wheels.get(p.name, "")) for p in components.pythons)
    groups = []
    if venv:
        description = "Virtual environment of the guest agent, /opt/guest-agent-venv"
        groups.append(Group("guest-agent-venv", "guest-agent-venv", description, venv))
    groups += [_of_container(c) for c in components.containers]
    return Bill(
        name=manifest["name"],
        version=manifest["build_id"],
        description=f"Guest image of OpenStack Trove, {components.os.get('PRETTY_NAME', '')}",
        uuid=uuid.uuid5(_NAMESPACE, manifest["build_id"]),
        time=datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc),
        tool_version=manifest["tools"]["imagebuild"],
        parts=tuple(_of_deb(d, components.os) for d in components.debs),
        groups=tuple(groups),
        files=tuple(
            ImageFile(f"image-{o['format']}", o["file"], o["sha256"]) for o in manifest["outputs"]
        ),
    )


def _of_container(container: Container) -> Group:
    id_ = f"oci-{container.target}"
    source = Reference.parse(container.source)
    return Group(
        id=id_,
        name=container.target,
        description=f"Container image in docker's store, from {container.source}",
        parts=tuple(_of_packed(p, container.os, id_) for p in container.packages),
        version=container.manifest,
        purl=oci_purl(source, container.manifest),
        sha256=container.manifest.removeprefix("sha256:"),
        comment="; ".join(f"not readable: {text}" for text in container.unread),
    )


def oci_purl(source: Reference, manifest: str) -> PackageURL:
    """`pkg:oci/NAME@sha256:…?repository_url=HOST/PATH/NAME&tag=…`; the digest is the manifest's."""
    qualifiers = {"repository_url": source.name}
    if source.tag:
        qualifiers["tag"] = source.tag
    name = source.repository.rpartition("/")[2]
    return PackageURL("oci", None, name, manifest, qualifiers)


def _of_packed(package: ContainerPackage, system: Mapping[str, str], group: str) -> Part:
    # Several versions and architectures of one package may be there.
    words = (package.kind, package.name, package.version, package.arch)
    return Part(
        id=f"{group}-{'-'.join(filter(None, words))}",
        name=package.name,
        version=package.version,
        purl=_packed_purl(package, system),
        licence=package.licence,
        homepage="",
    )


def _packed_purl(package: ContainerPackage, system: Mapping[str, str]) -> PackageURL:
    if package.kind == "deb":
        return deb_purl(package, system)
    if package.kind == "pypi":
        return PackageURL("pypi", None, package.name, package.version)
    name = system.get("ID", "")
    qualifiers = {"arch": package.arch}
    if version := system.get("VERSION_ID", ""):
        qualifiers["distro"] = f"{name}-{version}"
    if package.source and package.source != package.name:
        qualifiers["upstream"] = package.source
    epoch, colon, version = package.version.rpartition(":")
    if colon:  # an rpm's epoch is no part of the version here
        qualifiers["epoch"] = epoch
    return PackageURL(package.kind, name or None, package.name, version, qualifiers)


def deb_purl(package: DebPackage | ContainerPackage, os_release: Mapping[str, str]) -> PackageURL:
    """`pkg:deb/debian/NAME@VERSION?arch=…&distro=debian-12&upstream=…`.

    The namespace and `distro` are os-release's ID and VERSION_ID; `upstream` is the source
    package, and its version where it has another, which scanners match advisories by.
    """
    system = os_release.get("ID", "debian")
    qualifiers = {"arch": package.arch}
    if version := os_release.get("VERSION_ID", ""):
        qualifiers["distro"] = f"{system}-{version}"
    if package.source_version != package.version:
        qualifiers["upstream"] = f"{package.source}@{package.source_version}"
    elif package.source != package.name:
        qualifiers["upstream"] = package.source
    return PackageURL("deb", system, package.name, package.version, qualifiers)


def _of_deb(package: DebPackage, os_release: Mapping[str, str]) -> Part:
    return Part(
        id=f"deb-{package.name}-{package.arch}",
        name=package.name,
        version=package.version,
        purl=deb_purl(package, os_release),
        licence=package.licence,
        homepage=_url(package.homepage),
        maintainer=package.maintainer,
    )


def _of_python(package: PythonPackage, sha256: str) -> Part:
    return Part(
        id=f"pypi-{package.name}",
        name=package.name,
        version=package.version,
        purl=PackageURL("pypi", None, package.name, package.version),
        licence=package.licence,
        homepage=_url(package.homepage),
        author=package.author,
        sha256=sha256,
    )


def _url(text: str) -> str:
    """The text when it is a web address that both formats accept, else nothing."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    except ValueError:
        return ""
    return text if good and text.isascii() and text.isprintable() and " " not in text else ""
