"""A bill as SPDX 2.3 in JSON (spdx.github.io/spdx-spec/v2.3)."""

from __future__ import annotations

import functools
import re
from typing import Any

from license_expression import Licensing, get_spdx_licensing
from packageurl import PackageURL
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model.actor import Actor, ActorType
from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
from spdx_tools.spdx.model.document import CreationInfo, Document
from spdx_tools.spdx.model.package import (
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
)
from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion

from imagebuild.sbom.parts import Bill, Group, ImageFile, Part

_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"
_TEAM = re.compile(
    r"\b(team|maintainers|developers|group|packagers|packages)\b|@(lists|tracker)\.", re.I
)
_ADDRESS = re.compile(r"(?P<name>[^<]*?)\s*<(?P<email>[^<>\s]+@[^<>\s]+)>")


def document(bill: Bill) -> dict[str, Any]:
    """The JSON document."""
    answer: dict[str, Any] = DocumentConverter().convert(model(bill))  # type: ignore[no-untyped-call]
    for package in answer["packages"]:
        for reference in package.get("externalRefs", []):
            # The library writes PACKAGE_MANAGER, which the schema of 2.3 does not have.
            category = reference["referenceCategory"]
            reference["referenceCategory"] = category.replace("_", "-")
    return answer


def model(bill: Bill) -> Document:
    """The bill as spdx-tools has it; its validator takes such a value."""
    packages = [_image(bill), *map(_file, bill.files), *map(_part, bill.parts)]
    links = [(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    links += [(_IMAGE, RelationshipType.EXPANDED_FROM_ARCHIVE, _id(f.id)) for f in bill.files]
    links += [(_IMAGE, RelationshipType.CONTAINS, _id(p.id)) for p in bill.parts]
    for group in bill.groups:
        packages += [_group(group), *map(_part, group.parts)]
        links.append((_IMAGE, RelationshipType.CONTAINS, _id(group.id)))
        links += [(_id(group.id), RelationshipType.CONTAINS, _id(p.id)) for p in group.parts]
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=bill.name,
        document_namespace=f"https://spdx.org/spdxdocs/{bill.name}-{bill.uuid}",
        creators=[Actor(ActorType.TOOL, f"imagebuild-{bill.tool_version}")],
        created=bill.time.replace(tzinfo=None),
    )
    return Document(info, packages, relationships=[Relationship(*link) for link in links])


def _id(name: str) -> str:
    # Letters, digits, dots and dashes alone may be in an id; no two names may become the same.
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", lambda m: f"-x{ord(m[0]):x}-", name)


def _image(bill: Bill) -> Package:
    return Package(
        spdx_id=_IMAGE,
        name=bill.name,
        version=bill.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        description=bill.description,
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
    )


def _file(file: ImageFile) -> Package:
    # A package and not a file: a file of SPDX must have a SHA-1.
    return Package(
        spdx_id=_id(file.id),
        name=file.name,
        file_name=file.name,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, file.sha256)],
        primary_package_purpose=PackagePurpose.FILE,
    )


def _group(group: Group) -> Package:
    is_container = group.purl is not None
    return Package(
        spdx_id=_id(group.id),
        name=group.name,
        version=group.version or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        description=group.description,
        comment=group.comment or None,
        checksums=_sha256(group.sha256),
        external_references=[_purl(group.purl)] if group.purl else [],
        primary_package_purpose=PackagePurpose.CONTAINER
        if is_container
        else PackagePurpose.APPLICATION,
    )


def _part(part: Part) -> Package:
    licence = _licensing().parse(part.licence) if part.licence else SpdxNoAssertion()
    return Package(
        spdx_id=_id(part.id),
        name=part.name,
        version=part.version,
        supplier=_actor(part.maintainer) or SpdxNoAssertion(),
        originator=_actor(part.author),
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        homepage=part.homepage or None,
        checksums=_sha256(part.sha256),
        # What its own papers say; nobody has looked at the files.
        license_declared=licence,
        license_concluded=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[_purl(part.purl)],
        primary_package_purpose=PackagePurpose.LIBRARY,
    )


def _sha256(content: str) -> list[Checksum]:
    return [Checksum(ChecksumAlgorithm.SHA256, content)] if content else []


def _purl(purl: PackageURL) -> ExternalPackageRef:
    return ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", str(purl))


def _actor(text: str) -> Actor | None:
    """`Name <address>` as a person, or as an organization where it is clearly a team's."""
    match = _ADDRESS.match(text)
    name = match["name"].strip('" ') if match else text
    email = match["email"] if match else None
    if not name and not email:
        return None
    kind = ActorType.ORGANIZATION if _TEAM.search(text) else ActorType.PERSON
    return Actor(kind, name or str(email), email)


@functools.cache
def _licensing() -> Licensing:
    return get_spdx_licensing()
