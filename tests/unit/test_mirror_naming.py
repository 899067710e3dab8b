"""How guests name their images, and what becomes of versions that need them.

That these are Trove's rules is proven in tests/mirror/test_naming_upstream.py.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import ConfigError
from imagebuild.mirror.answers import Guests, Seen, answer
from imagebuild.mirror.naming import (
    DATASTORES,
    DEFAULT_IMAGES,
    End,
    backup_chain,
    database_image,
    registry_of,
)
from imagebuild.mirror.wants import ImageNames, Purpose, Version, needs_of, read_version
from imagebuild.registry.reference import Reference

HOST = "reg.example:5000"
BACKUP = f"{HOST}/trove/db-backup"


def test_the_database_has_no_fallback() -> None:
    assert database_image(f"{HOST}/mysql", "8.4.3") == f"{HOST}/mysql:8.4.3"
    assert database_image("mysql", None) == "mysql:latest"


@pytest.mark.parametrize("manager", ["mariadb", "postgresql"])
def test_backups_drop_the_last_part(manager: str) -> None:
    chain = backup_chain(manager, BACKUP, "10.11.9", "2026.2")
    assert chain.images == (f"{BACKUP}:10.11.9", f"{BACKUP}:10.11", f"{BACKUP}:10")
    assert chain.end is End.GIVES_UP


@pytest.mark.parametrize("series", ["2025.1", "2025.2", "2026.1"])
def test_before_2026_2_there_is_one_name(series: str) -> None:
    for manager in DATASTORES:
        chain = backup_chain(manager, BACKUP, "10.11.9", series)
        assert (chain.images, chain.end) == ((f"{BACKUP}:10.11.9",), End.PULLS)
        assert not chain.asks


def test_mysql_crashes_where_others_fall_back() -> None:
    chain = backup_chain("mysql", BACKUP, "8.4.3", "2026.2")
    assert (chain.images, chain.end) == ((f"{BACKUP}:8.4.3",), End.CRASHES)
    assert backup_chain("mysql", BACKUP, "8", "2026.2").end is End.GIVES_UP


def test_a_series_that_does_not_exist() -> None:
    with pytest.raises(ConfigError):
        backup_chain("mysql", BACKUP, "8.4", "2019.1")


@given(st.sampled_from(DATASTORES), st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}", fullmatch=True))
def test_what_is_asked_for_is_an_image(manager: str, version: str) -> None:
    chain = backup_chain(manager, BACKUP, version)
    parsed = [Reference.parse(image) for image in chain.images]
    assert {r.name for r in parsed} == {BACKUP}
    assert parsed[0].tag == version
    tags = [r.tag for r in parsed]
    assert all(longer.startswith(f"{shorter}.") for longer, shorter in pairwise(tags))


def test_the_registry_of_a_name() -> None:
    assert registry_of(f"{HOST}/a") == HOST
    assert registry_of("mysql") == "docker.io"
    assert registry_of("openstack.trove/mysql") == "openstack.trove"


def ask(
    *versions: Version, there: dict[str, Seen], images: ImageNames | None = None,
    login: bool = False, guests: Guests | None = None,
) -> dict[Purpose, tuple[bool, str, str]]:  # fmt: skip
    asked: list[str] = []

    def look(reference: Reference) -> Seen:
        asked.append(str(reference))
        return there.get(str(reference), Seen())

    named = {m: images or ImageNames(f"{HOST}/{m}", f"{HOST}/b-{m}") for m in DATASTORES}
    answers = answer(needs_of(versions, named), look, lambda _: login, guests or Guests())
    assert len(asked) == len(set(asked)), "each image is looked at once"
    return {a.need.purpose: (a.ok, a.reason, a.hint) for a in answers}


def test_an_image_that_lacks_a_part_is_no_fallback() -> None:
    """The guest asks for the manifest alone: it does not look further."""
    there = {
        f"{HOST}/mariadb:10.11.9": Seen("sha256:1"),
        f"{HOST}/b-mariadb:10.11": Seen("sha256:2", "a blob is missing"),
        f"{HOST}/b-mariadb:10": Seen("sha256:3"),
    }
    found = ask(read_version("mariadb:10.11.9"), there=there)
    ok, reason, _ = found[Purpose.BACKUP]
    assert not ok
    assert "a blob is missing" in reason


def test_nothing_is_there_and_nothing_near() -> None:
    found = ask(read_version("postgresql:17.2"), there={})
    ok, reason, hint = found[Purpose.BACKUP]
    assert not ok
    assert f"{HOST}/b-postgresql:17.2 and {HOST}/b-postgresql:17 are not" in reason
    assert "17.2" in hint


def test_a_rebuilt_instance_goes_by_the_name() -> None:
    version = read_version("mysql:8.4.3=8.4")
    there = {f"{HOST}/{n}:8.4.3": Seen("sha256:1") for n in ("mysql", "b-mysql")}
    found = ask(version, there=there)
    assert {p: ok for p, (ok, _, _) in found.items()} == {
        Purpose.CREATE: True, Purpose.BACKUP: True,
        Purpose.REBUILD: False, Purpose.BACKUP_AFTER_REBUILD: False,
    }  # fmt: skip


def test_what_is_not_configured_is_docker_hubs() -> None:
    (database, backup) = needs_of([read_version("postgresql:17")], {})
    assert database.chain.images == (f"{DEFAULT_IMAGES['postgresql']}:17",)
    assert backup.chain.end is End.UNDEFINED


def test_a_manager_without_code_needs_nothing() -> None:
    assert needs_of([Version("cassandra", "cassandra", "3", "3")], {}) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("mysql:8.4", Version("mysql", "mysql", "8.4", "8.4")),
        ("postgres:17=stable", Version("postgresql", "postgresql", "stable", "17")),
    ],
)
def test_versions_that_are_named(text: str, version: Version) -> None:
    assert read_version(text) == version
