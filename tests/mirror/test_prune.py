"""What prune removes from a real registry, and all that it must leave alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import requests

from imagebuild.errors import PublishError
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock
from imagebuild.mirror.prune import Fate, Proposal, Pruned, carry_out, propose
from imagebuild.mirror.wants import ImageNames, Need, needs_of, read_version
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.container_images import OCI, Image, image, index, layer
from tests.mirror.airgap import client, whole_index
from tests.registry_server import RegistryServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry"), deletes=True) as started:
        yield started


def _tags(server: RegistryServer, repository: str) -> set[str]:
    """Tags whose image is there: the list may have others."""
    with client() as asked:
        name = Reference(server.host, repository, "x")
        names = [dataclasses.replace(name, tag=t) for t in asked.tags(name)]
        return {n.tag for n in names if asked.head_manifest(n)}


def _has(server: RegistryServer, repository: str, digest: str) -> bool:
    url = f"http://{server.host}/v2/{repository}/manifests/{digest}"
    kinds = {"Accept": ", ".join((OCI["manifest"], OCI["index"]))}
    return requests.head(url, headers=kinds, timeout=10).ok


def _item(server: RegistryServer, repository: str, tag: str, **more: object) -> Item:
    source = Reference("source.example", repository, tag)
    return Item(source, Reference(server.host, repository, tag), **more)  # type: ignore[arg-type]


def _ours(server: RegistryServer, repository: str, **tags: Image) -> Lock:
    """Push images, and a lock file that says so; `v1` is the tag 1."""
    for tag, made in tags.items():
        made.push(server, repository, tag)
    return Lock(tags={f"{server.host}/{repository}:{t}": i.digest for t, i in tags.items()})


def _prune(
    server: RegistryServer, items: list[Item], lock: Lock, needs: tuple[Need, ...] = ()
) -> tuple[dict[str, Fate], Pruned, Proposal]:
    done = Pruned()
    with client() as asked:
        found = propose(asked, server.host, items, lock, needs)
        carry_out(asked, found, done)
    assert not done.errors
    return {v.tag.tag: v.fate for v in found.verdicts}, done, found


def test_only_what_the_list_does_not_have_goes(server: RegistryServer) -> None:
    made = {f"v{n}": whole_index(f"list {n}") for n in range(1, 6)}
    lock = _ours(server, "list", **made)
    whole_index("list foreign").push(server, "list", "not-ours")
    items = [_item(server, "list", "v1", aliases=("v2",), backup="v3")]
    fates, done, _ = _prune(server, items, lock)
    assert fates == {"v1": Fate.KEEP, "v2": Fate.KEEP, "v3": Fate.KEEP,
                     "v4": Fate.REMOVE, "v5": Fate.REMOVE}  # fmt: skip
    assert _tags(server, "list") == {"v1", "v2", "v3", "not-ours"}
    assert {t.tag for t in done.removed} == {"v4", "v5"}
    # Two indexes, three children each: what garbage collection would keep for ever.
    assert done.manifests == 8
    assert not any(_has(server, "list", c.digest) for c in made["v4"].children)
    assert all(_has(server, "list", c.digest) for c in made["v1"].children)


def test_a_proposal_changes_nothing(server: RegistryServer) -> None:
    lock = _ours(server, "dry", v1=whole_index("dry"))
    with client() as asked:
        found = propose(asked, server.host, [], lock, ())
    assert [d.tags[0].tag for d in found.deletions] == ["v1"]
    assert _tags(server, "dry") == {"v1"}


def test_an_image_that_another_tag_has_stays(server: RegistryServer) -> None:
    made = whole_index("two tags")
    lock = _ours(server, "shared", old=made, new=made)
    fates, done, found = _prune(server, [_item(server, "shared", "new")], lock)
    assert fates == {"old": Fate.SHARED, "new": Fate.KEEP}
    assert "the tag new" in next(v.why for v in found.verdicts if v.fate is Fate.SHARED)
    assert _tags(server, "shared") == {"old", "new"}
    assert done.removed == []


def test_an_image_of_a_strangers_tag_stays(server: RegistryServer) -> None:
    made = whole_index("somebody's too")
    lock = _ours(server, "strangers", ours=made)
    made.push(server, "strangers", "theirs")
    fates, _, _ = _prune(server, [], lock)
    assert fates == {"ours": Fate.SHARED}
    assert _tags(server, "strangers") == {"ours", "theirs"}


def test_tags_that_the_registry_does_not_list(server: RegistryServer) -> None:
    """Who does not see all tags does not know whose image it is: 404 is no tag to the client."""

    class Blind(Client):
        def tags(self, _reference: Reference) -> list[str]:
            return []

    lock = _ours(server, "unlisted", ours=whole_index("seen by none"))
    with Blind(environ={}) as asked, pytest.raises(PublishError, match="list of tags"):
        propose(asked, server.host, [], lock, ())


def test_two_tags_of_one_image_go_together(server: RegistryServer) -> None:
    made = whole_index("both")
    lock = _ours(server, "both", one=made, two=made)
    fates, done, found = _prune(server, [], lock)
    assert set(fates.values()) == {Fate.REMOVE}
    assert len(found.deletions) == 1
    assert {t.tag for t in done.removed} == {"one", "two"}
    assert _tags(server, "both") == set()


def test_a_child_of_an_index_that_stays_is_left(server: RegistryServer) -> None:
    child = image([layer({"a": b"child"})], kinds=OCI)
    other = image([layer({"a": b"other"})], "arm64", kinds=OCI)
    kept, going = index(child, other), index(child)
    lock = _ours(server, "child", kept=kept, going=going, single=child)
    fates, _, found = _prune(server, [_item(server, "child", "kept")], lock)
    assert fates == {"kept": Fate.KEEP, "going": Fate.REMOVE, "single": Fate.SHARED}
    assert found.deletions[0].children == ()
    assert _has(server, "child", child.digest)
    assert not _has(server, "child", going.digest)


def test_a_child_without_a_tag_is_left_to_the_index_that_stays(server: RegistryServer) -> None:
    child, other, third = (
        image([layer({"a": arch.encode()})], arch, kinds=OCI) for arch in ("amd64", "arm64", "arm")
    )
    lock = _ours(server, "untagged", kept=index(child, other), going=index(child, third))
    _, done, _ = _prune(server, [_item(server, "untagged", "kept")], lock)
    assert done.manifests == 2
    assert _has(server, "untagged", child.digest)
    assert not _has(server, "untagged", third.digest)


def test_a_child_of_two_indexes_that_go_goes_once(server: RegistryServer) -> None:
    child = image([layer({"a": b"common child"})], kinds=OCI)
    other = image([layer({"a": b"common other"})], "arm64", kinds=OCI)
    lock = _ours(server, "common", one=index(child), two=index(child, other))
    _, done, _ = _prune(server, [], lock)
    assert done.manifests == 4
    assert not _has(server, "common", child.digest)


def test_a_tag_that_somebody_has_put_elsewhere_is_theirs(server: RegistryServer) -> None:
    lock = _ours(server, "foreign", tag=whole_index("foreign"))
    theirs = whole_index("theirs")
    theirs.push(server, "foreign", "tag")
    fates, _, _ = _prune(server, [], lock)
    assert fates == {"tag": Fate.FOREIGN}
    assert _has(server, "foreign", theirs.digest)


def test_a_tag_that_was_put_anew_meanwhile_stays(server: RegistryServer) -> None:
    lock = _ours(server, "race", tag=whole_index("race"))
    theirs = whole_index("race, won")
    done = Pruned()
    with client() as asked:
        found = propose(asked, server.host, [], lock, ())
        theirs.push(server, "race", "tag")
        carry_out(asked, found, done)
    assert [v.fate for v in done.left] == [Fate.FOREIGN]
    assert done.removed == []
    assert _has(server, "race", theirs.digest)


def test_what_is_gone_is_forgotten_and_other_registries_are_left(server: RegistryServer) -> None:
    digest = whole_index("nowhere").digest
    lock = Lock(tags={f"{server.host}/gone:1": digest, "other.example/x:1": digest})
    with client() as asked:
        found = propose(asked, server.host, [], lock, ())
    assert [v.fate for v in found.verdicts] == [Fate.GONE, Fate.ELSEWHERE]
    assert [str(t) for t in found.gone] == [f"{server.host}/gone:1"]


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        ("mariadb:10.11.9", {"10.11.9", "10.11", "10"}),
        ("mariadb:11.4", {"11.4"}),
    ],
)
def test_what_guests_ask_for_stays(server: RegistryServer, version: str, kept: set[str]) -> None:
    """Their backup image falls back from 10.11.9 to 10.11 to 10."""
    repository = f"needed-{version.replace(':', '-')}"
    tags = {t: whole_index(f"{repository} {t}") for t in ("10.11.9", "10.11", "10", "11.4")}
    lock = _ours(server, repository, **tags)
    name = f"{server.host}/{repository}"
    needs = needs_of([read_version(version)], {"mariadb": ImageNames(f"{name}-db", name)})
    _prune(server, [_item(server, repository, "other")], lock, needs)
    assert _tags(server, repository) == kept


def test_a_datastore_that_has_left_the_list_keeps_its_images(server: RegistryServer) -> None:
    lock = _ours(server, "mysql-left", **{"8.4": whole_index("8.4"), "5.7": whole_index("5.7")})
    needs = needs_of([read_version("mysql:8.4")], {})
    fates, _, _ = _prune(server, [_item(server, "something", "1")], lock, needs)
    assert fates == {"8.4": Fate.KEEP, "5.7": Fate.REMOVE}


def test_a_registry_that_does_not_delete_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with RegistryServer(tmp_path_factory.mktemp("stubborn")) as stubborn:
        lock = _ours(stubborn, "x", tag=whole_index("stubborn"))
        done = Pruned()
        with client() as asked:
            carry_out(asked, propose(asked, stubborn.host, [], lock, ()), done)
        (error,) = done.errors
        assert isinstance(error, PublishError)
        assert "REGISTRY_STORAGE_DELETE_ENABLED" in error.hint
        assert done.removed == []
        assert _tags(stubborn, "x") == {"tag"}
