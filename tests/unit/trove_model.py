"""Trove's bookkeeping of datastore versions, as its service does it (in memory).

Written after trove/extensions/mgmt/datastores/service.py and update_datastore[_version] of
trove/datastore/models.py, so that plans can be tried by the thousand. That Trove does behave
so is what tests/services shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from imagebuild.cloud.datastores import DatastoreVersion
from imagebuild.datastore.managers import MANAGERS


class NoUniqueMatchError(Exception):
    """Several versions have the name by which Trove looks for the default."""


class Trove:
    """Versions by id."""

    def __init__(self, versions: tuple[DatastoreVersion, ...]) -> None:
        self.versions = {v.id: v for v in versions}

    @property
    def all(self) -> list[DatastoreVersion]:
        return list(self.versions.values())

    def create(self, body: Mapping[str, Any]) -> None:
        number = body.get("version", body["name"])
        key = (body["datastore_name"], body["name"], number)
        assert key not in {(v.datastore, v.name, v.number) for v in self.all}
        manager = MANAGERS[body["datastore_manager"]]
        assert bool(body.get("image")) != bool(body.get("image_tags"))
        made = DatastoreVersion(
            id=f"v{len(self.versions)}",
            datastore_id=body["datastore_name"],
            datastore=body["datastore_name"],
            name=body["name"],
            number=number,
            manager=body["datastore_manager"],
            image=body.get("image") or "",
            image_tags=tuple(body.get("image_tags", ())),
            packages=tuple(body["packages"]),
            is_active=body["active"],
            is_default=False,
            registry_ext=body.get("registry_ext") or manager.registry_ext,
            repl_strategy=body.get("repl_strategy") or manager.repl_strategy,
        )
        self.versions[made.id] = made
        if body["default"]:
            self._set_default(made.datastore, made.name)

    def patch(self, version_id: str, body: Mapping[str, Any]) -> None:
        old = self.versions[version_id]
        image, tags = body.get("image"), body.get("image_tags")
        if not image and tags:
            image = ""
        new = dataclasses.replace(
            old,
            image=old.image if image is None else image,
            image_tags=old.image_tags if tags is None else tuple(tags),
            manager=body.get("datastore_manager", old.manager),
            packages=tuple(body.get("packages", old.packages)),
            is_active=body.get("active", old.is_active),
            registry_ext=body.get("registry_ext", old.registry_ext),
            repl_strategy=body.get("repl_strategy", old.repl_strategy),
        )
        assert new.image or new.image_tags, "Image must be specified."
        self.versions[version_id] = new
        if body.get("default"):
            self._set_default(new.datastore, new.name)
        elif body.get("default") is False and new.is_default:
            self.versions[version_id] = dataclasses.replace(new, is_default=False)

    def _set_default(self, datastore: str, name: str) -> None:
        same = [v for v in self.all if v.datastore == datastore]
        named = [v for v in same if v.name == name]
        if len(named) > 1:
            raise NoUniqueMatchError
        assert named[0].is_active
        for version in same:
            is_default = version.id == named[0].id
            self.versions[version.id] = dataclasses.replace(version, is_default=is_default)
