"""Tags and referrers: pages of them, none of them, and registries that have no such list."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from imagebuild.errors import ConfigError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import Descriptor, read_manifest
from imagebuild.registry.reference import Reference
from tests.container_images import OCI, Image, image, index, layer
from tests.registry.blobs import TINY, connect, push_blobs
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer
from tests.unit.registry_fake import Fake, Handler, serve

PASSWORD = "hunter2"  # noqa: S105
SUBJECT = f"sha256:{'5' * 64}"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serve() as running:
        yield running


def reference_of(fake: Fake) -> Reference:
    return Reference.parse(f"{fake.host}/a/b:1")


# --- tags ---


def test_all_tags_of_a_repository(client: Client, server: RegistryServer) -> None:
    names = [f"v{n}" for n in range(7)]
    TINY.push(server, "many-tags", *names)
    reference = Reference.parse(f"{server.host}/many-tags:v0")
    assert sorted(client.tags(reference)) == names


def test_repository_that_is_not_there_has_no_tags(client: Client, reference: Reference) -> None:
    assert client.tags(reference) == []


def test_null_is_no_tag(fake: Fake) -> None:
    """docker's registry says so of a repository whose last tag was deleted."""
    fake.content["/v2/a/b/tags/list"] = ("application/json", b'{"name":"a/b","tags":null}')
    with connect(fake.host) as client:
        assert client.tags(reference_of(fake)) == []


def pages(fake: Fake, link: str) -> None:
    """Three pages, with links of this form; the registry wants a login."""
    answers = {"": ["a", "b"], "b": ["c"], "c": ["c", "d"]}
    after = {"": "b", "b": "c"}

    def meddle(handler: Handler) -> bool:
        if not handler.headers.get("Authorization"):
            return handler.answer(401, WWW_Authenticate='Basic realm="x"')
        _, _, last = handler.path.partition("last=")
        data = json.dumps({"name": "a/b", "tags": answers[last]}).encode()
        path = f"/v2/a/b/tags/list?n=1000&last={after.get(last)}"
        more = {"Link": f'<{link}{path}>; rel="next"'} if last in after else {}
        return handler.answer(200, data, "application/json", **more)

    fake.meddle = meddle


@pytest.mark.parametrize("link", ["", "absolute", "other"])
def test_links_to_further_pages(fake: Fake, link: str) -> None:
    with serve() as other:
        pages(fake, {"": "", "absolute": fake.url, "other": other.url}[link])
        with connect(fake.host, username="me", password=PASSWORD) as client:
            assert client.tags(reference_of(fake)) == ["a", "b", "c", "d"]
        assert other.asked == [], "the login goes to the registry alone"


def test_pages_that_go_round(fake: Fake) -> None:
    link = '</v2/a/b/tags/list?n=1000>; rel="next"'
    fake.meddle = lambda h: h.answer(200, b'{"tags":["a"]}', "application/json", Link=link)
    with connect(fake.host) as client:
        assert client.tags(reference_of(fake)) == ["a"]
    assert len(fake.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tags":"a"}', b"[" * 100_000])
def test_list_that_is_none(fake: Fake, body: bytes) -> None:
    fake.meddle = lambda h: h.answer(200, body, "text/html")
    with connect(fake.host) as client, pytest.raises(ConfigError, match="list"):
        client.tags(reference_of(fake))


# --- referrers ---


def entries(*digits: str) -> list[Descriptor]:
    return [Descriptor(OCI["manifest"], f"sha256:{d * 64}", 7) for d in digits]


def index_of(descriptors: list[Descriptor]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI["index"],
        "manifests": [
            {**d.to_json(), "artifactType": "application/vnd.x", "annotations": {"a": "b"}}
            for d in descriptors
        ],
    }
    return json.dumps(document).encode()


def test_referrers_of_the_api_come_in_pages(fake: Fake) -> None:
    path = f"/v2/a/b/referrers/{SUBJECT}"

    def meddle(handler: Handler) -> bool:
        if handler.path == path:
            link = f'<{path}?last=x>; rel="next"'
            return handler.answer(200, index_of(entries("1", "2")), OCI["index"], Link=link)
        return handler.answer(200, index_of(entries("2", "3")), OCI["index"])

    fake.meddle = meddle
    with connect(fake.host) as client:
        found = client.referrers(reference_of(fake).at(SUBJECT))
    assert list(found) == entries("1", "2", "3")


def test_api_that_knows_no_referrer_is_believed(fake: Fake) -> None:
    fake.meddle = lambda h: h.answer(200, index_of([]), OCI["index"])
    with connect(fake.host) as client:
        assert client.referrers(reference_of(fake).at(SUBJECT)) == ()
    assert len(fake.asked) == 1


def signature(subject: Image) -> Image:
    made = image([layer({"sig": b"sig"})], kinds=OCI)
    document = json.loads(made.manifest) | {"subject": {
        "mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.manifest),
    }}  # fmt: skip
    return Image(json.dumps(document).encode(), OCI["manifest"], made.blobs)


def test_referrers_by_their_tag_where_there_is_no_api(
    client: Client, reference: Reference, proxy: RegistryProxy
) -> None:
    """docker-registry 2.8 has no such API, and takes the subject for a word like any other."""
    push_blobs(client, reference, *TINY.blobs)
    client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
    at = reference.at(TINY.digest)
    assert client.referrers(at) == ()
    made = signature(TINY)
    push_blobs(client, reference, *made.blobs)
    manifest = read_manifest(made.manifest, made.media_type, "test")
    assert client.put_manifest(reference.at(made.digest), manifest) is False
    assert client.referrers(at) == (), "nobody has put the tag yet"
    listed = index(made)
    tag = Reference(at.registry, at.repository, f"sha256-{TINY.digest.removeprefix('sha256:')}")
    client.put_manifest(tag, read_manifest(listed.manifest, listed.media_type, "test"))
    assert client.referrers(at) == (manifest.descriptor,)
    assert proxy.count("GET", "/referrers/") == 3


def test_fallback_tag_that_is_no_index(client: Client, reference: Reference) -> None:
    """Some tools put a signature there itself."""
    push_blobs(client, reference, *TINY.blobs)
    manifest = read_manifest(TINY.manifest, TINY.media_type, "test")
    tag = Reference(reference.registry, reference.repository, SUBJECT.replace(":", "-"))
    client.put_manifest(tag, manifest)
    assert client.referrers(reference.at(SUBJECT)) == ()


def test_referrers_that_are_damaged(fake: Fake) -> None:
    body = b'{"manifests":[{"digest":"../../etc"}]}'
    fake.meddle = lambda h: h.answer(200, body, OCI["index"])
    with connect(fake.host) as client, pytest.raises(ConfigError, match="damaged"):
        client.referrers(reference_of(fake).at(SUBJECT))
