"""Instances and backups as Trove's API knows them: rows of its database, and no guests.

Nova, Cinder and Neutron, which the API asks for an instance, are files: see
imagebuild/verify/control/fakes/cloud.py.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagebuild.verify.control import fakes

#: What an instance may be asked for with.
FLAVOR = "1"
NETWORK = "5e55104e-0000-4000-8000-000000000004"
_TIME = "2026-01-01T00:00:00Z"
#: As trove.instance.service_status has them.
_HEALTHY, _DELETED = (0x21, "healthy"), (0x05, "deleted")
_CLOUD = {
    "flavors": {FLAVOR: {"name": "small", "ram": 2048, "vcpus": 1, "disk": 10}},
    "networks": {
        NETWORK: {"name": "user", "cidr": "10.0.0.0/24", "gateway": "10.0.0.1", "first": "10.0.0.2"}
    },
}


class Instances:
    """Puts them there. `sql` asks Trove's database."""

    def __init__(self, directory: Path, sql: Callable[[str], list[list[str]]]) -> None:
        self._place = directory / "iaas"
        self._python = directory / "python"
        self._sql = sql
        _put(self._place / "cloud.json", _CLOUD)
        shutil.copytree(
            Path(fakes.__file__).parent,
            self._python / "imagebuild_fakes",
            ignore=shutil.ignore_patterns("__pycache__"),
        )

    @property
    def environ(self) -> dict[str, str]:
        """What trove-api needs in its environment."""
        return {"PYTHONPATH": str(self._python), "IMAGEBUILD_CLOUD": str(self._place)}

    def add(self, version_id: str, project_id: str, name: str, *, deleted: bool) -> str:
        """An instance of a datastore version, ACTIVE or deleted; returns its id."""
        server, volume = str(uuid.uuid4()), str(uuid.uuid4())
        found = self._insert(
            "instances",
            name=name,
            hostname=name,
            compute_instance_id=server,
            task_id=1,
            task_description="No tasks for the instance.",
            volume_id=volume,
            flavor_id=FLAVOR,
            volume_size=1,
            tenant_id=project_id,
            deleted=int(deleted),
            datastore_version_id=version_id,
        )
        code, status = _DELETED if deleted else _HEALTHY
        self._sql(
            "INSERT INTO service_statuses SET updated_at = NOW(),"
            f" id = '{found}', instance_id = '{found}',"
            f" status_id = {code}, status_description = '{status}'"
        )
        if not deleted:
            self._serve(server, volume, name)
        return found

    def _serve(self, server: str, volume: str, name: str) -> None:
        _put(
            self._place / f"volumes/{volume}.json",
            {
                "id": volume, "size": 1, "name": name, "status": "in-use", "attachments": [],
                "availability_zone": "nova", "created_at": _TIME, "bootable": "false",
            },
        )  # fmt: skip
        _put(self._place / f"servers/{server}.status", {"status": "ACTIVE"})
        _put(
            self._place / f"servers/{server}.json",
            {
                "id": server, "name": name, "flavor": {"id": FLAVOR}, "image": {"id": ""},
                "tenant_id": "service", "user_id": "trove", "host": "localhost",
                "hostId": "localhost", "metadata": {}, "created": _TIME, "updated": _TIME,
            },
        )  # fmt: skip

    def add_backup(self, version_id: str, project_id: str, name: str, *, deleted: bool) -> str:
        """A finished backup of some instance; returns its id."""
        return self._insert(
            "backups",
            name=name,
            location="http://127.0.0.1:1/backup",
            backup_type="fake",
            size=0.1,
            tenant_id=project_id,
            state="COMPLETED",
            instance_id=str(uuid.uuid4()),
            deleted=int(deleted),
            datastore_version_id=version_id,
        )

    def forget(self) -> None:
        """Remove all files; the rows are the database's."""
        for place in self._place.iterdir():
            if place.is_dir():
                shutil.rmtree(place)

    def _insert(self, table: str, **row: str | float) -> str:
        """A row with an id and its times; texts are of the tests' own making."""
        row = {"id": str(uuid.uuid4()), **row}
        now = ["created", "updated", *(["deleted_at"] if row["deleted"] else [])]
        names = ", ".join([*row, *now])
        values = ", ".join([*map(repr, row.values()), *("NOW()" for _ in now)])
        self._sql(f"INSERT INTO {table} ({names}) VALUES ({values})")  # noqa: S608
        return str(row["id"])


def wanted(datastore: str, version: str, name: str) -> dict[str, Any]:
    """The body of a POST to /instances."""
    return {
        "instance": {
            "name": name,
            "flavorRef": FLAVOR,
            "volume": {"size": 1},
            "datastore": {"type": datastore, "version": version},
            "nics": [{"network_id": NETWORK}],
        }
    }


def _put(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
