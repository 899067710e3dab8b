"""Copies between real registries: what arrives, what is asked, and what is left alone."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections import Counter

import pytest

from imagebuild.events import Event
from imagebuild.mirror.copier import ImageFinished, ImageProgress, run_plan
from imagebuild.mirror.lockfile import Lock, Locked, made_of, update_lock
from imagebuild.mirror.planning import make_plan
from imagebuild.mirror.referrers import fallback_tag
from imagebuild.mirror.result import Outcome, Report
from imagebuild.mirror.trees import SOURCE_ANNOTATION
from imagebuild.registry.client import Client
from imagebuild.registry.settings import RegistrySettings
from tests.container_images import (
    DOCKER,
    OCI,
    Image,
    artifact,
    attestation,
    descriptor,
    image,
    index,
    layer,
    noise,
    sha256,
)
from tests.mirror.mirrors import all_manifests, assert_same, digest_of, fetch, item, problems, sync
from tests.registry_server import RegistryServer


def buildx_image(seed: int = 0, size: int = 1000) -> Image:
    """As BuildKit makes it: two platforms, each with its provenance."""
    base = noise(seed, size)
    images = [
        image([base, layer({arch: b"x"})], arch, kinds=OCI, labels={"seed": str(seed)})
        for arch in ("amd64", "arm64")
    ]
    return index(*images, *(attestation(i) for i in images))


def zstd_image() -> Image:
    """Layers of a media type that is not for docker, and bytes that nobody has to read."""
    kinds = OCI | {"layer": "application/vnd.oci.image.layer.v1.tar+zstd"}
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    data = b"\x28\xb5\x2f\xfd not really zstd"
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "config": descriptor(config, OCI["config"]),
        "layers": [descriptor(data, kinds["layer"])],
    }
    return Image(json.dumps(manifest).encode(), OCI["manifest"], (config, data))


def odd_image() -> Image:
    """Another program's gzip, a layer twice, a manifest in a form of its own."""
    plain = gzip.decompress(layer({"a": b"x" * 5000}))
    squeezed = gzip.compress(plain, 3, mtime=1234567890)
    made = image([squeezed, squeezed])
    return dataclasses.replace(made, manifest=made.manifest + b"\n\n ")


IMAGES = {
    "docker": image([noise(1, 3000), layer({"b": b"2"})]),
    "docker-list": index(image([layer({"a": b"1"})]), image([layer({"a": b"2"})], "arm64"),
                         kinds=DOCKER),
    "buildx": buildx_image(),
    "zstd": zstd_image(),
    "odd": odd_image(),
    "nested": index(index(image([layer({"n": b"1"})], kinds=OCI)), buildx_image(2)),
    "artifact": artifact(None, "application/vnd.example.chart", b"a chart", title="chart"),
    "no-layers": image([]),
}  # fmt: skip


@pytest.mark.parametrize("kind", IMAGES)
def test_copied_byte_for_byte(
    source: RegistryServer, target: RegistryServer, client: Client, kind: str
) -> None:
    made = IMAGES[kind]
    made.push(source, f"kinds/{kind}", "1")
    [result] = sync(client, item(f"{source.host}/kinds/{kind}:1", f"{target.host}/kinds/{kind}:1"))
    assert (result.outcome, result.digest, result.error) == (Outcome.COPIED, made.digest, None)
    assert_same(target, f"kinds/{kind}", "1", made)
    blobs = {b for m in all_manifests(made) for b in m.blobs}
    assert result.size == result.bytes_copied == sum(map(len, blobs))


