"""A bill as CycloneDX 1.6 in JSON (cyclonedx.org/docs/1.6/json)."""

from __future__ import annotations

import json
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalContact, OrganizationalEntity
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from imagebuild.sbom.parts import Bill, Group, ImageFile, Part


def document(bill: Bill) -> dict[str, Any]:
    """The JSON document."""
    answer: dict[str, Any] = json.loads(JsonV1Dot6(_bom(bill)).output_as_string())
    return answer


def _bom(bill: Bill) -> Bom:
    image = Component(
        name=bill.name,
        version=bill.version,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        description=bill.description,
        components=[_file(f) for f in bill.files],
    )
    tool = Component(
        name="imagebuild",
        version=bill.tool_version,
        type=ComponentType.APPLICATION,
        bom_ref="imagebuild",
    )
    parts = [_part(p) for p in bill.parts]
    groups = [_group(g) for g in bill.groups]
    bom = Bom(
        serial_number=bill.uuid,
        metadata=BomMetaData(
            timestamp=bill.time, component=image, tools=ToolRepository(components=[tool])
        ),
        components=[*parts, *groups],
    )
    bom.register_dependency(image, [*parts, *groups])
    for group in groups:
        bom.register_dependency(group, group.components)
    return bom


def _file(file: ImageFile) -> Component:
    return Component(
        name=file.name, type=ComponentType.FILE, bom_ref=file.id, hashes=[_sha256(file.sha256)]
    )


def _group(group: Group) -> Component:
    return Component(
        name=group.name,
        version=group.version or None,
        type=ComponentType.CONTAINER if group.purl else ComponentType.APPLICATION,
        bom_ref=group.id,
        description=group.description,
        purl=group.purl,
        hashes=[_sha256(group.sha256)] if group.sha256 else [],
        properties=[Property(name="imagebuild:comment", value=group.comment)]
        if group.comment
        else [],
        components=[_part(p) for p in group.parts],
    )


def _part(part: Part) -> Component:
    licences = []
    if part.licence:
        made = LicenseFactory().make_from_string(
            part.licence, license_acknowledgement=LicenseAcknowledgement.DECLARED
        )
        licences.append(made)
    links = []
    if part.homepage:
        links.append(
            ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(part.homepage))
        )
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        bom_ref=part.id,
        purl=part.purl,
        supplier=OrganizationalEntity(name=part.maintainer) if part.maintainer else None,
        authors=[OrganizationalContact(name=part.author)] if part.author else [],
        licenses=licences,
        hashes=[_sha256(part.sha256)] if part.sha256 else [],
        external_references=links,
    )


def _sha256(content: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=content)
