"""What reports take from an artifact, and what changed since another one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from imagebuild.errors import ConfigError
from imagebuild.pipeline import changes
from imagebuild.pipeline.facts import ImageFacts, facts_of
from imagebuild.verify import report as verifyreport
from imagebuild.verify.results import Check, Level, Milestone, Outcome, Run
from tests.pipeline import sample
from tests.unit.made_up import make_artifact, make_tree


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up artifact, verified."""
    top = tmp_path_factory.mktemp("facts")
    tree = make_tree(top / "tree")
    directory = make_artifact(tree, top / "artifact")
    document = json.loads((directory / "manifest.json").read_text())
    output = document["outputs"][0]
    (directory / "timing.json").write_text(
        json.dumps(
            {
                "started": 1000.5,
                "seconds": 60.25,
                "stages": [
                    {"stage": "base", "seconds": 40.0, "reused": False},
                    {"stage": "agent", "seconds": 0.2, "reused": True},
                ],
                "hooks": {"base": [["root", f"{n:02d}-hook", float(n)] for n in range(30)]},
            }
        )
    )
    subject = verifyreport.Subject(
        directory / output["file"], output["format"], output["size"], output["sha256"], "0" * 128,
        document["name"], document["build_id"],
    )  # fmt: skip
    found = verifyreport.Report(
        subject, Level.BOOT, "2026-11-23T02:17:00Z", 12.0,
        (
            Check("static/fstab", Level.STATIC, Outcome.PASSED, "good", ("a line",), seconds=0.1),
            Check("boot/metadata/agent", Level.BOOT, Outcome.FAILED, "it has ended",
                  ("rabbit://trove:hunter2@10.0.0.1 is gone",), "look at it", seconds=2.0),
        ),
        (Run("metadata", "kvm", "bios", (Milestone("kernel", 1.4), Milestone("settled", 12.0))),),
    )  # fmt: skip
    verifyreport.write(found, directory)
    return directory


def test_facts_are_the_artifacts(artifact: Path) -> None:
    facts = facts_of(artifact)
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert (facts.name, facts.build_id) == (manifest["name"], manifest["build_id"])
    assert facts.files == {o["format"]: o["size"] for o in manifest["outputs"]}
    assert facts.packages == manifest["content"]["packages"] != {}
    assert facts.rootfs == manifest["rootfs"]["bytes"]
    assert facts.created == 1060.75
    assert facts.stages == (("base", 40.0, False), ("agent", 0.2, True))
    assert facts.hooks[0] == ("base", "root", "29-hook", 29.0)
    assert len(facts.hooks) == 12
    assert (facts.verdict, facts.proven) == ("failed", "static")
    assert facts.boots == {"metadata": (("kernel", 1.4), ("settled", 12.0))}
    good, bad = facts.checks
    assert (good["outcome"], good["evidence"]) == ("passed", [])
    assert bad["evidence"] == ["rabbit://10.0.0.1 is gone"]
    assert ImageFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_facts_of_an_artifact_that_lacks_much(artifact: Path, tmp_path: Path) -> None:
    """A report does not fail for a file beside the manifest."""
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    (copy / "timing.json").write_text("{")
    (copy / "verify.json").write_text("[]")
    (copy / "rootfs.jsonl.gz").write_bytes(b"damaged")
    facts = facts_of(copy)
    assert (facts.created, facts.stages, facts.checks, facts.directories) == (0, (), (), ())
    assert facts.packages
    (copy / "verify.json").write_text(json.dumps({"image": {"sha256": "of another file"}}))
    assert facts_of(copy).verdict is None
    (copy / "timing.json").write_text(json.dumps({"stages": "none", "hooks": [1]}))
    assert facts_of(copy).stages == ()
    (copy / "manifest.json").unlink()
    with pytest.raises(ConfigError):
        facts_of(copy)


def test_directories_are_as_many_as_a_picture_can_show() -> None:
    """Of real images: see tests/pipeline/data."""
    for cell in (sample.BOOKWORM, sample.JAMMY):
        rows = sample.facts(cell).directories
        assert 50 < len(rows) < 200
        assert {depth for _, _, depth in rows} == set(range(5))


@pytest.mark.parametrize("part", ["name", "files", "stages", "checks", "boots"])
def test_facts_of_another_shape_are_refused(part: str) -> None:
    document = sample.facts(sample.BOOKWORM).to_json()
    for wrong in (None, 3, ["x"]):
        if part == "name" and wrong is not None:
            continue
        broken = {k: v for k, v in document.items() if k != part}
        if wrong is not None:
            broken[part] = wrong
        with pytest.raises(ConfigError, match="not the facts of an image"):
            ImageFacts.from_json(broken)


def test_changes_name_what_differs() -> None:
    before = sample.facts(sample.BOOKWORM, 1)
    after = sample.facts(sample.BOOKWORM)
    found = changes.changes(before, after, "last")
    assert found.packages["iproute2"] == (None, after.packages["iproute2"])
    assert found.packages["ntpdate"] == (before.packages["ntpdate"], None)
    assert found.packages["openssl"] == (before.packages["openssl"], after.packages["openssl"])
    assert "bash" not in found.packages
    assert found.agent == {"version": ("25.0.1", "26.0.0")}
    assert found.sizes["qcow2"] == (before.files["qcow2"], after.files["qcow2"])
    assert found.sizes["rootfs"] == (before.rootfs, after.rootfs)
    assert not found.is_same_build
    assert changes.changes(after, after, "x").is_same_build
    reused = dataclasses.replace(after, stages=(*after.stages[:1], ("agent", 0.4, True)))
    assert changes.changes(before, reused, "x").seconds["agent"] == (before.stages[1][1], None)


def test_the_last_good_image_is_compared_with() -> None:
    nights = sample.earlier()
    found = changes.last_facts(sample.JAMMY, nights)
    assert found
    assert found[0] == nights[-1].run
    bad = dataclasses.replace(sample.bad_night(), run="20261123T031700Z")
    assert changes.last_facts(sample.JAMMY, [*nights, bad]) == found
    of_another_version = dataclasses.replace(
        nights[-1],
        cells=tuple(
            dataclasses.replace(c, image={"name": 1}) if c.image else c for c in nights[-1].cells
        ),
    )
    older = changes.last_facts(sample.JAMMY, [*nights[:-1], of_another_version])
    assert older
    assert older[0] == nights[-2].run
    assert changes.last_facts(sample.NOBLE, nights) is None
