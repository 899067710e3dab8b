"""Tests of the services and the state that other tests stand on."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.exceptions import ConnectFailure
from keystoneauth1.identity.base import BaseIdentityPlugin
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from openstack.exceptions import ForbiddenException

from tests.services import environment
from tests.services.cloud import TestCloud, new_cloud, wait_until
from tests.services.environment import installer_env
from tests.services.proxy import Answer, CutRequest, Rule

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


def test_what_a_test_leaves_is_gone_after_it(cloud: TestCloud) -> None:
    admin = connect(cloud, "admin")
    image_id = upload(admin, is_protected=True, tags=["trove", "mysql"])
    version = create_version(admin)
    cloud.add_instance(version)
    cloud.proxies.glance.add(Rule("*", "", Answer(500), times=None))
    cloud.reset()
    assert list(admin.image.images()) == []
    assert not cloud.image_file(image_id).exists()
    assert admin.database.get("/datastores").json() == {"datastores": []}
    assert cloud.sql("SELECT COUNT(*) FROM instances") == [["0"]]
    assert list(connect(cloud, "admin-proxied").image.images()) == []


def test_instances_and_backups_hold_a_version(cloud: TestCloud) -> None:
    """Those that are deleted, too, by the references of their rows: Trove does not say so."""
    admin = connect(cloud, "admin")
    upload(admin, tags=["trove", "mysql"])
    version = create_version(admin)
    path = f"/mgmt/datastore-versions/{version}"
    for thing, add in (("instance", cloud.add_instance), ("backup", cloud.add_backup)):
        row = add(version)
        assert f"in use by {thing}" in admin.database.delete(path).text
        cloud.sql(f"UPDATE {thing}s SET deleted = 1 WHERE id = '{row}'")  # noqa: S608
        assert admin.database.delete(path).status_code == 500
        cloud.sql(f"DELETE FROM {thing}s")  # noqa: S608
    assert admin.database.delete(path).status_code == 202


def test_an_instance_is_made_of_an_image_that_is_there(cloud: TestCloud) -> None:
    """As far as trove-api goes, which asks Glance for the image."""
    admin, demo = connect(cloud, "admin"), connect(cloud, "demo")
    image_id = upload(admin, tags=["trove", "mysql"])
    version = create_version(admin)
    there, gone = cloud.add_instance(version, "there"), cloud.add_instance(version, deleted=True)
    answer = demo.database.post("/instances", json=cloud.new_instance("mysql", "8.4"))
    assert answer.status_code == 200, answer.text
    found = {i["name"]: i["status"] for i in demo.database.get("/instances").json()["instances"]}
    assert found == {"there": "ACTIVE", "new": "BUILD"}
    new = answer.json()["instance"]["id"]
    for query, ids in (
        ("", {there, gone, new}), ("?deleted=false", {there, new}), ("?deleted=true", {gone}),
    ):  # fmt: skip
        listed = admin.database.get(f"/mgmt/instances{query}").json()["instances"]
        assert {i["id"] for i in listed} == ids
    assert admin.database.get(f"/mgmt/instances/{there}").status_code == 200
    admin.image.delete_image(image_id)
    answer = demo.database.post("/instances", json=cloud.new_instance("mysql", "8.4"))
    assert "Failed to retrieve image with tags" in answer.text


def test_trove_takes_the_newest_match_of_any_project(cloud: TestCloud) -> None:
    """Which is why tools must look: our cloud has a project whose image may match."""
    admin, other = connect(cloud, "admin"), connect(cloud, "other")
    upload(admin, tags=["trove", "mysql"])
    version = create_version(admin)
    image_id = upload(other, tags=["trove", "mysql"], visibility="private")
    matching = admin.image.get(
        "/images", params={"tag": ["trove", "mysql"], "sort": "created_at:desc"}
    ).json()["images"]
    assert matching[0]["id"] == image_id
    assert matching[0]["owner"] == cloud.project_id("other") != cloud.project_id("admin")
    assert len(matching) == 2
    assert version


def test_a_service_has_other_settings_until_the_test_ends(cloud: TestCloud) -> None:
    changes = {"user_storage_quota": "1MB", "enabled_import_methods": "[]"}
    cloud.restart("glance", {"DEFAULT": changes})
    demo = connect(cloud, "demo")
    path = f"/images/{new_image(demo)}/file"
    octets = {"Content-Type": "application/octet-stream"}
    assert demo.image.put(path, data=b"x" * 1_500_000, headers=octets).status_code == 413
    assert import_methods(cloud) == []
    cloud.reset()
    assert import_methods(cloud) == ["glance-direct", "web-download", "copy-image"]
    upload(connect(cloud, "demo"), data=b"x" * 1_500_000)


def import_methods(cloud: TestCloud) -> list[str]:
    info = connect(cloud, "demo").image.get("/info/import").json()
    return list(info["import-methods"]["value"])


def test_a_stopped_service_is_away_until_it_is_started(cloud: TestCloud) -> None:
    cloud.stop("trove")
    with pytest.raises(ConnectFailure):
        connect(cloud, "admin").database.get("/datastores")
    cloud.reset()
    assert connect(cloud, "admin").database.get("/datastores").status_code == 200


def test_glance_downloads_from_a_tests_server(cloud: TestCloud, tmp_path: Path) -> None:
    (tmp_path / "guest.img").write_bytes(b"y" * 1000)
    demo = connect(cloud, "demo")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", cloud.ports.web[0]), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for name, status in (("guest.img", "success"), ("nothing", "failure")):
                image_id = new_image(demo)
                uri = f"http://127.0.0.1:{cloud.ports.web[0]}/{name}"
                method = {"name": "web-download", "uri": uri}
                demo.image.post(f"/images/{image_id}/import", json={"method": method})
                wait_until(lambda i=image_id: task(demo, i) in ("success", "failure"))
                assert task(demo, image_id) == status
        finally:
            server.shutdown()
            thread.join()


def new_image(connection: Connection) -> str:
    wanted = {"name": "guest", "disk_format": "raw", "container_format": "bare"}
    return str(connection.image.post("/images", json=wanted).json()["id"])


def task(connection: Connection, image_id: str) -> str:
    (found,) = connection.image.get(f"/images/{image_id}/tasks").json()["tasks"]
    return str(found["status"])


def test_a_staged_image_is_imported(cloud: TestCloud) -> None:
    demo = connect(cloud, "demo-proxied")
    image_id = new_image(demo)
    octets = {"Content-Type": "application/octet-stream"}
    assert demo.image.put(f"/images/{image_id}/stage", data=b"z" * 999, headers=octets).ok
    answer = demo.image.post(
        f"/images/{image_id}/import", json={"method": {"name": "glance-direct"}}
    )
    assert answer.status_code == 202
    wait_until(lambda: task(demo, image_id) == "success")
    assert cloud.image_file(image_id).read_bytes() == b"z" * 999


def test_an_upload_that_is_cut_leaves_no_active_image(cloud: TestCloud) -> None:
    demo = connect(cloud, "demo-proxied")
    image_id = new_image(demo)
    cloud.proxies.glance.add(Rule("PUT", "/file$", CutRequest(after=500_000)))
    with pytest.raises(ConnectFailure):
        demo.image.put(f"/images/{image_id}/file", data=b"x" * 1_000_000,
                       headers={"Content-Type": "application/octet-stream"})  # fmt: skip
    (cut,) = cloud.proxies.glance.seen("PUT", "/file$")
    assert cut.received == 500_000
    wait_until(lambda: demo.image.get(f"/images/{image_id}").json()["status"] == "queued")


def test_a_token_ends_as_keystone_was_told(cloud: TestCloud) -> None:
    with cloud.configured("keystone", {"token": {"expiration": "40"}}):
        session = connect(cloud, "demo").session
        assert isinstance(session.auth, BaseIdentityPlugin)
        ends = session.auth.get_access(session).expires
        assert ends is not None
        left = ends - datetime.now(timezone.utc)
        assert 0 < left.total_seconds() <= 40


def test_a_member_may_not_publicise(cloud: TestCloud) -> None:
    with pytest.raises(ForbiddenException, match="publicize_image"):
        upload(connect(cloud, "demo"), visibility="public")
    upload(connect(cloud, "admin"), visibility="public")


def test_trove_manage_loads_parameters(cloud: TestCloud, tmp_path: Path) -> None:
    admin = connect(cloud, "admin")
    upload(admin, tags=["trove", "mysql"])
    version = create_version(admin)
    rule = {"name": "autocommit", "restart_required": False, "type": "boolean"}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"configuration-parameters": [rule]}))
    command = [*cloud.trove_manage, "db_load_datastore_config_parameters", "mysql", "8.4",
               str(rules), "--version", "8.4"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    answer = admin.database.get(f"/mgmt/datastores/versions/{version}/parameters").json()
    assert [p["name"] for p in answer["configuration-parameters"]] == ["autocommit"]


def test_the_openstack_client_sees_the_same(cloud: TestCloud, tmp_path: Path) -> None:
    image_id = upload(connect(cloud, "demo"))
    done = subprocess.run(
        [cloud.venv / "bin/openstack", "image", "list", "-f", "json"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **cloud.openrc("demo-proxied")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [i["ID"] for i in json.loads(done.stdout)] == [image_id]
    assert cloud.proxies.glance.count("GET", "/v2/images") == 1


def test_another_one_starts_beside_it(cloud: TestCloud, tmp_path: Path) -> None:
    """From the prepared state, which no run changes; with ports of its own."""
    upload(connect(cloud, "admin"))
    started = time.monotonic()
    with new_cloud(tmp_path / "second") as second:
        print(f"a cloud took {time.monotonic() - started:.1f} s; KiB: {second.memory()}")
        assert second.ports.glance != cloud.ports.glance
        assert list(connect(second, "admin").image.images()) == []
    with pytest.raises(ConnectFailure):
        connect(second, "admin").image.get("/images")


def test_two_sessions_make_one_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second waits, and finds what the first has made."""
    made: list[Path] = []

    def make(draft: Path, _requirements: Path) -> None:
        made.append(draft)
        time.sleep(0.3)
        draft.mkdir()

    monkeypatch.setattr(environment, "_make", make)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(environment.environment, [tmp_path] * 3))
    assert len(made) == 1
    assert len(set(found)) == 1
    assert found[0].is_dir()
    assert not made[0].exists()


def test_the_installer_asks_the_indexes_of_pip(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://me:s%40fe@pypi.example/simple\n"
        "extra-index-url = https://more.example/simple\ncert = /etc/ca.pem\n"
        "trusted-host = more.example\n"
    )
    env = installer_env({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path),
                         "https_proxy": "http://proxy.example:3128"})  # fmt: skip
    assert env["UV_DEFAULT_INDEX"] == "https://me:s%40fe@pypi.example/simple"
    assert env["UV_INDEX"] == "https://more.example/simple"
    assert env["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert env["UV_INSECURE_HOST"] == "more.example"
    assert env["https_proxy"] == "http://proxy.example:3128"
    assert "UV_FIND_LINKS" not in env
