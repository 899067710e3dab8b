"""Manifests and indexes: which are images, and which platform is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import ConfigError
from imagebuild.registry.manifest import (
    Descriptor,
    Manifest,
    check_image,
    choose_platform,
    image_config,
    image_manifest,
    read_manifest,
)
from tests.container_images import DOCKER, OCI, Image, attestation, image, index, layer, sha256

LAYER = layer({"a": b"a"})


def read(built: Image, served_as: str = "application/json") -> Manifest:
    return read_manifest(built.manifest, served_as, "here")


def changed(built: Image, **keys: object) -> Manifest:
    """An image's manifest with other keys; None takes one away."""
    document = json.loads(built.manifest) | keys
    data = json.dumps({k: v for k, v in document.items() if v is not None}).encode()
    return read_manifest(data, "application/json", "here")


@pytest.mark.parametrize("kinds", [DOCKER, OCI])
def test_platform_of_the_guest_is_taken(kinds: dict[str, str]) -> None:
    amd64, arm64 = (image([LAYER], arch, kinds=kinds) for arch in ("amd64", "arm64"))
    both = read(index(attestation(amd64), arm64, amd64, attestation(arm64), kinds=kinds))
    assert choose_platform(both, "amd64", "here").digest == amd64.digest
    assert choose_platform(both, "arm64", "here").digest == arm64.digest
    assert both.is_index


@pytest.mark.parametrize(
    ("arch", "variants", "taken"),
    [("arm64", ["v9", "v8"], 1), ("amd64", ["v3", "v2", ""], 2), ("amd64", ["v3", "v1"], 1)],
)
def test_variant_that_every_guest_can_run(arch: str, variants: list[str], taken: int) -> None:
    images = [image([LAYER], arch, variant=v) for v in variants]
    assert choose_platform(read(index(*images)), arch, "here").digest == images[taken].digest


def test_platforms_are_listed_when_ours_is_not_there() -> None:
    arm64 = image([LAYER], "arm64", variant="v8")
    both = index(arm64, image([LAYER], "s390x"), attestation(arm64))
    with pytest.raises(ConfigError, match="linux/amd64") as caught:
        choose_platform(read(both), "amd64", "here")
    assert caught.value.detail == "there are: linux/arm64/v8, linux/s390x"


def test_attestation_is_never_an_image() -> None:
    built = image([LAYER])
    with pytest.raises(ConfigError) as caught:
        choose_platform(read(index(attestation(built))), "amd64", "here")
    assert caught.value.detail == "there are: none at all"
    with pytest.raises(ConfigError, match="layer that a Linux guest cannot use"):
        image_manifest(read(attestation(built)), "here")


def test_one_image_without_a_platform() -> None:
    only = Image(image([LAYER]).manifest, DOCKER["manifest"])
    assert choose_platform(read(index(only)), "arm64", "here").digest == only.digest
    with pytest.raises(ConfigError) as caught:
        choose_platform(read(index(only, only)), "arm64", "here")
    assert caught.value.detail == "there are: no platform"


def test_parts_of_an_image() -> None:
    built = image([LAYER, layer({"b": b"b"})], labels={"a": "b"})
    parts = image_manifest(read(built), "here")
    settings, *layers = built.blobs
    assert parts.config.digest == sha256(settings)
    assert [(d.digest, d.size) for d in parts.layers] == [(sha256(x), len(x)) for x in layers]
    config = image_config(settings, "here")
    assert (config.platform, len(config.diff_ids), config.labels) == ("linux/amd64", 2, {"a": "b"})
    check_image(config, 2, "amd64", "here")


@pytest.mark.parametrize(
    ("count", "arch", "why"), [(1, "arm64", "there is: linux/amd64"), (2, "amd64", "2 layers, 1")]
)
def test_image_that_a_guest_cannot_run(count: int, arch: str, why: str) -> None:
    config = image_config(image([LAYER]).blobs[0], "here")
    with pytest.raises(ConfigError) as caught:
        check_image(config, count, arch, "here")
    assert why in caught.value.detail


def test_media_type_is_the_manifests_own_word() -> None:
    assert read(image([LAYER]), "text/plain").media_type == DOCKER["manifest"]
    silent = changed(image([LAYER], kinds=OCI), mediaType=None)
    assert silent.media_type == OCI["manifest"]
    assert changed(index(), mediaType=None).media_type == OCI["index"]


SCHEMA_1 = {"schemaVersion": 1, "name": "a", "fsLayers": [], "signatures": []}


def entry(**keys: object) -> dict[str, object]:
    return {"mediaType": DOCKER["layer"], "size": 1, "digest": sha256(b"")} | keys


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"manifests": []}, "an index and an image at once"),
        ({"config": None, "layers": None, "mediaType": None, **SCHEMA_1}, "schema 1"),
        ({"mediaType": "application/vnd.x"}, "no container image"),
        ({"config": {"mediaType": DOCKER["config"]}}, "damaged"),
        ({"layers": None}, "lists no layers"),
        ({"layers": [3]}, "damaged"),
        ({"layers": [entry(digest="../../x")]}, "damaged"),
        ({"layers": [entry(size=-1)]}, "damaged"),
        ({"layers": [entry(size="1")]}, "damaged"),
        ({"layers": [entry(mediaType=f"{OCI['layer']}+encrypted")]}, "cannot use"),
    ],
)
def test_manifests_that_are_refused(keys: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        image_manifest(changed(image([LAYER]), **keys), "here")
    assert what in caught.value.what


@pytest.mark.parametrize(
    "kind", ["application/vnd.cncf.helm.config.v1+json", "application/vnd.oci.empty.v1+json"]
)
def test_artifact_is_no_image(kind: str) -> None:
    chart = image([LAYER], kinds=OCI | {"config": kind})
    with pytest.raises(ConfigError, match="no container image") as caught:
        image_manifest(read(chart), "here")
    assert kind in caught.value.detail


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_what_is_no_json_object(data: bytes) -> None:
    for parse in (lambda: read_manifest(data, "", "here"), lambda: image_config(data, "here")):
        with pytest.raises(ConfigError, match="is not the JSON"):
            parse()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mediaType", "config", "layers", "manifests", "platform", "rootfs", "diff_ids",
                 "digest", "size", "annotations", "Labels", "schemaVersion", "os"]
            ),
            inner, max_size=5,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(JSON, st.sampled_from([*DOCKER.values(), *OCI.values()]))
def test_any_json_is_read_or_refused(document: object, kind: str) -> None:
    data = json.dumps(document).encode()
    for parse in (
        lambda: image_manifest(read_manifest(data, kind, "here"), "here"),
        lambda: choose_platform(read_manifest(data, kind, "here"), "amd64", "here"),
        lambda: image_config(data, "here"),
        lambda: Descriptor.from_json(document),
    ):
        try:
            parse()
        except (ConfigError, ValueError):
            continue


def test_descriptor_and_json_are_the_same() -> None:
    one = Descriptor("a/b", sha256(b""), 0)
    assert Descriptor.from_json(one.to_json()) == one
