"""Images as trees: what manifests name, and indexes with some of their platforms."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import BuildError, ConfigError
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.trees import (
    SOURCE_ANNOTATION,
    fits_platform,
    parts_of,
    read_tree,
    select,
)
from imagebuild.registry.manifest import Descriptor, Manifest, read_manifest
from tests.container_images import (
    DOCKER,
    OCI,
    Image,
    attestation,
    image,
    index,
    layer,
    sha256,
)

WHERE = "reg/db:1"


def manifest(made: Image) -> Manifest:
    return read_manifest(made.manifest, made.media_type, WHERE)


def of(document: dict[str, object], kind: str = OCI["manifest"]) -> Manifest:
    return read_manifest(json.dumps(document).encode(), kind, WHERE)


class Store:
    """Manifests by digest; `asked` are those that were fetched, by level."""

    def __init__(self, *images: Image) -> None:
        self.asked: list[list[str]] = []
        self._all: dict[str, Manifest] = {}
        for one in images:
            self._add(one)

    def _add(self, one: Image) -> None:
        if one.digest in self._all:
            return
        self._all[one.digest] = manifest(one)
        for child in one.children:
            self._add(child)

    def fetch(self, wanted: Sequence[Descriptor]) -> list[Manifest]:
        self.asked.append([d.digest for d in wanted])
        return [self._all[d.digest] for d in wanted]


def test_tree_of_indexes_in_indexes() -> None:
    shared = image([layer({"a": b"1"}), layer({"b": b"1"})])
    other = image([layer({"a": b"1"})], "arm64")
    top = index(index(shared, other), shared)
    store = Store(top)
    tree = read_tree(manifest(top), store.fetch, WHERE)
    # Each manifest once, though two indexes have it; a level at a time.
    assert store.asked == [[top.children[0].digest, shared.digest], [other.digest]]
    order = [n.manifest.digest for n in tree.nodes()]
    assert sorted(order) == sorted(
        {shared.digest, other.digest, top.children[0].digest, top.digest}
    )
    assert order.index(shared.digest) < order.index(top.children[0].digest)
    assert order[-1] == top.digest
    blobs = {b for one in (shared, other) for b in one.blobs}
    assert {b.digest for b in tree.blobs} == {sha256(b) for b in blobs}
    assert tree.size == sum(map(len, blobs))


def test_many_paths_to_the_same_manifest_cost_nothing() -> None:
    top = image([])
    for _ in range(6):
        top = index(*[top] * 30)
    store = Store(top)
    tree = read_tree(manifest(top), store.fetch, WHERE)
    assert len(list(tree.nodes())) == 7


def test_too_deep_and_too_many() -> None:
    top = image([])
    for _ in range(9):
        top = index(top)
    with pytest.raises(ConfigError, match="more than 8 deep"):
        read_tree(manifest(top), Store(top).fetch, WHERE)
    entry = {"mediaType": OCI["manifest"], "size": 1}
    many = [entry | {"digest": f"sha256:{n:064x}"} for n in range(1001)]
    wide = of({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": many}, OCI["index"])
    with pytest.raises(ConfigError, match="more than 1000"):
        read_tree(wide, Store().fetch, WHERE)


def test_a_child_of_another_size_is_not_what_the_index_says() -> None:
    child = image([])
    top = index(child)
    entry = json.loads(top.manifest)
    entry["manifests"][0]["size"] += 1
    with pytest.raises(BuildError, match="not what its index says"):
        read_tree(of(entry, OCI["index"]), Store(top).fetch, WHERE)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "schema 1"),
        ({"schemaVersion": 2, "mediaType": "text/plain"}, "neither an image nor an artifact"),
        ({"schemaVersion": 2, "mediaType": OCI["manifest"], "layers": []}, "damaged"),
        ({"schemaVersion": 2, "mediaType": OCI["manifest"], "config": {}, "layers": []}, "damaged"),
        ({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": "x"}, "damaged"),
        ({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [1]}, "damaged"),
        ({"schemaVersion": 2, "mediaType": OCI["index"],
          "manifests": [{"mediaType": "text/plain", "digest": sha256(b""), "size": 0}]},
         "no manifest"),
        ({"schemaVersion": 2, "mediaType": OCI["index"],
          "manifests": [{"mediaType": OCI["manifest"], "digest": "sha256:../..", "size": 0}]},
         "damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied(document: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parts_of(of(document), WHERE)


def test_layers_that_are_elsewhere() -> None:
    made = json.loads(image([layer({"a": b"1"}), layer({"b": b"1"}), layer({"c": b"1"})]).manifest)
    made["layers"][0]["urls"] = ["https://example.org/1"]
    made["layers"][1]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    parts = parts_of(of(made, DOCKER["manifest"]), WHERE)
    assert [b.digest for b in parts.foreign] == [x["digest"] for x in made["layers"][:2]]
    assert [b.digest for b in parts.blobs] == [
        made["config"]["digest"], made["layers"][2]["digest"],
    ]  # fmt: skip


ARCHES = ("amd64", "arm64", "s390x", "ppc64le", "riscv64")


@given(
    st.lists(st.sampled_from(ARCHES), unique=True, min_size=1),
    st.sets(st.sampled_from(ARCHES), min_size=1),
    st.booleans(),
)
def test_select(there: list[str], wanted: set[str], oci: bool) -> None:
    """What is kept is what was wanted, in its order and form; the same bytes each time."""
    kinds = OCI if oci else DOCKER
    images = [image([layer({a: b""})], a, kinds=kinds) for a in there]
    made = index(*images, *(attestation(i) for i in images), kinds=kinds)
    platforms = [f"linux/{a}" for a in sorted(wanted)]
    if not wanted <= set(there):
        with pytest.raises(MissingError) as caught:
            select(manifest(made), platforms, WHERE)
        missing = wanted - set(there)
        assert all(f"linux/{a}" in caught.value.what for a in missing)
        return
    chosen = select(manifest(made), platforms, WHERE)
    assert chosen == select(manifest(made), [*reversed(platforms), platforms[0]], WHERE)
    assert chosen.digest == sha256(chosen.data)
    assert chosen.media_type == made.media_type
    if wanted == set(there):
        assert chosen.data == made.manifest
        return
    document = json.loads(chosen.data)
    kept = [i for i in images if i.platform and i.platform["architecture"] in wanted]
    assert document["manifests"] == [x.entry for x in (*kept, *(attestation(i) for i in kept))]
    assert document.get("annotations") == ({SOURCE_ANNOTATION: made.digest} if oci else None)


def test_select_keeps_what_it_cannot_judge() -> None:
    """An index in an index says no platform; annotations of the index itself stay."""
    nested = index(image([layer({"n": b""})], "s390x"))
    made = index(image([], "amd64"), nested, image([], "arm64"))
    document = json.loads(made.manifest) | {"annotations": {"a": "b"}}
    chosen = select(of(document, OCI["index"]), ["linux/arm64"], WHERE)
    kept = json.loads(chosen.data)
    assert [e["digest"] for e in kept["manifests"]] == [nested.digest, made.children[2].digest]
    assert kept["annotations"]["a"] == "b"


def test_select_from_a_damaged_index() -> None:
    """What is wrong with what is chosen is told by whoever reads it; nothing else comes out."""
    document = json.loads(index(image([], "amd64"), image([], "arm64")).manifest)
    digests: tuple[object, ...] = ([], {}, None)
    for digest in digests:
        document["manifests"][0]["digest"] = digest
        chosen = select(of(document, OCI["index"]), ["linux/amd64"], WHERE)
        with pytest.raises(ConfigError, match="damaged"):
            parts_of(chosen, WHERE)


@pytest.mark.parametrize(
    ("there", "wanted", "fits"),
    [
        ("linux/arm64", "linux/arm64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/amd64/v3", "linux/amd64/v1", False),
        ("windows/amd64", "linux/amd64", False),
        ("", "linux/amd64", False),
    ],
)
def test_fits_platform(there: str, wanted: str, fits: bool) -> None:
    assert fits_platform(there, wanted) is fits


def test_select_from_a_list_of_variants() -> None:
    images = [image([layer({v: b""})], "arm", variant=v) for v in ("v5", "v6", "v7")]
    made = manifest(index(*images))
    [kept] = json.loads(select(made, ["linux/arm/v7"], WHERE).data)["manifests"]
    assert kept["digest"] == images[2].digest
    assert select(made, ["linux/arm"], WHERE) == made