def test_nothing_to_do_is_heads_only(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    for n in range(3):
        buildx_image(10 + n).push(source, f"same/{n}", "1")
    items = [
        item(f"{source.host}/same/{n}:1", f"{target.host}/same/{n}:1", aliases=("one",))
        for n in range(3)
    ]
    assert {r.outcome for r in sync(client, *items)} == {Outcome.COPIED}
    with Client(environ={}) as second:
        assert {r.outcome for r in sync(second, *items)} == {Outcome.UNCHANGED}
        # Tag and alias in the target, and the tag in the source.
        assert second.request_counts == {"HEAD": 9}


def test_a_blob_goes_over_the_wire_once(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """Of two repositories, the second mounts it: in one run, and in a later one."""
    base = noise(20, 200_000)
    for n in range(4):
        image([base, layer({f"own-{n}": b"1"})]).push(source, f"shared/{n}", "1")
    items = [
        item(f"{source.host}/shared/{n}:1", f"{target.host}/shared-there/{n}:1") for n in range(4)
    ]
    results = sync(client, *items[:3])
    assert sum(r.bytes_mounted for r in results) == 2 * len(base)
    assert sum(r.bytes_copied for r in results) == sum(r.size for r in results) - 2 * len(base)

    plan = make_plan(client, items, count_bytes=True)
    assert plan.planned[3].bytes_to_mount == len(base)
    assert [p.bytes_to_move for p in plan.planned[:3]] == [0, 0, 0]
    last = run_plan(client, plan).results[3]
    assert (last.bytes_mounted, last.bytes_copied) == (len(base), plan.planned[3].bytes_to_move)
    for n in range(4):
        assert not list(problems(target.host, f"shared-there/{n}", "1"))


def test_same_registry_mounts_from_the_source(source: RegistryServer, client: Client) -> None:
    made = buildx_image(30)
    made.push(source, "here", "1")
    [result] = sync(client, item(f"{source.host}/here:1", f"{source.host}/there/here:1"))
    assert (result.bytes_copied, result.bytes_mounted) == (0, result.size)
    assert_same(source, "there/here", "1", made)


def test_replaced_tag_keeps_the_old_image(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    old, new = buildx_image(40), buildx_image(41)
    old.push(source, "moving", "8.0")
    wanted = item(f"{source.host}/moving:8.0", f"{target.host}/moving:8.0",
                  backup="8.0-previous", aliases=("8",))  # fmt: skip
    [first] = sync(client, wanted)
    assert (first.outcome, first.backup) == (Outcome.COPIED, "")
    new.push(source, "moving", "8.0")
    [second] = sync(client, wanted)
    assert (second.outcome, second.before, second.digest) == (
        Outcome.REPLACED, old.digest, new.digest,
    )  # fmt: skip
    assert second.tags == ("8.0", "8", "8.0-previous")
    assert_same(target, "moving", "8.0", new)
    assert_same(target, "moving", "8", new)
    assert_same(target, "moving", "8.0-previous", old)
    lock = update_lock(Lock(), Report((second,), 0))
    assert lock.tags == {
        f"{target.host}/moving:8.0": new.digest,
        f"{target.host}/moving:8": new.digest,
        f"{target.host}/moving:8.0-previous": old.digest,
    }


def test_a_new_alias_moves_no_bytes(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    made = image([noise(45, 1000)])
    made.push(source, "alias", "8.4")
    wanted = item(f"{source.host}/alias:8.4", f"{target.host}/alias:8.4", backup="old")
    sync(client, wanted)
    [result] = sync(client, dataclasses.replace(wanted, aliases=("8.4.2",)))
    assert (result.outcome, result.tags, result.bytes_copied) == (Outcome.COPIED, ("8.4.2",), 0)
    assert digest_of(target.host, "alias", "8.4.2") == made.digest
    assert not digest_of(target.host, "alias", "old")


def test_missing_and_failing_items_do_not_stop_the_others(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    good, broken = image([noise(50, 1000)]), image([noise(51, 5000)])
    good.push(source, "good", "1")
    broken.push(source, "broken", "1")
    damaged = source.blob_file(sha256(broken.blobs[1]))
    damaged.write_bytes(bytes(len(broken.blobs[1])))
    results = sync(
        client,
        *(item(f"{source.host}/{n}:1", f"{target.host}/mixed/{n}:1")
          for n in ("gone", "broken", "good")),
    )  # fmt: skip
    assert [r.outcome for r in results] == [Outcome.MISSING, Outcome.FAILED, Outcome.COPIED]
    assert results[1].error
    assert sha256(broken.blobs[1]) in results[1].error["where"]
    assert not digest_of(target.host, "mixed/broken", "1")
    assert not fetch(target.host, "mixed/broken", f"blobs/{sha256(broken.blobs[1])}").ok
    assert Report(tuple(results), 0).failed


def test_damaged_manifest_gets_no_tag(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    made = buildx_image(52)
    made.push(source, "bent", "1")
    child = source.blob_file(made.children[0].digest)
    child.write_bytes(child.read_bytes().replace(b"linux", b"minix").replace(b"sha256", b"sha256"))
    child.write_bytes(child.read_bytes() + b" ")
    [result] = sync(client, item(f"{source.host}/bent:1", f"{target.host}/bent:1"))
    assert result.outcome is Outcome.FAILED
    assert not digest_of(target.host, "bent", "1")


def test_pinned_and_locked_digests(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    old, new = buildx_image(60), buildx_image(61)
    old.push(source, "pinned", "1")
    wanted = item(f"{source.host}/pinned:1", f"{target.host}/pinned:1")
    key = f"{source.host}/pinned:1"
    lock = update_lock(Lock(), Report(tuple(sync(client, wanted)), 0))
    assert lock.sources[key].digest == old.digest
    new.push(source, "pinned", "1")

    [same] = make_plan(client, [wanted], lock=lock).planned
    assert same.outcome is Outcome.UNCHANGED
    assert run_plan(client, make_plan(client, [wanted])).results[0].digest == new.digest
    # Back to what the lock says.
    [back] = run_plan(client, make_plan(client, [wanted], lock=lock)).results
    assert (back.outcome, back.digest) == (Outcome.REPLACED, old.digest)
    pinned = item(f"{source.host}/pinned:1@{new.digest}", f"{target.host}/pinned:1")
    assert sync(client, pinned)[0].digest == new.digest

    gone = Lock({key: Locked(f"sha256:{'0' * 64}")})
    [missing] = make_plan(client, [wanted], lock=gone).planned
    assert missing.outcome is Outcome.MISSING


class TestPlatforms:
    """An index with some of the platforms is another one, and yet is known again."""

    def test_filtered_index(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        made = buildx_image(70)
        made.push(source, "filtered", "1")
        wanted = item(f"{source.host}/filtered:1", f"{target.host}/filtered:1",
                      platforms=("linux/arm64",))  # fmt: skip
        [result] = sync(client, wanted)
        assert result.outcome is Outcome.COPIED
        assert result.digest != made.digest == result.source_digest
        document = json.loads(fetch(target.host, "filtered", "manifests/1").content)
        assert document["manifests"] == [made.children[1].entry, made.children[3].entry]
        assert document["annotations"] == {SOURCE_ANNOTATION: made.digest}
        assert not list(problems(target.host, "filtered", "1"))
        assert not fetch(target.host, "filtered", f"manifests/{made.children[0].digest}").ok

        # With the lock's help HEADs do; without it, one GET of the source's index.
        lock = update_lock(Lock(), Report((result,), 0))
        assert lock.made == {result.digest: made_of(made.digest, ("linux/arm64",))}
        for known, asked in ((lock, {"HEAD": 2}), (None, {"HEAD": 2, "GET": 1})):
            with Client(environ={}) as second:
                plan = make_plan(second, [wanted], known=known)
                assert run_plan(second, plan).results[0].outcome is Outcome.UNCHANGED
                assert second.request_counts == asked
        # Another choice is another image.
        both = dataclasses.replace(wanted, platforms=("linux/arm64", "linux/amd64"))
        [again] = run_plan(client, make_plan(client, [both], known=lock)).results
        assert (again.outcome, again.digest) == (Outcome.REPLACED, made.digest)

    def test_what_the_lock_knows_is_made_again_as_it_was(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        """A new alias and a lost blob of a filtered index: not all platforms come with them."""
        buildx_image(72).push(source, "filtered-again", "1")
        wanted = item(f"{source.host}/filtered-again:1", f"{target.host}/filtered-again:1",
                      platforms=("linux/arm64",))  # fmt: skip
        [first] = sync(client, wanted)
        lock = update_lock(Lock(), Report((first,), 0))

        more = dataclasses.replace(wanted, aliases=("alias",))
        [result] = run_plan(client, make_plan(client, [more], known=lock)).results
        assert (result.outcome, result.tags) == (Outcome.COPIED, ("alias",))
        assert digest_of(target.host, "filtered-again", "alias") == first.digest

        [child, *_] = json.loads(fetch(target.host, "filtered-again", "manifests/1").content)[
            "manifests"
        ]
        [layer, *_] = json.loads(
            fetch(target.host, "filtered-again", f"manifests/{child['digest']}").content
        )["layers"]
        target.blob_file(layer["digest"]).unlink()
        [result] = run_plan(client, make_plan(client, [more], known=lock), deep=True).results
        assert (result.outcome, result.repaired) == (Outcome.UNCHANGED, 1)
        for tag in ("1", "alias"):
            assert digest_of(target.host, "filtered-again", tag) == first.digest
        assert not list(problems(target.host, "filtered-again", "1"))

    def test_a_platform_that_is_not_there(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        buildx_image(71).push(source, "platform", "index")
        image([layer({"a": b"1"})], "arm64", variant="v8").push(source, "platform", "single")
        results = sync(
            client,
            *(item(f"{source.host}/platform:{tag}", f"{target.host}/platform:{tag}",
                   platforms=("linux/s390x",)) for tag in ("index", "single")),
            item(f"{source.host}/platform:single", f"{target.host}/platform:fits",
                 platforms=("linux/arm64",)),
        )  # fmt: skip
        assert [r.outcome for r in results] == [Outcome.MISSING, Outcome.MISSING, Outcome.COPIED]
        assert results[1].error
        assert "linux/arm64/v8" in results[1].error["detail"]


class TestReferrers:
    """Signatures and the like come along, by whichever way the source has them."""

    def test_fallback_tag_and_cosign_tags(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        made = buildx_image(80)
        made.push(source, "signed", "1")
        sbom = artifact(made, "application/spdx+json", b"an SBOM", made="by test")
        of_child = artifact(made.children[0], "application/spdx+json", b"another SBOM")
        of_sbom = artifact(sbom, "application/vnd.example.signature", b"a signature of the SBOM")
        for what, of in ((sbom, made), (of_child, made.children[0]), (of_sbom, sbom)):
            what.push(source, "signed")
            index(what).push(source, "signed", fallback_tag(of.digest))
        cosign = image([layer({"signature": b"xyz"})], kinds=OCI)
        cosign.push(source, "signed", fallback_tag(made.digest) + ".sig")

        [result] = sync(client, item(f"{source.host}/signed:1", f"{target.host}/signed:1"))
        assert (result.outcome, result.referrers) == (Outcome.COPIED, 4)
        for what, of in ((sbom, made), (of_child, made.children[0]), (of_sbom, sbom)):
            listed = json.loads(
                fetch(target.host, "signed", f"manifests/{fallback_tag(of.digest)}").content
            )["manifests"]
            assert [e["digest"] for e in listed] == [what.digest]
            assert_same(target, "signed", what.digest, what)
        [entry] = json.loads(
            fetch(target.host, "signed", f"manifests/{fallback_tag(made.digest)}").content
        )["manifests"]
        assert entry["artifactType"] == "application/spdx+json"
        assert entry["annotations"] == {"made": "by test"}
        assert_same(target, "signed", fallback_tag(made.digest) + ".sig", cosign)

    def test_new_ones_of_the_same_image(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        made = image([layer({"s": b"1"})])
        made.push(source, "later", "1")
        wanted = item(f"{source.host}/later:1", f"{target.host}/later:1")
        sync(client, wanted)
        theirs = artifact(made, "application/vnd.example.ours", b"made here")
        theirs.push(target, "later")
        index(theirs).push(target, "later", fallback_tag(made.digest))
        new = artifact(made, "application/vnd.example.new", b"made later")
        new.push(source, "later")
        index(new).push(source, "later", fallback_tag(made.digest))

        assert sync(client, wanted)[0].referrers == 0
        [result] = sync(client, wanted, new_referrers=True)
        assert (result.outcome, result.referrers) == (Outcome.UNCHANGED, 1)
        listed = json.loads(
            fetch(target.host, "later", f"manifests/{fallback_tag(made.digest)}").content
        )["manifests"]
        # What the target had of its own stays.
        assert [e["digest"] for e in listed] == [theirs.digest, new.digest]
        assert sync(client, wanted, new_referrers=True)[0].referrers == 0

    def test_not_when_the_list_says_so(
        self, source: RegistryServer, target: RegistryServer, client: Client
    ) -> None:
        made = image([layer({"s": b"2"})])
        made.push(source, "bare", "1")
        cosign = image([layer({"signature": b"zyx"})], kinds=OCI)
        tag = fallback_tag(made.digest) + ".sig"
        cosign.push(source, "bare", tag)
        sync(client, item(f"{source.host}/bare:1", f"{target.host}/bare:1", referrers=False))
        assert not digest_of(target.host, "bare", tag)


def test_deep_repairs_what_the_target_has_lost(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    made = buildx_image(90)
    made.push(source, "lost", "1")
    wanted = item(f"{source.host}/lost:1", f"{target.host}/lost:1")
    sync(client, wanted)
    lost = made.children[1].blobs[1]
    target.blob_file(sha256(lost)).unlink()
    child = made.children[0]
    target.blob_file(child.digest).unlink()
    assert list(problems(target.host, "lost", "1"))

    assert sync(client, wanted)[0].outcome is Outcome.UNCHANGED
    [result] = sync(client, wanted, deep=True)
    assert (result.outcome, result.repaired) == (Outcome.UNCHANGED, 1)
    assert result.bytes_copied == len(lost)
    assert_same(target, "lost", "1", made)
    assert sync(client, wanted, deep=True)[0].repaired == 0


def test_foreign_layers_stay_where_they_are(
    source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """A layer with `urls` is not pushed, unless the source itself serves it."""
    data, there = noise(95, 500), noise(96, 500)
    made = image([data, there])
    document = json.loads(made.manifest)
    for entry in document["layers"]:
        entry["urls"] = ["https://example.org/layer"]
    made = dataclasses.replace(made, manifest=json.dumps(document).encode(),
                               blobs=(made.blobs[0], there))  # fmt: skip
    made.push(source, "foreign", "1")
    [result] = sync(client, item(f"{source.host}/foreign:1", f"{target.host}/foreign:1"))
    assert (result.outcome, result.error) == (Outcome.COPIED, None)
    assert fetch(target.host, "foreign", "manifests/1").content == made.manifest
    assert not fetch(target.host, "foreign", f"blobs/{sha256(data)}").ok
    assert fetch(target.host, "foreign", f"blobs/{sha256(there)}").content == there


def test_unreachable_registry_is_given_up(target: RegistryServer) -> None:
    """The first to fail say why; the rest is skipped, and what else there is goes on."""
    settings = RegistrySettings("127.0.0.1:1", plain_http=True)
    with Client([settings], environ={}) as client:
        items = [item(f"127.0.0.1:1/away/{n}:1", f"{target.host}/away/{n}:1") for n in range(40)]
        outcomes = Counter(r.outcome for r in sync(client, *items))
    assert set(outcomes) == {Outcome.FAILED, Outcome.SKIPPED}
    assert outcomes[Outcome.FAILED] <= 8


def test_events(source: RegistryServer, target: RegistryServer, client: Client) -> None:
    made = image([noise(97, 50_000)])
    made.push(source, "events", "1")
    events: list[Event] = []
    wanted = item(f"{source.host}/events:1", f"{target.host}/events:1")
    [result] = sync(client, wanted, emit=events.append)
    shown = [e for e in events if isinstance(e, ImageProgress)]
    assert {(e.target, e.total) for e in shown} == {(str(wanted.target), result.size)}
    assert [e.done for e in shown] == sorted(e.done for e in shown)
    assert events[-1] == ImageFinished(result)
