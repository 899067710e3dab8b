"""Trove's datastores and their versions, by the requests that administrators may send.

openstacksdk's own `database` knows none of them. Paths and bodies are those of Trove's
API (trove/extensions/mgmt/datastores, trove/extensions/mgmt/configuration).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from imagebuild.cloud.service import NotAllowedError, RefusedError, Service

_VERSIONS = "/mgmt/datastore-versions"
#: Limits of a version's image tags, by Trove's schema (trove/common/apischema.py).
MOST_TAGS, LONGEST_TAG = 5, 20


@dataclass(frozen=True)
class Datastore:
    """A kind of database, "mysql" say."""

    id: str
    name: str


@dataclass(frozen=True)
class DatastoreVersion:
    """A version of a datastore: which manager in the guest, which image.

    `number` is what the guest pulls (its containers' tag), `name` what users see. The image
    is one by id, else the newest that has all `image_tags`.
    """

    id: str
    datastore_id: str
    datastore: str
    name: str
    number: str
    manager: str
    image: str
    image_tags: tuple[str, ...]
    packages: tuple[str, ...]
    is_active: bool
    is_default: bool
    registry_ext: str | None
    repl_strategy: str | None

    @property
    def label(self) -> str:
        """For people: "mysql 8.4", with the number where that is another."""
        suffix = f" ({self.number})" if self.number != self.name else ""
        return f"{self.datastore} {self.name}{suffix}"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> DatastoreVersion:
        """From the document that Trove returns to administrators."""
        return cls(
            id=document["id"],
            datastore_id=document["datastore_id"],
            datastore=document["datastore_name"],
            name=document["name"],
            number=document.get("version") or document["name"],
            manager=document["datastore_manager"],
            image=document.get("image") or "",
            image_tags=_words(document.get("image_tags")),
            packages=_words(document.get("packages")),
            is_active=bool(document["active"]),
            is_default=bool(document.get("default")),
            registry_ext=document.get("registry_ext"),
            repl_strategy=document.get("repl_strategy"),
        )


class Datastores:
    """Trove of one cloud, for administrators. Raises as `Service` does."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def datastores(self) -> list[Datastore]:
        """All datastores, those without a version too."""
        found = self.service.get("/datastores")["datastores"]
        return [Datastore(d["id"], d["name"]) for d in found]

    def versions(self) -> list[DatastoreVersion]:
        """All versions of all datastores, inactive ones too."""
        with _administration():
            return [DatastoreVersion.of(d) for d in self.service.get(_VERSIONS)["versions"]]

    def get(self, version_id: str) -> DatastoreVersion:
        """One version."""
        with _administration():
            document = self.service.get(f"{_VERSIONS}/{version_id}")
        return DatastoreVersion.of(document.get("version", document))

    def create(self, body: Mapping[str, Any]) -> None:
        """A new version; `body` as in Trove's schema. Its id is found in `versions` after.

        It is sent once. Also an error does not mean that nothing was made: see there.
        """
        with _administration():
            self.service.request("POST", _VERSIONS, json={"version": dict(body)})

    def patch(self, version_id: str, changes: Mapping[str, Any]) -> None:
        """Change a version. New image tags take its image away; an image leaves its tags."""
        path = f"{_VERSIONS}/{version_id}"
        with _administration():
            self.service.request("PATCH", path, json=dict(changes), retry=True)

    def delete(self, version_id: str) -> None:
        """Remove a version with its parameters; Trove refuses while something uses it."""
        with _administration():
            self.service.request("DELETE", f"{_VERSIONS}/{version_id}", retry=False)

    def delete_datastore(self, name: str) -> None:
        """Remove a datastore; Trove refuses while it has versions."""
        with _administration():
            self.service.request("DELETE", f"/datastores/{quote(name, safe='')}", retry=False)

    def parameters(self, version_id: str) -> list[Mapping[str, Any]]:
        """The configuration parameters of a version, as Trove tells them."""
        with _administration():
            document = self.service.get(_parameters(version_id))
        found: list[Mapping[str, Any]] = document["configuration-parameters"]
        return found

    def put_parameter(self, version_id: str, body: Mapping[str, Any], *, exists: bool) -> None:
        """Create a parameter, or change the one of that name; sent again where it must be."""
        with _administration():
            if not exists:
                try:
                    self._parameter("POST", _parameters(version_id), body)
                    return
                except RefusedError as exc:
                    # Made by a request whose answer was lost, or by somebody else meanwhile.
                    if exc.status != 400 or "already exists" not in exc.message:
                        raise
            name = quote(str(body["name"]), safe="")
            self._parameter("PUT", f"{_parameters(version_id)}/{name}", body)

    def _parameter(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        document = {"configuration-parameter": dict(body)}
        self.service.request(method, path, json=document, retry=True)


def _parameters(version_id: str) -> str:
    return f"/mgmt/datastores/versions/{version_id}/parameters"


@contextmanager
def _administration() -> Iterator[None]:
    """Trove says 401 where others say 403: it is the role that is missing, not the login."""
    try:
        yield
    except NotAllowedError as exc:
        if exc.status in (401, 403):
            exc.what = "Trove lets administrators alone do this"
            exc.hint = "use credentials that have the role admin (is_admin in Trove's policy)"
        raise


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """A list that may be told as a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(p.strip() for p in parts if p.strip())
