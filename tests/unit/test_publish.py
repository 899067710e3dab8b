"""What Glance is told, what may not go up, which file goes, what differs: without a cloud."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections import deque
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from imagebuild import artifact
from imagebuild.agent.series import SERIES
from imagebuild.cloud.images import Image
from imagebuild.errors import ConfigError, PolicyError, PublishError, TemporaryError, UsageError
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.publish import changes, existing, gate, holding, payload, properties
from imagebuild.publish.clouds import exit_code
from imagebuild.publish.describe import Choice, Description, describe
from imagebuild.publish.payload import Payload
from imagebuild.publish.transfer import BLOCK, Body, Hashes, Stopped, arrived, read_through
from imagebuild.publish.upload import FAILED, PRESENT, Result
from tests.unit.made_up import make_artifact, make_tree

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


@pytest.fixture
def view(tmp_path: Path) -> ArtifactView:
    return open_artifact(make_artifact(make_tree(tmp_path / "tree"), tmp_path))


def changed(view: ArtifactView, **content: Any) -> ArtifactView:  # noqa: ANN401
    return ArtifactView(view.directory, {**view.manifest, "content": {**view.content, **content}})


def described(
    view: ArtifactView, choice: Choice | None = None, *, fmt: str = "qcow2", size: int = 5 << 30
) -> Description:
    return describe(view, choice or Choice(), fmt=fmt, virtual_size=size, sha256="a" * 64)


def record(**changes: Any) -> Image:  # noqa: ANN401 - Glance's document
    document = {
        "id": "i", "name": "n", "status": "active", "visibility": "private", "owner": "p",
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "min_disk": 5, "min_ram": 1024, "tags": [],
    }  # fmt: skip
    return Image.of(document | changes)


def test_the_machine_by_the_architecture(view: ArtifactView) -> None:
    amd64 = described(view).properties
    assert amd64["architecture"] == "x86_64"
    assert "hw_firmware_type" not in amd64
    arm64 = described(changed(view, arch="arm64")).properties
    assert (arm64["architecture"], arm64["hw_firmware_type"]) == ("aarch64", "uefi")


def test_the_number_of_a_release_without_its_components(view: ArtifactView) -> None:
    (view.directory / "components.json.gz").unlink()
    numbers = {
        release: described(changed(view, release=release)).properties["os_version"]
        for release in ("jammy", "noble", "bookworm", "sid")
    }
    assert numbers == {"jammy": "22.04", "noble": "24.04", "bookworm": "12", "sid": "sid"}


@pytest.mark.parametrize(("size", "gib"), [(1, 1), (5 << 30, 5), ((5 << 30) + 1, 6)])
def test_min_disk_is_rounded_up(view: ArtifactView, size: int, gib: int) -> None:
    assert described(view, size=size).min_disk == gib
    assert described(view, Choice(min_disk=2), size=size).min_disk == 2


def test_min_ram_is_the_manifests_if_it_says(view: ArtifactView) -> None:
    assert described(view).min_ram == 1024
    assert described(changed(view, min_ram=3000)).min_ram == 3000
    assert described(changed(view, min_ram=3000), Choice(min_ram=0)).min_ram == 0


def test_tags(view: ArtifactView) -> None:
    assert described(view, Choice(datastores=("mysql", "trove"))).tags == ("trove", "mysql")
    assert described(view, Choice(datastores=("mysql",), tags=("t",))).tags == ("t",)
    candidate = described(view, Choice(datastores=("mysql",), candidate=True))
    assert candidate.tags == ()
    assert candidate.properties[properties.TAGS] == "trove,mysql"


def test_properties_beside_and_instead_of_defaults(view: ArtifactView) -> None:
    choice = Choice(properties={"hw_rng_model": None, "os_type": "other", "mine": "x"})
    found = described(view, choice).properties
    assert "hw_rng_model" not in found
    assert (found["os_type"], found["mine"]) == ("other", "x")


@pytest.mark.parametrize("name", ["status", "os_glance_x", "imagebuild_build_id", "x" * 256])
def test_what_is_no_property(view: ArtifactView, name: str) -> None:
    with pytest.raises(UsageError):
        described(view, Choice(properties={name: "v"}))


@pytest.mark.parametrize(
    "choice",
    [Choice(name="n" * 256), Choice(tags=("t" * 256,)), Choice(tags=("a,b",)), Choice(tags=("",)),
     Choice(properties={"p": "v" * 256})],
)  # fmt: skip
def test_what_glance_does_not_take(view: ArtifactView, choice: Choice) -> None:
    with pytest.raises(UsageError):
        described(view, choice)


def test_vsphere_is_told_which_vmdk_it_is(view: ArtifactView) -> None:
    assert described(view, fmt="vmdk").properties["vmware_disktype"] == "streamOptimized"
    assert "vmware_disktype" not in described(view).properties


def verified(view: ArtifactView, **document: Any) -> str:  # noqa: ANN401
    digest = view.images[0].sha256
    whole = {"verdict": "passed", "proven": "agent", "image": {"sha256": digest}} | document
    (view.directory / "verify.json").write_text(json.dumps(whole))
    return digest


def test_an_agent_of_another_series_stays_here(view: ArtifactView) -> None:
    series = view.content["agent"]["series"]
    gate.check_series(view, None)
    gate.check_series(view, series)
    other = next(s.name for s in SERIES if s.name != series)
    with pytest.raises(PolicyError, match=f"the control plane of {other}"):
        gate.check_series(view, other)
    with pytest.raises(ConfigError):
        gate.check_series(view, "1999.1")


def test_the_digest_is_of_the_file_that_was_verified(view: ArtifactView) -> None:
    assert payload.choose(view).sha512 is None
    digest = view.images[0].sha256
    verified(view, image={"sha256": digest, "sha512": "ab" * 64})
    assert payload.choose(view).sha512 == "ab" * 64
    verified(view, image={"sha256": "0" * 64, "sha512": "ab" * 64})
    assert payload.choose(view).sha512 is None


def test_the_gate(view: ArtifactView) -> None:
    digest = view.images[0].sha256
    with pytest.raises(PolicyError, match="never verified"):
        gate.check_verified(view, digest, unverified=False)
    verified(view)
    assert gate.check_verified(view, digest, unverified=False).proven == "agent"
    verified(view, verdict="warning")
    assert gate.check_verified(view, digest, unverified=False).warning is None
    with pytest.raises(PolicyError, match="another file"):
        gate.check_verified(view, "0" * 64, unverified=False)
    for verdict in ("failed", "unknown", "skipped", ""):
        verified(view, verdict=verdict)
        with pytest.raises(PolicyError):
            gate.check_verified(view, digest, unverified=False)
        passed = gate.check_verified(view, digest, unverified=True)
        assert passed.proven is None
        assert passed.warning


def test_a_dev_image_is_never_open(view: ArtifactView) -> None:
    dev = changed(view, dev=True)
    for visibility in ("public", "community"):
        gate.check_dev(view, visibility)
        with pytest.raises(PolicyError):
            gate.check_dev(dev, visibility)
    for closed in ("private", "shared", None):
        gate.check_dev(dev, closed)


def with_images(view: ArtifactView, *formats: str) -> ArtifactView:
    outputs = []
    for fmt in formats:
        file = view.directory / f"{view.name}.{fmt}"
        file.write_text(f"an image in {fmt}")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        size = file.stat().st_size
        outputs.append({"file": file.name, "format": fmt, "size": size, "sha256": digest})
    artifact.write_description(view.directory, {**view.manifest, "outputs": outputs})
    return open_artifact(view.directory)


def test_which_file_goes_up(view: ArtifactView) -> None:
    both = with_images(view, "vmdk", "raw", "qcow2")
    assert payload.choose(both).format == "qcow2"
    assert payload.choose(both, fmt="vmdk").image.format == "vmdk"
    with pytest.raises(ConfigError, match="no image of vhd"):
        payload.choose(both, fmt="vhd")
    own = payload.choose(both, convert=True)
    assert (own.image.format, own.is_converted) == ("raw", False)
    qcow2 = next(i for i in both.images if i.format == "qcow2")
    verified(both, image={"sha256": qcow2.sha256, "sha512": "ab" * 64})
    assert payload.choose(both).sha512 == "ab" * 64
    assert payload.choose(both, fmt="vmdk").sha512 is None
    made = payload.choose(both, convert=True)
    assert (made.image.format, made.format, made.is_converted) == ("qcow2", "raw", True)
    qcow2.path.unlink()
    assert payload.choose(both).format == "raw"


def test_an_artifact_that_was_tampered_with(view: ArtifactView) -> None:
    path = view.directory / "manifest.json"
    path.write_text(path.read_text().replace('"dev": false', '"dev":  false'))
    with pytest.raises(ConfigError, match="SHA256SUMS"):
        payload.choose(view)


def make_payload(directory: Path, content: bytes, sha256: str | None = None) -> Payload:
    path = directory / "file"
    path.write_bytes(content)
    return Payload(path, len(content), sha256 or hashlib.sha256(content).hexdigest())


def test_a_body_can_be_sent_again_and_says_what_it_was(tmp_path: Path) -> None:
    content = os.urandom(3 * BLOCK + 5)
    body = Body(make_payload(tmp_path, content))
    assert len(body) == len(content)
    for _ in range(2):
        assert b"".join(body) == content
        assert body.digests["sha512"] == hashlib.sha512(content).hexdigest()


def test_a_wrong_file_is_not_sent_to_its_end(tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK)
    for wrong in (
        make_payload(tmp_path, content, "0" * 64),
        Payload(tmp_path / "file", len(content) + 1, None),
        Payload(tmp_path / "file", len(content) - 1, None),
    ):
        body, sent = Body(wrong), bytearray()
        with pytest.raises(PublishError, match="not what its manifest says"):
            deque(map(sent.extend, body), maxlen=0)
        assert len(sent) < wrong.size
        assert body.digests == {}


def test_a_body_can_be_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    blocks = iter(Body(make_payload(tmp_path, bytes(5 * BLOCK)), stop=stop))
    next(blocks)
    stop.set()
    with pytest.raises(Stopped):
        next(blocks)


def test_hashes_of_many_blocks_are_in_order() -> None:
    hashes, whole = Hashes("sha256", "sha512"), hashlib.sha512()
    for number in range(50):
        block = bytes([number]) * 70_000
        hashes.update(block)
        whole.update(block)
    assert hashes.digests()["sha512"] == whole.hexdigest()
    hashes.close()


def test_what_arrived_is_compared_by_the_clouds_own_digest(tmp_path: Path) -> None:
    content = os.urandom(BLOCK)
    sent = make_payload(tmp_path, content)
    body = Body(sent)
    read_through(body)
    for algorithm in ("sha512", "sha256", "sha3_256"):
        right = hashlib.new(algorithm, content).hexdigest()
        good = record(size=len(content), os_hash_algo=algorithm, os_hash_value=right)
        assert arrived(good, sent, body.digests) == ""
        bad = record(size=len(content), os_hash_algo=algorithm, os_hash_value=right[::-1])
        assert arrived(bad, sent, body.digests) == f"the cloud's {algorithm} is another"
    assert "bytes" in arrived(record(size=1), sent, body.digests)
    assert "no digest" in arrived(record(size=len(content)), sent, body.digests)


def test_what_verify_has_hashed_is_not_hashed_again(tmp_path: Path) -> None:
    """The cloud's digest is compared with it; only where they differ the file is read anew."""
    content = os.urandom(2 * BLOCK)
    good = make_payload(tmp_path, content)
    said = hashlib.sha512(content).hexdigest()
    for sha512, problem in ((said, ""), ("0" * 128, "the cloud's sha512 is another")):
        body = Body(dataclasses.replace(good, sha512=sha512))
        assert b"".join(body) == content
        assert body.digests == {"sha256": good.sha256, "sha512": sha512}
        image = record(size=len(content), os_hash_algo="sha512", os_hash_value=said)
        assert arrived(image, good, body.digests) == problem
    damaged = dataclasses.replace(good, sha256="0" * 64, sha512="0" * 128)
    body = Body(damaged)
    read_through(body)
    with pytest.raises(PublishError, match="not what its manifest says"):
        arrived(image, damaged, body.digests)


