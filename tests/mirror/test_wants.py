"""What datastore versions need, answered by real registries."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.cloud.datastores import Datastores
from imagebuild.errors import UsageError
from imagebuild.guestconf.findings import Finding, Severity
from imagebuild.guestconf.guests import guests_of
from imagebuild.guestconf.imagechecks import images_of
from imagebuild.guestconf.reading import configured, read
from imagebuild.guestconf.versions import check_versions
from imagebuild.mirror.answers import Answer, Guests, Seen, answer
from imagebuild.mirror.checking import Checker
from imagebuild.mirror.naming import NEWEST
from imagebuild.mirror.wants import ImageNames, Version, needs_of, read_version, versions_of
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.container_images import image, layer, sha256
from tests.registry_server import RegistryServer
from tests.services.cloud import TestCloud
from tests.services.datastores import add_image, connected

ROOT = Path(__file__).resolve().parents[2]
LOGIN = ("puller", "s3cret")


def put_image(server: RegistryServer, repository: str, *tags: str) -> str:
    """A small image under some tags; the digest of its layer."""
    content = layer({repository: tags[0].encode()})
    image([content]).push(server, repository, *tags)
    return sha256(content)


@pytest.fixture
def registry(target: RegistryServer) -> RegistryServer:
    return target


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("closed"), login=LOGIN) as server:
        put_image(server, "mysql", "8.4")
        put_image(server, "db-backup-mysql", "8.4")
        yield server


def names(server: RegistryServer, prefix: str, manager: str, database: str) -> ImageNames:
    place = f"{server.host}/{prefix}"
    return ImageNames(f"{place}{database}", f"{place}db-backup-{manager}")


def ask(
    versions: tuple[Version, ...],
    images: dict[str, ImageNames],
    *,
    series: str = NEWEST,
    environ: dict[str, str] | None = None,
    guests: Guests = Guests(),  # noqa: B008 - frozen
) -> list[Answer]:
    with Client(environ=environ or {}) as client, Checker(client) as checker:

        def look(reference: Reference) -> Seen:
            walk = checker.check(reference)
            return Seen(walk.digest, walk.problem)

        needs = needs_of(versions, images, series)
        return list(answer(needs, look, client.wants_login, guests))


def test_a_version_that_finds_everything(registry: RegistryServer) -> None:
    put_image(registry, "wants/a/mysql", "8.4")
    put_image(registry, "wants/a/db-backup-mysql", "8.4")
    images = {"mysql": names(registry, "wants/a/", "mysql", "mysql")}
    found = ask((read_version("mysql:8.4"),), images)
    assert [(a.ok, a.image, a.reason) for a in found] == [
        (True, f"{registry.host}/wants/a/mysql:8.4", ""),
        (True, f"{registry.host}/wants/a/db-backup-mysql:8.4", ""),
    ]
    assert all(a.digest.startswith("sha256:") for a in found)


def test_backups_fall_back_and_mysql_does_not(registry: RegistryServer) -> None:
    put_image(registry, "wants/b/mysql", "8.4.3")
    put_image(registry, "wants/b/mariadb", "10.11.9")
    put_image(registry, "wants/b/db-backup-mysql", "8.4")
    put_image(registry, "wants/b/db-backup-mariadb", "10.11")
    images = {
        "mysql": names(registry, "wants/b/", "mysql", "mysql"),
        "mariadb": names(registry, "wants/b/", "mariadb", "mariadb"),
    }
    versions = (read_version("mysql:8.4.3"), read_version("mariadb:10.11.9"))
    mysql, mysql_backup, mariadb, mariadb_backup = ask(versions, images)
    assert mysql.ok
    assert mariadb.ok
    assert mariadb_backup.ok
    assert mariadb_backup.image == f"{registry.host}/wants/b/db-backup-mariadb:10.11"
    assert "falls back" in mariadb_backup.reason
    assert not mysql_backup.ok
    assert "crashes" in mysql_backup.reason
    assert '{"8.4": ["8.4.3"]}' in mysql_backup.hint
    # What the hint says helps.
    put_image(registry, "wants/b/db-backup-mysql", "8.4.3")
    assert ask(versions, images)[1].ok
    # Before 2026.2 nobody falls back.
    older = ask(versions, images, series="2025.2")[3]
    assert not older.ok
    assert "without asking" not in older.reason
    assert '{"10.11": ["10.11.9"]}' in older.hint


def test_the_name_and_the_number_are_both_needed(registry: RegistryServer) -> None:
    put_image(registry, "wants/c/postgres", "17.2")
    put_image(registry, "wants/c/db-backup-postgresql", "17")
    images = {"postgresql": names(registry, "wants/c/", "postgresql", "postgres")}
    found = ask((read_version("postgres:17.2=17-stable"),), images)
    assert [(a.need.purpose.value, a.ok) for a in found] == [
        ("create", True),
        ("backup", True),
        ("rebuild", False),
        ("backup after rebuild", False),
    ]
    assert "17-stable" in found[2].reason
    assert "rebuilt" in found[2].need.when


def test_an_image_that_is_not_whole(registry: RegistryServer) -> None:
    lost = put_image(registry, "wants/d/mariadb", "11")
    put_image(registry, "wants/d/db-backup-mariadb", "11", "11.4")
    images = {"mariadb": names(registry, "wants/d/", "mariadb", "mariadb")}
    registry.blob_file(lost).unlink()
    database, backup = ask((read_version("mariadb:11"),), images)
    assert not database.ok
    assert lost in database.reason
    assert database.digest
    assert backup.ok


def test_a_backup_image_that_is_not_configured(registry: RegistryServer) -> None:
    put_image(registry, "wants/e/mysql", "8.4")
    found = ask(
        (read_version("mysql:8.4"),), {"mysql": ImageNames(f"{registry.host}/wants/e/mysql")}
    )
    assert [a.ok for a in found] == [True, False]
    assert "[mysql]" in found[1].hint


def test_a_name_that_trove_cannot_use(registry: RegistryServer) -> None:
    images = {"mysql": ImageNames(f"{registry.host}/mysql:8", f"{registry.host}/b:1.1")}
    database, backup = ask((read_version("mysql:8.4"),), images)
    assert not database.ok
    assert "has a tag" in database.reason
    # Of a backup image's tag, MySQL's guest makes a name of old.
    assert backup.need.chain.images == (f"{registry.host}/b8.4:1.1",)


def test_a_login_and_network_isolation(closed: RegistryServer, tmp_path: Path) -> None:
    auth = tmp_path / "config.json"
    encoded = base64.b64encode(":".join(LOGIN).encode()).decode()
    auth.write_text(json.dumps({"auths": {closed.host: {"auth": encoded}}}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    images = {"mysql": names(closed, "", "mysql", "mysql")}
    versions = (read_version("mysql:8.4"),)
    isolated, backup = ask(versions, images, environ=environ)
    assert not isolated.ok
    assert "network_isolation" in isolated.reason
    assert backup.ok
    assert "container_registry" in backup.reason
    here = Guests(isolated=False, login_at=closed.host)
    assert [a.ok for a in ask(versions, images, environ=environ, guests=here)] == [True, True]
    elsewhere = Guests(isolated=False, login_at="")
    found = ask(versions, images, environ=environ, guests=elsewhere)
    assert [a.ok for a in found] == [False, False]
    assert f"container_registry = {closed.host}" in found[0].hint


def test_images_of_a_guests_file(registry: RegistryServer, tmp_path: Path) -> None:
    file = tmp_path / "trove-guestagent.conf"
    file.write_text(
        f"[postgresql]\ndocker_image = {registry.host}/p\n"
        f"backup_docker_image = {registry.host}/b\n"
        f"[guest_agent]\ncontainer_registry = http://{registry.host}/\n"
    )
    (tmp_path / "trove.conf").write_text("[network]\nnetwork_isolation = off\n")
    both = configured([*read(file), *read(tmp_path / "trove.conf")], NEWEST)
    assert images_of(both[0]) == {
        "postgresql": ImageNames(f"{registry.host}/p", f"{registry.host}/b")
    }
    assert guests_of(*both) == Guests(isolated=False, login_at=registry.host)
    assert guests_of(*configured(read(file), NEWEST)).isolated


def by_files(text: str, tmp_path: Path, *versions: str) -> tuple[Finding, ...]:
    file = tmp_path / "trove-guestagent.conf"
    file.write_text(text)
    guest, control = configured(read(file), NEWEST)
    return check_versions(guest, control, [read_version(v) for v in versions])


def test_versions_by_peoples_own_files(registry: RegistryServer, tmp_path: Path) -> None:
    put_image(registry, "wants/g/mysql", "8.4")
    text = (
        f"[mysql]\ndocker_image = {registry.host}/wants/g/mysql\n"
        f"backup_docker_image = {registry.host}/wants/g/backup\n"
    )
    (missing,) = by_files(text, tmp_path, "mysql:8.4")
    assert missing.where.endswith("trove-guestagent.conf:3")
    assert missing.option == "[mysql] backup_docker_image"
    put_image(registry, "wants/g/backup", "8.4")
    assert by_files(text, tmp_path, "mysql:8.4") == ()
    (other,) = by_files(text, tmp_path, "mysql:8.4", "mariadb:11.4")
    assert other.option == "[mariadb]"


def test_a_datastore_with_a_name_of_its_own(registry: RegistryServer, tmp_path: Path) -> None:
    put_image(registry, "wants/h/mariadb", "11.4")
    file = tmp_path / "trove-guestagent.conf"
    place = f"{registry.host}/wants/h/mariadb"
    file.write_text(f"[mariadb]\ndocker_image = {place}\nbackup_docker_image = {place}\n")
    guest, control = configured(read(file), NEWEST)
    version = Version("MariaDB", "mariadb", "11.4", "11.4")
    (only,) = check_versions(guest, control, [version])
    assert only.severity is Severity.WARNING
    assert "after a rebuild" in only.what


def test_the_guests_login_is_used(closed: RegistryServer, tmp_path: Path) -> None:
    text = (
        f"[mysql]\ndocker_image = {closed.host}/mysql\n"
        f"backup_docker_image = {closed.host}/db-backup-mysql\n"
        f"[guest_agent]\ncontainer_registry = {closed.host}\n"
        f"container_registry_username = {LOGIN[0]}\ncontainer_registry_password = {LOGIN[1]}\n"
    )
    (isolated,) = by_files(text, tmp_path, "mysql:8.4")
    assert "network_isolation" in isolated.what
    assert isolated.option == "[mysql] docker_image"


@pytest.mark.parametrize("text", ["mysql", "mysql:", ":8.4", "redis:7", "mysql: 8.4", ""])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(UsageError):
        read_version(text)


@pytest.mark.services
def test_versions_that_trove_has(
    cloud: TestCloud, registry: RegistryServer, tmp_path: Path
) -> None:
    """Trove is asked, and the registry is: each version's number and name count."""
    put_image(registry, "wants/f/mysql", "8.4.3")
    put_image(registry, "wants/f/db-backup-mysql", "8.4.3")
    add_image(cloud, ("trove",))
    known = Datastores(connected(cloud).database)
    known.create({"datastore_name": "mysql", "datastore_manager": "mysql", "name": "8.4",
                  "version": "8.4.3", "image_tags": ["trove"], "active": True,
                  "default": False, "packages": []})  # fmt: skip
    versions = versions_of(known.versions())
    assert versions == (Version("mysql", "mysql", "8.4", "8.4.3"),)
    images = {"mysql": names(registry, "wants/f/", "mysql", "mysql")}
    assert [a.ok for a in ask(versions, images)] == [True, True, False, False]
    put_image(registry, "wants/f/mysql", "8.4")
    put_image(registry, "wants/f/db-backup-mysql", "8.4")
    assert all(a.ok for a in ask(versions, images))
    # And by the command, with a file of the guests'.
    file = tmp_path / "trove-guestagent.conf"
    place = f"{registry.host}/wants/f"
    file.write_text(f"[mysql]\ndocker_image = {place}/mysql\nbackup_docker_image = {place}/other\n")
    argv = [sys.executable, "-m", "imagebuild", "config", "check", str(file), "--cloud=admin"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "IMAGEBUILD_"))}
    env = kept | cloud.environ("admin") | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*argv, "--json"], env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["versions"] == ["mysql 8.4 (8.4.3)"]
    # The registry of a test is on loopback, which of a guest is itself: told of one image.
    assert [(f["line"], f["option"]) for f in document["findings"]] == [
        (2, "[mysql] docker_image"),
        (3, "[mysql] backup_docker_image"),
        (3, "[mysql] backup_docker_image"),
    ]
    assert "the guest's own address" in document["findings"][0]["what"]
