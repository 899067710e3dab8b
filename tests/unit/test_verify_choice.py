"""Which databases an image is proven with."""

from __future__ import annotations

import pytest

from imagebuild.errors import UsageError
from imagebuild.verify import choice
from imagebuild.verify.instance import Database, Registry


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mariadb:10.11", Database("mariadb", "10.11", "mariadb")),
        ("postgresql:15", Database("postgresql", "15", "postgres")),
        ("mysql:8.4=r.example:5000/x/mysql", Database("mysql", "8.4", "r.example:5000/x/mysql")),
    ],
)
def test_spec(text: str, wanted: Database) -> None:
    assert choice.of_spec(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("oracle:19", "not a database"), ("mariadb", "not a database"), ("mariadb:", "not a"),
        ("mariadb:10.11=r.example/x:10.11", "has a tag"),
        ("mariadb:10.11=r.example/x@sha256:00", "has a tag"),
    ],
)  # fmt: skip
def test_bad_spec_is_said(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        choice.of_spec(text)
    assert caught.value.hint


def test_preloaded_containers_are_what_is_proven() -> None:
    targets = [
        "10.0.0.9:5000/trove/mariadb:10.11",
        "10.0.0.9:5000/trove/db-backup-mariadb:10.11",
        "postgres:15",
        "10.0.0.9:5000/tools/debug:1",
        "mysql@sha256:" + "0" * 64,
    ]
    content = {"containers": [{"target": t} for t in targets]}
    mariadb = "10.0.0.9:5000/trove/mariadb"
    assert choice.of_content(content) == [
        Database("mariadb", "10.11", mariadb, "10.0.0.9:5000/trove/db-backup-mariadb"),
        Database("postgresql", "15", "docker.io/library/postgres"),
    ]
    assert choice.of_content({}) == []


def test_a_database_gets_the_registry_of_its_image() -> None:
    known = choice.registries(["169.254.0.6:5000=41234"], insecure=True)
    assert known == [Registry("169.254.0.6:5000", 41234, insecure=True)]
    here, elsewhere = choice.with_registry(
        [Database("mariadb", "1", "169.254.0.6:5000/x"), Database("mysql", "8", "mysql")], known
    )
    assert here.registry == known[0]
    assert elsewhere.registry is None
    with pytest.raises(UsageError, match="not a registry"):
        choice.registries(["registry.example:5000"], insecure=False)
