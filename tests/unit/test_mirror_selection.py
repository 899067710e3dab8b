"""Which tags rules find, and which items a list makes of them."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from imagebuild.config.mirrorlist import MirrorList, TagRule
from imagebuild.errors import ConfigError, Interrupted, TemporaryError, UsageError
from imagebuild.mirror.items import Item, choose, expand
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.selection import find, version_of
from imagebuild.registry.reference import Reference

#: What docker.io has of MySQL and MariaDB, roughly, as a registry lists it.
TAGS = (
    "10.11", "10.11.9", "11.4", "11.4.5", "11.4.5-noble", "11.4-noble", "11.8-rc", "11.8.1-rc",
    "5.7.44-oracle", "8", "8-oracle", "8.0", "8.0.40", "8.0.9", "8.4", "8.4-1", "8.4-oracle",
    "8.4.6", "8.4.7-oraclelinux9", "9.0.0", "9.0.0.dev1", "innovation", "latest", "lts", "v8.4.5",
)  # fmt: skip


def tags_of(**rule: object) -> tuple[str, ...]:
    return find(TagRule.model_validate(rule), TAGS)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"versions": ">=8.0,<9"}, ["8.4.6", "v8.4.5", "8.4", "8.0.40", "8.0.9", "8.0", "8"]),
        ({"versions": ">=8.0,<9", "newest": 2}, ["8.4.6", "v8.4.5"]),
        ({"versions": "==8.0.*", "newest": 9}, ["8.0.40", "8.0.9", "8.0", "8"]),
        ({"versions": ">=11,<12"}, ["11.4.5", "11.4"]),
        ({"versions": ">=11.8rc0,<12"}, ["11.8.1-rc", "11.8-rc"]),
        ({"newest": 1}, ["11.4.5"]),
        ({"regex": ".*rc", "newest": 1}, ["11.8.1-rc"]),
        ({"regex": r"8\.4.*"}, ["8.4.6", "8.4", "8.4.7-oraclelinux9", "8.4-oracle", "8.4-1"]),
        ({"regex": "8.4"}, ["8.4"]),
        ({"regex": r"\d+\.\d+\.\d+", "versions": "<9", "newest": 2}, ["8.4.6", "8.0.40"]),
        ({"regex": "l.*"}, ["latest", "lts"]),
        ({"versions": ">99"}, []),
        ({"regex": "lts", "newest": 1}, []),
        ({"names": ["8.4"]}, []),
    ],
)  # fmt: skip
def test_what_rules_find(rule: dict[str, object], found: list[str]) -> None:
    assert list(tags_of(**rule)) == found


def test_variants_are_no_versions() -> None:
    for tag in ("8.4-oracle", "11.4-noble", "8.4-1", "9.0.0.dev1", "latest", "1.2-alpine", ""):
        assert version_of(tag) is None, tag
    assert version_of("12rc1") == Version("12rc1")
    assert version_of("8.4") == version_of("8.4.0") == Version("8.4")


versions = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)
suffixes = st.sampled_from(("", "", "", "-noble", "-oracle", "-1", "-alpine3.20", "rc1"))
tags_ = st.lists(st.tuples(versions, suffixes).map("".join), max_size=30)


@given(tags_, versions, versions, st.integers(1, 5))
def test_the_newest_of_a_range_are_in_it_and_nothing_newer_is_left(
    tags: list[str], low: str, high: str, newest: int
) -> None:
    rule = TagRule(versions=f">={low},<{high}", newest=newest)
    found = find(rule, tags)
    assert len(found) == len(set(found)) <= newest
    numbers = [Version(tag) for tag in found]
    assert numbers == sorted(numbers, reverse=True)
    assert all(Version(low) <= n < Version(high) for n in numbers)
    plain = {t for t in tags if re.fullmatch(r"[0-9.]+", t)}
    left = [Version(t) for t in plain - set(found) if Version(low) <= Version(t) < Version(high)]
    assert not left or (len(found) == newest and max(left) <= min(numbers))


@given(tags_, st.sampled_from((r"[0-9.]+", r".*-noble", r"8\..*", "x")))
def test_a_regex_finds_whole_tags_each_once_whatever_their_order(
    tags: list[str], regex: str
) -> None:
    found = find(TagRule(regex=regex), tags)
    assert set(found) == {t for t in tags if re.fullmatch(regex, t)}
    assert found == find(TagRule(regex=regex), tags[::-1])
    assert len(found) == len(set(found))


# --- items ----------------------------------------------------------------------------


def mirror_list(*images: Mapping[str, object], **keys: object) -> MirrorList:
    target = {"registry": "reg.example", "prefix": "trove"}
    return MirrorList.model_validate({"target": target, "images": list(images)} | keys)


def expanded(value: MirrorList, *only: str) -> list[str]:
    items = expand(value, lambda _: list(TAGS), only=only)
    return [f"{i.source} {i.target}" for i in items]


def test_names_come_besides_what_is_found_and_each_tag_once() -> None:
    value = mirror_list(
        {"source": "mysql", "tags": {"names": ["lts", "8.0"], "versions": "==8.0.*"}}
    )
    assert expanded(value) == [
        f"docker.io/library/mysql:{tag} reg.example/trove/mysql:{tag}"
        for tag in ("lts", "8.0", "8.0.40", "8.0.9", "8")
    ]


def test_a_tag_with_aliases_is_wanted_when_it_has_left_the_range() -> None:
    value = mirror_list(
        {"source": "mysql", "tags": {"versions": ">=9"}, "aliases": {"8.4": ["8.4.9"]}}
    )
    items = expand(value, lambda _: ["9.0", "8.4"])
    assert [(i.target.tag, i.aliases) for i in items] == [("9.0", ()), ("8.4", ("8.4.9",))]


def test_pinned_digest_is_in_the_source_alone() -> None:
    digest = "sha256:" + "ab" * 32
    (item,) = expand(mirror_list({"source": "a", "tags": "1", "digest": digest}), lambda _: [])
    assert item.source.digest == digest
    assert item.target.digest == ""


@pytest.mark.parametrize(
    ("second", "detail"),
    [
        ({"source": "quay.io/o/mysql", "tags": ["8.4"]}, "quay.io/o/mysql:8.4 (list.yaml:7)"),
        (
            {"source": "quay.io/o/mysql", "tags": ["9"], "aliases": {"9": ["8.4.6"]}},
            "an alias of quay.io/o/mysql:9 (list.yaml:7)",
        ),
        (
            {"source": "quay.io/o/x", "target": "mysql", "tags": ["8.4-old"]},
            "quay.io/o/x:8.4-old (list.yaml:7)",
        ),
    ],
)
def test_one_target_for_two_images_names_both_places(
    second: Mapping[str, object], detail: str
) -> None:
    first = {
        "source": "mysql", "tags": ["8.4"], "aliases": {"8.4": ["8.4.6"]}, "backup": "{tag}-old",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        expand(mirror_list(first, second), lambda _: [], ("list.yaml:3", "list.yaml:7"))
    assert caught.value.where == "list.yaml:7"
    assert "docker.io/library/mysql:8.4 (list.yaml:3)" in caught.value.detail
    assert detail in caught.value.detail


def test_rules_that_find_nothing_are_an_error_even_beside_names() -> None:
    value = mirror_list({"source": "mysql", "tags": {"names": ["8.4"], "versions": ">99"}})
    with pytest.raises(MissingError) as caught:
        expanded(value)
    assert "no tag of docker.io/library/mysql fits" in caught.value.what
    assert "versions: >99" in caught.value.detail
    assert "v8.4.5" in caught.value.detail
    with pytest.raises(MissingError) as caught:
        expand(value, lambda _: [])
    assert "no such repository" in caught.value.detail


def test_what_is_not_known_of_one_image_leaves_the_others() -> None:
    value = mirror_list(
        {"source": "mysql", "tags": {"names": ["8.4"], "versions": ">99"}, "backup": "{tag}-old"},
        {"source": "mariadb", "tags": {"newest": 1}}, {"source": "postgres", "tags": ["17"]},
    )  # fmt: skip

    def tags(source: Reference) -> list[str]:
        if source.repository.endswith("mariadb"):
            raise TemporaryError("cannot reach the registry")
        return list(TAGS)

    items = expand(value, tags, go_on=True)
    assert [(i.source.tag, type(i.unknown)) for i in items] == [
        ("8.4", type(None)), ("", MissingError), ("", TemporaryError), ("17", type(None)),
    ]  # fmt: skip
    # A pattern that may mean it: whether it does is not known.
    assert [i.source.tag for i in choose(items, ["mariadb:11.*"])] == ["", ""]
    with pytest.raises(Interrupted):
        expand(value, interrupted, go_on=True)


def interrupted(_: Reference) -> list[str]:
    raise Interrupted(signal.SIGINT)


def test_a_copy_onto_itself_and_names_that_get_too_long() -> None:
    with pytest.raises(ConfigError, match="onto itself"):
        expanded(mirror_list({"source": "reg.example/trove/x", "tags": "1"}))
    with pytest.raises(ConfigError, match="no name of an image") as caught:
        expanded(mirror_list({"source": "x", "tags": "1", "target": "a" * 238}))
    assert "255" in caught.value.detail
    tag = "a" * 125
    with pytest.raises(ConfigError, match="no tag can be made"):
        expanded(mirror_list({"source": "x", "tags": tag, "backup": "{tag}-old"}))


TWO = mirror_list(
    {"source": "quay.io/o/mysql", "tags": ["8.0", "8.4"]},
    {"source": "quay.io/o/postgres", "target": "postgresql", "tags": {"newest": 1}},
)


@pytest.mark.parametrize(
    ("pattern", "targets"),
    [
        ("mysql", ["mysql:8.0", "mysql:8.4"]),
        ("mysql:8.4", ["mysql:8.4"]),
        ("*:8.*", ["mysql:8.0", "mysql:8.4"]),
        ("postgres", ["postgresql:11.4.5"]),
        ("trove/postgresql", ["postgresql:11.4.5"]),
        ("reg.example/trove/mysql:8.0", ["mysql:8.0"]),
        ("quay.io/*", ["mysql:8.0", "mysql:8.4", "postgresql:11.4.5"]),
    ],
)
def test_patterns_mean_names_of_either_side(pattern: str, targets: list[str]) -> None:
    items = choose(expand(TWO, lambda _: list(TAGS), only=[pattern]), [pattern])
    assert [str(i.target).removeprefix("reg.example/trove/") for i in items] == targets


def test_nobody_is_asked_about_images_that_are_not_meant() -> None:
    def ask(reference: Reference) -> list[str]:
        raise AssertionError(reference)

    items = choose(expand(TWO, ask, only=["mysql:8.4"]), ["mysql:8.4"])
    assert [i.target.tag for i in items] == ["8.4"]


@pytest.mark.parametrize("pattern", ["mysl", "mysql:9", "", "8.4"])
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    items: tuple[Item, ...] = expand(TWO, lambda _: list(TAGS))
    with pytest.raises(UsageError) as caught:
        choose(items, ["mysql", pattern])
    assert caught.value.where == f"--only {pattern}"