def test_differences() -> None:
    wanted = Description("n", "qcow2", 5, 1024, ("trove",), {"a": "1", "x/y~z": "2"})
    same = record(tags=["trove", "mine"], a="1", **{"x/y~z": "2"}, visibility="public", other="o")
    assert changes.differences(same, wanted) == []
    found = changes.differences(record(name="m", tags=["mine"], a="0"), wanted)
    assert [str(c) for c in found] == [
        "name: m -> n", "a: 0 -> 1", "x/y~z: 2", "tags: mine -> mine,trove",
    ]  # fmt: skip
    assert found[2].operation == {"op": "add", "path": "/x~1y~0z", "value": "2"}
    withdrawn = record(a="1", **{"x/y~z": "2", properties.WITHDRAWN: "mysql,trove"})
    assert changes.differences(withdrawn, wanted) == []


def test_what_is_there_of_a_build() -> None:
    records = [
        record(id="old", created_at="2026-01-01T00:00:00Z"),
        record(id="new", created_at="2026-01-01T00:00:01Z"),
        record(id="untagged", **{properties.UPLOADING: "us"}),
        record(id="half", status="saving", **{properties.UPLOADING: "us"}),
        record(id="retired", status="deactivated"),
        record(id="gone", status="pending_delete"),
    ]
    there = existing.sort(records)
    assert [i.id for i in there.whole] == ["new", "old"]
    assert [i.id for i in there.deactivated] == ["retired"]
    assert [i.id for i in there.leftovers] == ["untagged", "half"]


