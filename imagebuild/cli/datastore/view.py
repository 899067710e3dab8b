"""What the commands of `datastore` show of versions and images, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cloud.datastores import DatastoreVersion
    from imagebuild.datastore.resolution import Candidate

SCHEMA_VERSION = 1
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
_SHORT = 8


def image_json(candidate: Candidate | None) -> dict[str, Any] | None:
    """An image as `--json` tells it."""
    if candidate is None:
        return None
    image = candidate.image
    return {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "visibility": image.visibility,
        "owner": image.owner,
        "foreign": candidate.is_foreign,
        "tags": sorted(image.tags),
        "created": image.created.isoformat(),
        "build_id": candidate.build_id or None,
        "agent_version": candidate.agent_version or None,
        "agent_series": candidate.agent_series or None,
    }


def version_json(version: DatastoreVersion) -> dict[str, Any]:
    """A version as `--json` tells it."""
    return {
        "id": version.id,
        "datastore": version.datastore,
        "name": version.name,
        "number": version.number,
        "manager": version.manager,
        "image": version.image or None,
        "image_tags": list(version.image_tags),
        "packages": list(version.packages),
        "active": version.is_active,
        "default": version.is_default,
        "registry_ext": version.registry_ext,
        "repl_strategy": version.repl_strategy,
    }


def image_line(candidate: Candidate) -> str:
    """An image in one line: name, id, build, agent, age, and whose it is."""
    image = candidate.image
    parts = [f"{image.name or 'without a name'} ({image.id[:_SHORT]})"]
    if candidate.build_id:
        parts.append(f"build {candidate.build_id[:_SHORT]}")
    if agent := agent_text(candidate):
        parts.append(f"agent {agent}")
    parts.append(f"{age(image.created)} old")
    if candidate.is_foreign:
        parts.append(f"of project {image.owner[:_SHORT]}")
    return ", ".join(parts)


def agent_text(candidate: Candidate) -> str:
    """ "25.1.0 (2026.1)", or what of it is known."""
    series = f"({candidate.agent_series})" if candidate.agent_series else ""
    return " ".join(filter(None, (candidate.agent_version, series)))


def age(since: datetime, now: datetime | None = None) -> str:
    """ "3 days", in the largest unit that fits."""
    seconds = ((now or datetime.now(timezone.utc)) - since).total_seconds()
    for unit, length in _UNITS:
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "a moment"


def notes(texts: Sequence[str]) -> None:
    """Say notes, each with its further lines set in."""
    for text in texts:
        terminal.info("note: " + text.replace("\n", "\n      "))
