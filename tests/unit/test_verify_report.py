"""The documents of a verification: what publishing and pipelines read."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from imagebuild.errors import Cause, ConfigError
from imagebuild.verify.report import Report, Subject, junit, timeline, write
from imagebuild.verify.results import Check, Level, Milestone, Outcome, Run

CAUSE = Cause("no-disk", "the disk is gone", "Somebody took it.", ("bring it back",), "no disk")


def check(name: str, level: Level, outcome: Outcome, **more: object) -> Check:
    return Check(f"{level.label}/{name}", level, outcome, f"about {name}", **more)  # type: ignore[arg-type]


def report(*checks: Check, runs: tuple[Run, ...] = ()) -> Report:
    subject = Subject(Path("/x/guest.qcow2"), "qcow2", 10, "ab" * 32, "ef" * 64, "guest", "cd" * 32)
    return Report(subject, Level.AGENT, "2026-01-02T03:04:05Z", 12.34, checks, runs)


PASSED = check("fstab", Level.STATIC, Outcome.PASSED, seconds=0.5)


@pytest.mark.parametrize(
    ("checks", "verdict", "proven", "code"),
    [
        ([PASSED], "passed", Level.STATIC, 0),
        ([PASSED, check("x", Level.BOOT, Outcome.WARNING)], "warning", Level.BOOT, 0),
        ([PASSED, check("x", Level.BOOT, Outcome.UNKNOWN)], "unknown", Level.STATIC, 4),
        ([check("x", Level.STATIC, Outcome.FAILED)], "failed", None, 5),
        (
            [PASSED, check("x", Level.BOOT, Outcome.UNKNOWN),
             check("y", Level.AGENT, Outcome.FAILED)],
            "failed", Level.STATIC, 5,
        ),
        # A level that was not asked is not proven by the one after it.
        ([PASSED, check("y", Level.AGENT, Outcome.PASSED)], "passed", Level.STATIC, 0),
        ([PASSED, check("x", Level.BOOT, Outcome.SKIPPED)], "passed", Level.STATIC, 0),
    ],
)  # fmt: skip
def test_verdict_and_what_is_proven(
    checks: list[Check], verdict: str, proven: Level | None, code: int
) -> None:
    found = report(*checks)
    assert found.verdict.value == verdict
    assert found.proven is proven
    assert found.exit_code == code


def test_document_says_which_image_and_why() -> None:
    bad = check("disk", Level.BOOT, Outcome.FAILED, evidence=("no disk",), cause=CAUSE)
    run = Run("metadata", "tcg", "uefi", (Milestone("kernel", 9.1),), {"kernel": "6.1"}, "/logs")
    document = report(PASSED, bad, runs=(run,)).to_json()
    assert document["schema_version"] == 1
    assert document["image"]["sha256"] == "ab" * 32
    assert document["image"]["sha512"] == "ef" * 64
    assert document["image"]["build_id"] == "cd" * 32
    assert (document["asked"], document["proven"], document["verdict"]) == (
        "agent", "static", "failed",
    )  # fmt: skip
    assert document["checks"][1]["cause"]["id"] == "no-disk"
    assert document["checks"][1]["evidence"] == ["no disk"]
    assert document["runs"][0]["milestones"] == {"kernel": 9.1}


def test_junit_has_a_case_a_check() -> None:
    checks = [
        PASSED,
        check("disk", Level.BOOT, Outcome.FAILED, evidence=("no \x00 <disk>",), cause=CAUSE),
        check("kvm", Level.BOOT, Outcome.UNKNOWN),
        check("later", Level.AGENT, Outcome.SKIPPED),
    ]
    root = ET.fromstring(junit(report(*checks)))  # noqa: S314 - our own document
    suites = {s.get("name"): s for s in root}
    assert list(suites) == ["static", "boot", "agent"]
    boot = suites["boot"]
    assert (boot.get("tests"), boot.get("failures"), boot.get("errors")) == ("2", "1", "1")
    failure = boot[0].find("failure")
    assert failure is not None
    assert failure.get("message") == "about disk"
    assert "no \ufffd <disk>" in str(failure.text)
    assert "try: bring it back" in str(failure.text)
    assert boot[1].find("error") is not None
    assert suites["agent"][0].find("skipped") is not None
    assert suites["static"][0].get("time") == "0.500"
    assert len(suites["static"][0]) == 0


def test_timeline_is_in_the_order_of_time() -> None:
    run = Run("x", "kvm", "bios", (Milestone("docker", 20.0), Milestone("kernel", 5.0)))
    (first, second) = timeline(run, width=8)
    assert first == ("kernel", "5.0 s", "━━")
    assert second == ("docker", "20.0 s", "  ━━━━━━")
    assert timeline(Run("x", "kvm", "bios")) == []


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    document, suites = write(report(check("name \udcff", Level.STATIC, Outcome.PASSED)), tmp_path)
    assert json.loads(document.read_text())["verdict"] == "passed"
    assert suites.stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["junit.xml", "verify.json"]
    with pytest.raises(ConfigError, match="cannot be written"):
        write(report(PASSED), tmp_path / "not-there")
