"""Under which names a backup image is pushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.cli.backuptarget import find_targets
from imagebuild.errors import ConfigError, UsageError

LIST = """\
target:
  registry: registry.example:5000
  prefix: trove
registries:
  - host: registry.example:5000
    tls: plain-http
images:
  - source: quay.example/x/mysql
    datastore: mysql
    tags: ["8.4"]
  - source: quay.example/x/db-backup-mysql
    target: backups-of-mysql
    datastore: mysql
    role: backup
    tags: ["8.4"]
    aliases: {"8.4": ["8.4.6"]}
"""


def names(*words: str, tags: tuple[str, ...] = ()) -> list[str]:
    datastore, version, target, mirror = words
    return [str(t) for t in find_targets(datastore, version, target, mirror, tags)[0]]


def test_the_version_is_the_tag() -> None:
    assert names("mysql", "8.4", "r.example:5000/t/x", "") == ["r.example:5000/t/x:8.4"]
    assert names("mysql", "8.4", "r.example:5000/t/x:y", "") == ["r.example:5000/t/x:y"]


def test_further_tags_come_once() -> None:
    assert names("mysql", "8.4", "r.example/x", "", tags=("8.4.6", "8.4")) == [
        "r.example/x:8.4", "r.example/x:8.4.6",
    ]  # fmt: skip


def test_plain_http_is_said_by_the_scheme() -> None:
    targets, (settings,) = find_targets("mysql", "8.4", "http://r.example:5000/x", "", ())
    assert str(targets[0]) == "r.example:5000/x:8.4"
    assert (settings.host, settings.plain_http) == ("r.example:5000", True)


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    path = tmp_path / "mirror.yaml"
    path.write_text(LIST)
    return str(path)


def test_a_list_knows_name_aliases_and_registry(mirror: str) -> None:
    targets, (settings,) = find_targets("mysql", "8.4", "", mirror, ("x",))
    assert [str(t) for t in targets] == [
        f"registry.example:5000/trove/backups-of-mysql:{tag}" for tag in ("8.4", "8.4.6", "x")
    ]
    assert settings.plain_http


def test_what_a_list_does_not_have_is_called_as_elsewhere(mirror: str) -> None:
    assert names("postgres", "17", "", mirror) == [
        "registry.example:5000/trove/db-backup-postgresql:17"
    ]


def test_the_target_of_a_list_may_be_another(mirror: str) -> None:
    assert names("mysql", "8.4", "other.example/p", mirror)[0] == (
        "other.example/p/backups-of-mysql:8.4"
    )


def test_the_variable_of_mirror_lists_says_the_target_of_one(mirror: str) -> None:
    def first(target: str, mirror_list: str) -> str:
        environ = {"IMAGEBUILD_MIRROR_TARGET": "http://site.example:5000/p"}
        return str(find_targets("mysql", "8.4", target, mirror_list, (), environ)[0][0])

    assert first("", mirror) == "site.example:5000/p/backups-of-mysql:8.4"
    assert first("other.example/p", mirror) == "other.example/p/backups-of-mysql:8.4"
    assert first("r.example/x", "") == "r.example/x:8.4"


@pytest.mark.parametrize(
    ("target", "tags"),
    [("r.example", ()), (f"r.example/x@sha256:{'0' * 64}", ()), ("", ("8.4.6",))],
)
def test_what_names_no_image_is_refused(target: str, tags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        find_targets("mysql", "8.4", target, "", tags)


@pytest.mark.parametrize("tag", ["a/b", "-x", "a:b", ""])
def test_a_tag_must_be_one(tag: str) -> None:
    with pytest.raises(ConfigError):
        find_targets("mysql", "8.4", "r.example/x", "", (tag,))
