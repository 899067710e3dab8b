"""What a walk finds that a HEAD of the tag does not: against a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import TemporaryError
from imagebuild.mirror.checking import Flaw, check_images
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.container_images import OCI, Image, attestation, image, index, layer, sha256
from tests.registry_server import RegistryServer

AMD64 = image([layer({"a": b"a" * 100}), layer({"b": b"b" * 5000})], kinds=OCI)
ARM64 = image([layer({"a": b"a" * 100}), layer({"c": b"c" * 50})], "arm64", kinds=OCI)
WHOLE = index(AMD64, ARM64, attestation(AMD64))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(environ={}) as opened:
        yield opened


def _reference(server: RegistryServer, repository: str, tag: str = "1") -> Reference:
    return Reference(server.host, repository, tag)


def _fresh(server: RegistryServer, repository: str, salt: bytes) -> Image:
    """An index whose blobs no other repository has, under the tag 1."""
    one = image([layer({"a": salt}), layer({"b": salt * 500})], kinds=OCI)
    two = image([layer({"c": salt})], "arm64", kinds=OCI)
    made = index(one, two)
    made.push(server, repository, "1")
    return made


def test_a_whole_image_is_whole(server: RegistryServer, client: Client) -> None:
    WHOLE.push(server, "whole", "1")
    before = dict(client.request_counts)
    (walk,) = check_images(client, [_reference(server, "whole")])
    assert walk.ok
    assert walk.digest == WHOLE.digest
    children = [AMD64.digest, ARM64.digest, WHOLE.children[2].digest]
    assert list(walk.manifests) == [WHOLE.digest, *children]
    # Two configurations, three layers, and the attestation's two parts.
    assert walk.blobs == 7
    asked = {k: n - before.get(k, 0) for k, n in client.request_counts.items()}
    assert (asked["GET"], asked["HEAD"]) == (4, 1 + 7)


def test_a_tag_that_is_not_there(server: RegistryServer, client: Client) -> None:
    (walk,) = check_images(client, [_reference(server, "whole", "none")])
    assert (walk.ok, walk.digest, walk.problem) == (False, "", "")


def test_blobs_of_two_tags_are_asked_for_once(server: RegistryServer, client: Client) -> None:
    AMD64.push(server, "shared", "1", "2")
    walks = check_images(client, [_reference(server, "shared", tag) for tag in ("1", "2")])
    assert all(w.ok for w in walks)
    assert client.request_counts["HEAD"] == 2 + 3


def test_a_missing_blob_is_named_with_its_manifest(server: RegistryServer, client: Client) -> None:
    made = _fresh(server, "blob", b"missing blob")
    lost = made.children[1].blobs[1]
    server.blob_file(sha256(lost)).unlink()
    (walk,) = check_images(client, [_reference(server, "blob")])
    assert walk.digest == made.digest
    assert [(p.flaw, p.part.digest, p.named_by) for p in walk.problems] == [
        (Flaw.NO_BLOB, sha256(lost), made.children[1].digest)
    ]
    assert sha256(lost) in walk.problem


def test_a_blob_that_was_cut_is_wrong(server: RegistryServer, client: Client) -> None:
    made = _fresh(server, "cut", b"cut blob")
    cut = server.blob_file(sha256(made.children[0].blobs[2]))
    cut.write_bytes(cut.read_bytes()[:-1])
    (walk,) = check_images(client, [_reference(server, "cut")])
    assert [p.flaw for p in walk.problems] == [Flaw.NO_BLOB]


def test_a_missing_child_is_named(server: RegistryServer, client: Client) -> None:
    made = _fresh(server, "child", b"missing child")
    server.blob_file(made.children[1].digest).unlink()
    (walk,) = check_images(client, [_reference(server, "child")])
    assert [(p.flaw, p.part.digest) for p in walk.problems] == [
        (Flaw.NO_MANIFEST, made.children[1].digest)
    ]


def test_only_a_deep_look_finds_a_changed_byte(server: RegistryServer, client: Client) -> None:
    made = _fresh(server, "flipped", b"flipped")
    digest = sha256(made.children[0].blobs[2])
    place = server.blob_file(digest)
    data = bytearray(place.read_bytes())
    data[20] ^= 1
    place.write_bytes(bytes(data))
    assert check_images(client, [_reference(server, "flipped")])[0].ok
    told: list[tuple[int, int, int, int]] = []
    (walk,) = check_images(
        client, [_reference(server, "flipped")], deep=True, progress=lambda *n: told.append(n)
    )
    assert [(p.flaw, p.part.digest) for p in walk.problems] == [(Flaw.BAD_BLOB, digest)]
    size = sum(len(b) for child in made.children for b in child.blobs)
    assert told[-1] == (5, 5, size, size)


def test_a_blob_is_read_in_a_repository_that_has_it(server: RegistryServer, client: Client) -> None:
    """A list's first repository may have lost what all share: the others' bytes count yet."""
    for name in ("one", "two"):
        made = _fresh(server, f"read-{name}", b"read once")
    lost = sha256(made.children[0].blobs[2])
    hexdigest = lost.partition(":")[2]
    for link in server.data.rglob(f"read-one/_layers/sha256/{hexdigest}/link"):
        link.unlink()
    place = server.blob_file(lost)
    place.write_bytes(bytes(b ^ 1 for b in place.read_bytes()))
    walks = check_images(
        client, [_reference(server, f"read-{n}") for n in ("one", "two")], deep=True
    )
    assert [[p.flaw for p in w.problems] for w in walks] == [[Flaw.NO_BLOB], [Flaw.BAD_BLOB]]


def test_a_registry_that_does_not_answer_is_an_error_of_its_images(
    tmp_path: Path, client: Client, server: RegistryServer
) -> None:
    with RegistryServer(tmp_path / "gone") as gone:
        host = gone.host
    WHOLE.push(server, "whole", "1")
    references = [Reference(host, "any", "1"), _reference(server, "whole")]
    lost, there = check_images(client, references)
    assert isinstance(lost.error, TemporaryError)
    assert not lost.ok
    assert there.ok