@pytest.mark.parametrize(
    ("by", "status", "age", "alive"),
    [
        ("them", "saving", timedelta(hours=1), True),
        ("them", "active", timedelta(hours=1), True),
        ("them", "killed", timedelta(hours=1), False),
        ("them", "saving", existing.ABANDONED, False),
        ("us", "saving", timedelta(0), False),
    ],
)
def test_whose_half_image_it_is(by: str, status: str, age: timedelta, alive: bool) -> None:
    time = (NOW - age).isoformat()
    image = record(status=status, updated_at=time, **{properties.UPLOADING: by})
    assert bool(existing.sort([image]).alive("us", NOW)) is alive


def test_one_upload_at_a_time(tmp_path: Path) -> None:
    with holding.held(tmp_path, "project", "build"):
        with pytest.raises(TemporaryError), holding.held(tmp_path, "project", "build"):
            pass
        with holding.held(tmp_path, "project", "other build"):
            pass
    with holding.held(tmp_path, "project", "build"):
        pass
    assert holding.uploader(tmp_path) == holding.uploader(tmp_path)
    assert [p.name for p in (tmp_path / "upload").iterdir()] == ["uploader"]


def test_exit_codes_of_several_clouds() -> None:
    good = Result("a", PRESENT)
    quota = Result("b", FAILED, error=ConfigError("x"))
    other = Result("c", FAILED, error=PolicyError("x"))
    assert exit_code([good, good]) == 0
    assert exit_code([quota, quota]) == 3
    assert exit_code([good, quota]) == 6
    assert exit_code([quota, other]) == 6
    away = Result("d", FAILED, error=TemporaryError("x"))
    assert exit_code([good, away, away]) == 75
    assert exit_code([away, quota]) == 6
