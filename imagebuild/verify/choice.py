"""Which databases an image is proven with: those that were asked for, or that it brings; and
what else people write for a verification.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imagebuild.config.values import parse_duration
from imagebuild.errors import UsageError
from imagebuild.registry.reference import Reference
from imagebuild.verify.dialect import DIALECTS
from imagebuild.verify.instance import SECONDS, Database, Registry
from imagebuild.verify.results import Level
from imagebuild.verify.watch import MILESTONES

#: Names of repositories as the official images have them -> Trove's names of the datastores.
_BY_REPOSITORY = {"mysql": "mysql", "mariadb": "mariadb", "postgres": "postgresql",
                  "postgresql": "postgresql"}  # fmt: skip
_BACKUP = "db-backup-"
_SPEC = re.compile(r"(?P<datastore>[a-z]+):(?P<version>[\w][\w.-]{0,127})(?:=(?P<image>\S+))?")


def of_spec(text: str) -> Database:
    """`DATASTORE:VERSION[=IMAGE]`; IMAGE (without a tag) is what the guest is configured with,
    Trove's own default when it is left out. Raises UsageError.
    """
    found = _SPEC.fullmatch(text)
    if not found or found["datastore"] not in DIALECTS:
        raise UsageError(
            f"not a database: {text}",
            detail=f"DATASTORE is one of {', '.join(sorted(DIALECTS))}",
            hint="DATASTORE:VERSION[=IMAGE], for example"
            " mariadb:10.11=registry.example/trove-datastores/mariadb",
        )
    datastore = found["datastore"]
    default = "postgres" if datastore == "postgresql" else datastore
    image = found["image"] or default
    if ":" in image.rpartition("/")[2] or "@" in image:
        raise UsageError(
            f"the image of a database has a tag: {image}",
            detail="Trove appends the datastore version's number itself",
            hint=f"leave it out: {text.rpartition(':')[0]}",
        )
    return Database(datastore, found["version"], image)


def of_content(content: Mapping[str, Any]) -> list[Database]:
    """The databases whose containers are preloaded, with their backup images."""
    targets = [Reference.parse(c["target"]) for c in content.get("containers") or ()]
    named = [(t.repository.rpartition("/")[2], t) for t in targets if t.tag]
    backups = {last.removeprefix(_BACKUP): t for last, t in named if last.startswith(_BACKUP)}
    found = []
    for last, target in named:
        datastore = _BY_REPOSITORY.get(last)
        if datastore:
            backup = backups.get(datastore)
            found.append(
                Database(datastore, target.tag, target.name, backup.name if backup else "")
            )
    return found


def registries(texts: Iterable[str], *, insecure: bool) -> list[Registry]:
    """`HOST:PORT=LOCAL_PORT` each: where the guest looks for images, and where that is on the
    host's loopback. Raises UsageError.
    """
    found = []
    for text in texts:
        name, _, port = text.rpartition("=")
        if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+:\d+", name) or not port.isdecimal():
            raise UsageError(
                f"not a registry: {text}",
                hint="ADDRESS:PORT=LOCAL_PORT, for example 169.254.0.6:5000=5000",
            )
        found.append(Registry(name, int(port), insecure))
    return found


def with_registry(databases: Sequence[Database], known: Sequence[Registry]) -> list[Database]:
    """Each database with the registry that its image is in, where one is known."""
    by_address = {r.address: r for r in known}
    return [
        dataclasses.replace(d, registry=by_address.get(d.image.partition("/")[0]))
        for d in databases
    ]


def databases(
    name: str,
    content: Mapping[str, Any],
    level: Level,
    *,
    specs: Sequence[str] = (),
    backups: Sequence[str] = (),
    registry_texts: Sequence[str] = (),
    insecure: bool = False,
) -> tuple[Database, ...]:
    """The databases of the later levels: as `specs`, `backups` and `registry_texts` say
    (--database, --backup-image, --registry), else those that the image `name` brings in its
    `content`. Raises UsageError.
    """
    if specs:
        found = [of_spec(s) for s in specs]
    else:
        found = of_content(content)
        if not found and level is Level.DATABASE:
            raise UsageError(
                "no database is named, and the image brings none",
                where=name,
                hint="--database DATASTORE:VERSION[=IMAGE]",
            )
    named = dict(_pair(b, "--backup-image", "DATASTORE=IMAGE") for b in backups)
    if unknown := set(named) - {d.datastore for d in found}:
        raise UsageError(
            f"--backup-image names a datastore that is not verified: {', '.join(sorted(unknown))}"
        )
    found = [
        dataclasses.replace(d, backup_image=named.get(d.datastore, d.backup_image)) for d in found
    ]
    return tuple(with_registry(found, registries(registry_texts, insecure=insecure)))


def limits(texts: Sequence[str]) -> Mapping[str, float]:
    """Seconds by milestone or step, of `MILESTONE=TIME` each (--timeout). Raises UsageError."""
    found = {}
    for text in texts:
        name, limit = _pair(text, "--timeout", "MILESTONE=TIME")
        if name not in (known := (*MILESTONES, *SECONDS)):
            raise UsageError(
                f"--timeout: there is no milestone {name!r}", detail="known: " + ", ".join(known)
            )
        try:
            found[name] = float(parse_duration(limit))
        except ValueError as exc:
            raise UsageError(f"--timeout {text}: {exc}") from exc
    return found


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    found = re.fullmatch(r"([\w-]+)=(\S+)", text)
    if not found:
        raise UsageError(f"{option} {text}: {form} is expected")
    return found[1], found[2]
