"""Manifests put into a real registry, and deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, PublishError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import read_manifest
from imagebuild.registry.reference import Reference
from tests.container_images import DOCKER, OCI, image, index, layer
from tests.registry.blobs import TINY, connect, push_blobs
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_manifest_keeps_its_bytes_and_its_media_type(
    client: Client, reference: Reference, kinds: dict[str, str]
) -> None:
    made = image([layer({"a": b"a"})], kinds=kinds)
    push_blobs(client, reference, *made.blobs)
    child = read_manifest(made.manifest, made.media_type, "test")
    assert client.put_manifest(reference.at(child.digest), child) is False
    assert client.tags(reference) == [], "a digest has no tag"
    whole = index(made, kinds=kinds)
    parent = read_manifest(whole.manifest, whole.media_type, "test")
    client.put_manifest(reference, parent)
    assert client.head_manifest(reference) == parent.descriptor
    again = client.get_manifest(reference)
    assert (again.data, again.media_type) == (whole.manifest, kinds["index"])
    assert client.get_manifest(reference.at(child.digest)).data == made.manifest


def test_manifest_whose_blobs_are_not_there(client: Client, reference: Reference) -> None:
    manifest = read_manifest(TINY.manifest, TINY.media_type, "test")
    with pytest.raises(PublishError) as caught:
        client.put_manifest(reference, manifest)
    assert "MANIFEST_BLOB_UNKNOWN" in caught.value.detail


def test_manifest_under_the_digest_of_another(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    manifest = read_manifest(TINY.manifest, TINY.media_type, "test")
    with pytest.raises(BuildError):
        client.put_manifest(reference.at(f"sha256:{'2' * 64}"), manifest)
    assert proxy.seen() == []


def test_manifest_that_is_changed_on_the_way(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    """By a tag the registry would take it; what it says of it does not fit."""
    push_blobs(client, reference, *TINY.blobs)
    document = json.dumps({**json.loads(TINY.manifest), "annotations": {"a": "xxxx"}}).encode()
    manifest = read_manifest(document, TINY.media_type, "test")
    proxy.corrupt_upload("/manifests/", method="PUT", at=document.index(b"xxxx"))
    with pytest.raises(BuildError, match="another manifest"):
        client.put_manifest(reference, manifest)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, b""),
        (412, b'{"errors":[{"code":"PRECONDITION","message":"configured as immutable"}]}'),
        (400, b'{"errors":[{"code":"TAG_INVALID","message":"because the tag is immutable."}]}'),
    ],
)
def test_tag_that_may_not_be_put_again(
    client: Client, proxy: RegistryProxy, reference: Reference, status: int, body: bytes
) -> None:
    proxy.fail("PUT", "/manifests/", status=status, body=body)
    with pytest.raises(PublishError) as caught:
        client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
    assert "does not let the tag be put again" in caught.value.what
    assert str(reference) in caught.value.where


def test_subject_that_the_registry_notes(proxy: RegistryProxy, reference: Reference) -> None:
    manifest = read_manifest(TINY.manifest, TINY.media_type, "test")
    proxy.fail("PUT", "/manifests/", status=201, headers=(("OCI-Subject", manifest.digest),))
    with connect(proxy.host) as client:
        assert client.put_manifest(reference, manifest) is True


def test_manifest_is_put_again_after_a_limit(
    client: Client, proxy: RegistryProxy, reference: Reference
) -> None:
    push_blobs(client, reference, *TINY.blobs)
    proxy.limit("PUT", "/manifests/", retry_after="")
    proxy.fail("PUT", "/manifests/", status=503, nth=1)
    client.put_manifest(reference, read_manifest(TINY.manifest, TINY.media_type, "test"))
    assert [r.status for r in proxy.seen("PUT", "/manifests/")] == [429, 503, 201]
    assert all(r.received == len(TINY.manifest) for r in proxy.seen("PUT", "/manifests/"))


# --- deletion ---


def test_deletion(tmp_path: Path, server: RegistryServer) -> None:
    """Only a registry that is told to deletes; docker's does not do so by tag."""
    made = image([layer({"a": b"deleted"})])
    made.push(server, "deletion", "1", "2")
    reference = Reference.parse(f"{server.host}/deletion:1")
    with RegistryServer(tmp_path, deletes=True, data=server.data) as deleting:
        with connect(server.host) as plain, pytest.raises(PublishError, match="does not delete"):
            plain.delete_manifest(reference.at(made.digest))
        there = Reference.parse(f"{deleting.host}/deletion:1")
        with connect(deleting.host) as client:
            with pytest.raises(PublishError) as caught:
                client.delete_manifest(there)
            assert "tags" in caught.value.what
            assert client.delete_manifest(there.at(made.digest)) is True
            assert client.head_manifest(there) is None
            assert client.delete_manifest(there.at(made.digest)) is False
