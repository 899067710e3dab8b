"""What uses images and datastore versions: Nova's servers, Trove's instances and backups."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.service import ServiceError

_PAGE = 100


@dataclass(frozen=True)
class Usage:
    """Instances by datastore and version's name (Trove tells no more), backups by version's
    id; None where Trove could not tell, `problems` say why.
    """

    instances: Mapping[tuple[str, str], int] | None
    backups: Mapping[str, int] | None
    problems: tuple[str, ...] = ()

    def of(self, datastore: str, name: str, version_id: str) -> str:
        """For people: "2 instances, 1 backup"; empty for nothing, "?" where it is not known."""
        if self.instances is None or self.backups is None:
            return "?"
        counts = ((self.instances.get((datastore, name), 0), "instance"),
                  (self.backups.get(version_id, 0), "backup"))  # fmt: skip
        return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts if n)


def usage(cloud: Cloud) -> Usage:
    """Ask Trove for all instances and backups that are not deleted, of all projects."""
    found = Usage(None, None)
    problems = []
    try:
        found = dataclasses.replace(found, instances=instances(cloud))
    except ServiceError as exc:
        problems.append(f"Trove does not tell its instances: {exc.detail or exc.what}")
    try:
        backups = Counter(
            (b.get("datastore") or {}).get("version_id") or ""
            for b in _pages(cloud, "/backups", "backups", all_projects="true")
        )
        found = dataclasses.replace(found, backups=backups)
    except ServiceError as exc:
        problems.append(f"Trove does not tell its backups: {exc.detail or exc.what}")
    return dataclasses.replace(found, problems=tuple(problems))


def instances(cloud: Cloud, page: int = _PAGE) -> Counter[tuple[str, str]]:
    """Instances of all projects by datastore and version's name, `page` asked for at a time.

    Raises as `Service` does.
    """
    every = {"deleted": "false", "include_clustered": "true", "limit": str(page)}
    return Counter(map(_kind, _pages(cloud, "/mgmt/instances", "instances", **every)))


def servers(cloud: Cloud, image_id: str) -> int | None:
    """How many servers of all projects were made of an image; None: the cloud has no compute.

    Raises as `Service` does.
    """
    if not cloud.has("compute"):
        return None
    compute = cloud.service("compute", "nova")
    # The first page is enough: what counts is whether there are any.
    found = compute.get("/servers", all_tenants="1", image=image_id, limit=str(_PAGE))["servers"]
    return len(found)


def _kind(instance: Mapping[str, Any]) -> tuple[str, str]:
    told = instance.get("datastore") or {}
    return told.get("type") or "", told.get("version") or ""


def _pages(cloud: Cloud, path: str, key: str, **params: str) -> Iterator[Mapping[str, Any]]:
    """All entries of a list of Trove's. The marker is the link's: an offset here, an id there."""
    asked = {"limit": str(_PAGE), **params}
    while True:
        page = cloud.database.get(path, **asked)
        yield from page[key]
        links = [x["href"] for x in page.get("links", ()) if x["rel"] == "next"]
        marker = parse_qs(urlsplit(links[0]).query).get("marker") if links else None
        if not marker or not page[key] or marker[0] == asked.get("marker"):
            return
        asked["marker"] = marker[0]
