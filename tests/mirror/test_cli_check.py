"""`imagebuild mirror check`: what the target lacks, and what datastore versions would miss."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fuzz import check, invoke
from tests.container_images import Image
from tests.mirror.command import Mirror
from tests.registry_server import RegistryServer


def states(document: Any) -> dict[str, str]:  # noqa: ANN401
    return {r["image"].rpartition("/")[2]: r["state"] for r in document["results"]}


def needs(document: Any) -> dict[tuple[str, str], bool]:  # noqa: ANN401
    return {
        (f"{v['datastore']} {v['number']}", v["purpose"]): v["ok"] for v in document["versions"]
    }


def two_images(mirror: Mirror) -> tuple[Image, Image]:
    """A database and its backup image, copied."""
    made = mirror.push("mysql", "8.4"), mirror.push("db-backup-mysql", "8.4")
    mirror.write(
        mirror.image("mysql", "tags: 8.4, aliases: {8.4: 8.4.6}, datastore: mysql"),
        mirror.image("db-backup-mysql", "tags: 8.4, datastore: mysql, role: backup"),
    )
    mirror.json("sync")
    return made


def test_all_is_there(mirror: Mirror) -> None:
    database, backup = two_images(mirror)
    document = mirror.json("check")
    assert states(document) == {
        "mysql:8.4": "whole", "mysql:8.4.6": "whole", "db-backup-mysql:8.4": "whole",
    }  # fmt: skip
    assert document["ok"]
    assert [r["digest"] for r in document["results"]] == [
        database.digest, database.digest, backup.digest,
    ]  # fmt: skip
    assert document["results"][0]["size"] == sum(map(len, database.blobs))
    assert document["totals"]["states"]["whole"] == 3
    only = mirror.run("check", "--only", "db-*")
    assert re.search(r"db-backup-mysql:8\.4 +whole +[0-9a-f]{12} ", only.out)
    assert "mysql:8.4.6" not in only.out
    assert only.err == "1 whole\n"


def test_what_is_missing_or_damaged(mirror: Mirror) -> None:
    database, _ = two_images(mirror)
    mirror.push("mysql", "9.9")
    mirror.write(mirror.image("mysql", "tags: [8.4, 9.9]"))
    assert states(mirror.json("check", code=6)) == {"mysql:8.4": "whole", "mysql:9.9": "missing"}
    layer = database.blobs[-1]
    (digest,) = (
        d for d in re.findall(r"sha256:[0-9a-f]{64}", database.manifest.decode())
        if (p := mirror.target.blob_file(d)).exists() and p.read_bytes() == layer
    )  # fmt: skip
    place = mirror.target.blob_file(digest)
    damaged = bytes([layer[0] ^ 1]) + layer[1:]
    place.write_bytes(damaged)
    assert states(mirror.json("check", code=6))["mysql:8.4"] == "whole"
    found = mirror.json("check", "--deep", code=6)
    assert states(found)["mysql:8.4"] == "damaged"
    assert [p["problem"] for p in found["results"][0]["problems"]] == ["bad-blob"]
    place.unlink()
    found = mirror.json("check", code=6)
    assert [p["problem"] for p in found["results"][0]["problems"]] == ["no-blob"]
    ended = mirror.run("check", code=6)
    assert f"✗ mysql:8.4: {digest}" in ended.err
    assert "try: imagebuild mirror sync --deep" in ended.err
    assert ended.err.endswith("1 missing, 1 damaged\n")
    repaired = mirror.json("sync", "--deep")
    assert repaired["results"][0]["repaired"] == 1
    assert place.read_bytes() == layer
    assert mirror.json("check", "--deep")["ok"]


def test_what_somebody_else_has_put_there_is_told(mirror: Mirror) -> None:
    two_images(mirror)
    other = mirror.push("other", "1")
    other.push(mirror.target, f"{mirror.name}/mysql", "8.4")
    document = mirror.json("check")
    assert [r["foreign"] for r in document["results"]] == [True, False, False]
    ended = mirror.run("check")
    assert "warning: mysql:8.4 is not what `mirror sync` put there" in ended.err


def test_a_registry_that_is_down(mirror: Mirror) -> None:
    mirror.write(mirror.image("mysql", "tags: 8.4, datastore: mysql"))
    ended = mirror.run(
        "check", "--target", "127.0.0.1:1", "--datastore", "mysql:8.4", "--json", code=6
    )
    assert states(ended.document) == {"mysql:8.4": "unknown"}
    assert ended.document["results"][0]["error"]["error"] == "TemporaryError"
    assert not any(needs(ended.document).values())


# --- datastore versions ---------------------------------------------------------------


def test_versions_that_find_their_images_and_those_that_do_not(mirror: Mirror) -> None:
    two_images(mirror)
    arguments = [f"--datastore=mysql:{version}" for version in ("8.4", "8.4.6", "8.0=eight")]
    document = mirror.json("check", *arguments, code=6)
    # On every series MySQL's backup image needs the exact tag.
    assert needs(document) == {
        ("mysql 8.4", "create"): True,
        ("mysql 8.4", "backup"): True,
        ("mysql 8.4.6", "create"): True,
        ("mysql 8.4.6", "backup"): False,
        ("mysql 8.0", "create"): False,
        ("mysql 8.0", "backup"): False,
        ("mysql 8.0", "rebuild"): False,
        ("mysql 8.0", "backup after rebuild"): False,
    }
    assert document["totals"]["needs_not_met"] == 5
    backup = next(v for v in document["versions"] if v["number"] == "8.4.6" and not v["ok"])
    assert 'aliases: {"8.4": ["8.4.6"]}' in backup["hint"]
    assert mirror.json("check", "--datastore", "mysql:8.4")["ok"]
    ended = mirror.run("check", *arguments, code=6)
    assert "✗ mysql 8.4.6, backup: " in ended.err
    assert "5 of 8 needs of versions not met" in ended.err
    assert re.search(r"mysql 8\.4 +found +create ", ended.out)


def test_series_decides_whether_a_guest_falls_back(mirror: Mirror) -> None:
    mirror.push("mariadb", "11.4.5")
    mirror.push("db-backup-mariadb", "11.4")
    mirror.write(
        mirror.image("mariadb", "tags: 11.4.5, datastore: mariadb"),
        mirror.image("db-backup-mariadb", "tags: 11.4, datastore: mariadb, role: backup"),
    )
    mirror.json("sync")
    version = "--datastore=mariadb:11.4.5"
    old = mirror.json("check", version, "--control-plane-series", "2026.1", code=6)
    assert needs(old)["mariadb 11.4.5", "backup"] is False
    new = mirror.json("check", version, "--control-plane-series", "2026.2")
    assert needs(new)["mariadb 11.4.5", "backup"] is True
    assert "falls back" in new["versions"][1]["reason"]


def test_a_datastore_that_the_list_does_not_have_is_told_without_asking_elsewhere(
    mirror: Mirror,
) -> None:
    two_images(mirror)
    document = mirror.json(
        "check", "--datastore", "postgres:17", "--datastore", "mysql:8.4", code=6
    )
    assert needs(document) == {
        ("postgresql 17", "create"): False,
        ("postgresql 17", "backup"): False,
        ("mysql 8.4", "create"): True,
        ("mysql 8.4", "backup"): True,
    }
    assert "'datastore: postgresql'" in document["versions"][0]["reason"]


def test_two_images_for_one_use_matter_only_where_versions_are_asked_about(
    mirror: Mirror,
) -> None:
    mirror.push("mysql", "8.0")
    mirror.push("mysql-new", "8.4")
    mirror.write(
        mirror.image("mysql", "tags: 8.0, datastore: mysql"),
        mirror.image("mysql-new", "tags: 8.4, datastore: mysql"),
    )
    mirror.json("sync")
    assert mirror.json("check")["ok"]
    ended = check(mirror.run("check", "--datastore", "mysql:8.0", code=2))
    assert "two database images for mysql" in ended.err


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry that nobody reads without a login."""
    with RegistryServer(tmp_path_factory.mktemp("locked"), login=("robot", "s3cret")) as server:
        yield server


