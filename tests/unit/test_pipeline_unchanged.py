"""Which cells have nothing to do, by what is on this host."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from imagebuild.config.pipeline import Pipeline
from imagebuild.config.profile import Profile
from imagebuild.digest import digests_of_file
from imagebuild.pipeline.cells import ImageCell, Places, expand
from imagebuild.pipeline.unchanged import Look, Standing
from imagebuild.plan import Plan
from imagebuild.store.store import open_stores
from tests.unit.made_up import make_artifact, make_tree
from tests.unit.test_forecast import fill, inputs_of
from tests.unit.test_plan import make_inputs, plan_of


class Resolved(Look):
    """Knows without asking what would be built."""

    plan: Plan
    asked: int = 0

    def _resolve(self, profile: Profile) -> Plan:  # noqa: ARG002 - as its own
        self.asked += 1
        return self.plan


class Host:
    """A host with an artifact of what would be built."""

    def __init__(self, directory: Path) -> None:
        self.places = Places(directory / "images", directory / "cache", directory / "reports")
        self.plan = plan_of(make_inputs())
        self.artifact = make_artifact(make_tree(directory / "tree"), self.places.images)
        assert self.artifact.name == self.plan.name
        self.image = next(self.artifact.glob("*.qcow2"))

    def look(self, **keys: Any) -> Standing:  # noqa: ANN401 - of the pipeline
        look = Resolved(self.places, ask_clouds=keys.pop("ask_clouds", True))
        look.plan = self.plan
        (cell,) = expand(
            Pipeline.model_validate(
                {"name": "x", "images": [{"profiles": "debian-bookworm"}], **keys}
            )
        )
        assert isinstance(cell, ImageCell)
        first, second = look.standing(cell), look.standing(cell)
        assert first == second
        assert look.asked == 1, "a profile is resolved once"
        return first

    def verify(self, **changes: object) -> None:
        """Leave what `verify` leaves."""
        runs = [
            {"name": f"{name}-{firmware}", "firmware": firmware, "facts": {}}
            for name, firmware in (("config-drive", "bios"), ("metadata", "uefi"))
        ]
        document = {
            "schema_version": 1, "verdict": "passed", "proven": "boot", "runs": runs,
            "image": {"file": self.image.name, **digests_of_file(self.image, "sha256", "sha512")},
            **changes,
        }  # fmt: skip
        (self.artifact / "verify.json").write_text(json.dumps(document))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_artifact_that_is_proven_leaves_nothing_to_do(host: Host) -> None:
    assert host.look().missing == ("to be verified: it was never verified",)
    host.verify()
    found = host.look()
    assert found.is_done
    assert (found.has_artifact, found.is_verified) == (True, True)
    assert (found.build_id, found.name) == (host.plan.build_id, host.plan.name)
    assert host.look(verify={"level": "static"}).is_done
    (text,) = host.look(verify={"level": "agent"}).missing
    assert text == "to be verified: it is proven to boot; agent is wanted"
    (text,) = host.look(gates={"deny_packages": ["*"]}).missing
    assert text.startswith("a gate refuses it: it has packages that are denied")
    host.verify(verdict="failed")
    assert host.look().missing == ("to be verified: it did not pass",)
    (host.artifact / "verify.json").write_text("{")
    assert not host.look().is_done


def test_an_artifact_that_is_not_whole_is_none(host: Host) -> None:
    host.verify()
    whole = host.image.read_bytes()
    for damage in (whole[:-1], None):
        host.image.unlink() if damage is None else host.image.write_bytes(damage)
        found = host.look()
        assert not found.has_artifact
        assert found.missing == (
            "there is no whole artifact; to be made: base, agent, containers, disk, formats",
        )  # fmt: skip


def test_what_the_store_has_is_said(host: Host, tmp_path: Path) -> None:
    inputs = inputs_of()
    host.plan = plan_of(inputs)
    fill(open_stores(host.places.cache).main, tmp_path, inputs, without=["code", "formats"])
    found = host.look()
    assert dict(found.stages) == {
        "base": True, "agent": False, "containers": True, "disk": True, "formats": False,
    }  # fmt: skip
    assert found.missing == ("there is no whole artifact; to be made: agent, formats",)


def test_what_could_not_be_resolved_is_not_skipped(host: Host) -> None:
    host.verify()
    host.plan = dataclasses.replace(host.plan, unresolved=("guest agent trove",))
    found = host.look()
    assert found.missing == ("it is not known what would be built: guest agent trove",)


def test_without_clouds_what_is_published_does_not_count(host: Host) -> None:
    host.verify()
    assert host.look().clouds_asked, "there is none to ask"
    found = host.look(publish=[{"cloud": "nowhere"}], ask_clouds=False)
    assert (found.is_done, found.clouds_asked) == (True, False)
