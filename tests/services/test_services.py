"""Tests of the services and the proxies that other tests stand on."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from tests.services.cloud import TestCloud

VERSION = {
    "name": "8.4", "datastore_name": "mysql", "datastore_manager": "mysql", "version": "8.4",
    "image_tags": ["trove", "mysql"], "active": True, "default": True, "packages": [],
}  # fmt: skip


def connect(cloud: TestCloud, name: str) -> Connection:
    config = OpenStackConfig(config_files=[str(cloud.clouds)], load_envvars=False)
    return Connection(config=config.get_one(cloud=name))


def upload(connection: Connection, **attributes: Any) -> str:  # noqa: ANN401 - the SDK's own
    wanted = {"name": "guest", "disk_format": "raw", "container_format": "bare", "tags": ["trove"]}
    image = connection.create_image(**{**wanted, "data": b"x" * 5000, "wait": True, **attributes})
    assert image is not None
    return str(image.id)


def create_version(connection: Connection, **changes: object) -> str:
    answer = connection.database.post(
        "/mgmt/datastore-versions", json={"version": VERSION | changes}
    )
    assert answer.status_code == 202, answer.text
    (found,) = connection.database.get("/mgmt/datastore-versions").json()["versions"]
    return str(found["id"])


@pytest.mark.parametrize("way", ["admin", "admin-proxied"])
def test_the_services_work_together(cloud: TestCloud, way: str) -> None:
    admin = connect(cloud, way)
    image_id = upload(admin, tags=["trove", "mysql"])
    assert cloud.image_file(image_id).read_bytes() == b"x" * 5000
    version = create_version(admin)
    assert cloud.sql("SELECT id, name FROM datastore_versions") == [[version, "8.4"]]
    came = [proxy.count() for proxy in cloud.proxies.all()]
    assert all(came) if way == "admin-proxied" else not any(came)