def test_a_login_that_guests_lose_under_network_isolation(
    mirror: Mirror, locked: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "s3cret")
    mirror.hosts["target"] = locked.host
    made = mirror.push("mysql", "8.4")
    mirror.push("db-backup-mysql", "8.4")
    more = f"registries: [{{host: '{locked.host}', username: robot, password_env: PW}}]\n"
    mirror.write(
        mirror.image("mysql", "tags: 8.4, datastore: mysql"),
        mirror.image("db-backup-mysql", "tags: 8.4, datastore: mysql, role: backup"),
        more=more,
    )
    assert mirror.json("sync")["results"][0]["digest"] == made.digest
    version = "--datastore=mysql:8.4"
    isolated = mirror.json("check", version, code=6)
    assert states(isolated)["mysql:8.4"] == "whole"
    assert needs(isolated) == {("mysql 8.4", "create"): False, ("mysql 8.4", "backup"): True}
    assert "network_isolation" in isolated["versions"][0]["reason"]
    here = ("--container-registry", locked.host)
    assert mirror.json("check", version, "--no-network-isolation", *here)["ok"]
    elsewhere = ("--no-network-isolation", "--container-registry", "other.example")
    assert not any(needs(mirror.json("check", version, *elsewhere, code=6)).values())


def test_check_of_what_was_never_copied(mirror: Mirror, tmp_path: Path) -> None:
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    (tmp_path / "mirror.lock.yaml").write_text("- no lock\n")
    check(mirror.run("check", code=3))
    (tmp_path / "mirror.lock.yaml").unlink()
    assert states(mirror.json("check", code=6)) == {"mysql:8.4": "missing"}
    assert invoke(["mirror", "check", "--help"]).code == 0
