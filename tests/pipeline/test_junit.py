"""junit.xml of a run."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from imagebuild.pipeline import junit
from imagebuild.pipeline.outcome import RunReport, Status
from tests.pipeline import sample


def check_junit(text: str) -> ET.Element:
    """What Jenkins' and GitLab's readers expect (Ant's JUnit schema), in short."""
    numbers = re.compile(r"\d+")
    times = re.compile(r"\d+\.\d+")
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.tag == "testsuites"
    cases = set()
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.attrib.keys() - {"hostname"} == {
            "name", "timestamp", "tests", "failures", "errors", "skipped", "time",
        }  # fmt: skip
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        found = {"failure": 0, "error": 0, "skipped": 0}
        for case in suite:
            assert case.tag == "testcase"
            assert case.attrib.keys() == {"classname", "name", "time"}
            assert times.fullmatch(case.attrib["time"])
            key = (case.attrib["classname"], case.attrib["name"])
            assert key not in cases
            cases.add(key)
            kinds = [c.tag for c in case]
            assert kinds in ([], ["system-out"], [*kinds[:1], "system-out"], kinds[:1])
            for inner in case:
                if inner.tag != "system-out":
                    found[inner.tag] += 1
                    assert inner.attrib["message"]
        for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == found[kind]
        assert int(suite.attrib["tests"]) == len(suite)
        assert times.fullmatch(suite.attrib["time"])
    assert numbers.fullmatch(root.attrib["tests"])
    assert int(root.attrib["tests"]) == len(cases)
    return root


def case_of(root: ET.Element, classname: str, name: str) -> ET.Element:
    """The one case of these names."""
    (found,) = [
        c for c in root.iter("testcase")
        if (c.get("classname"), c.get("name")) == (classname, name)
    ]  # fmt: skip
    return found


def names_of(report: RunReport) -> set[tuple[str | None, str | None]]:
    """All cases."""
    root = check_junit(junit.render(report, []))
    return {(c.get("classname"), c.get("name")) for c in root.iter("testcase")}


def test_junit_has_phases_stages_and_checks() -> None:
    root = check_junit(junit.render(sample.bad_night(), sample.earlier()))
    stage = case_of(root, "nightly.debian-bookworm-amd64.build", "agent")
    took = {name: seconds for name, seconds, _ in sample.facts(sample.BOOKWORM).stages}
    assert float(stage.attrib["time"]) == took["agent"]
    promote = case_of(root, "nightly.debian-bookworm-amd64", "promote region-one/mysql/8.4")
    assert [c.tag for c in promote] == ["system-out"]
    check = case_of(root, "nightly.ubuntu-jammy-amd64.boot", "boot/metadata/agent")
    failure = check.find("failure")
    assert failure is not None
    assert "ModuleNotFoundError" in failure.attrib["message"]
    assert "status=1/FAILURE" in str(failure.text)
    phase = case_of(root, "nightly.ubuntu-jammy-amd64", "verify").find("failure")
    assert phase is not None
    assert "exit code 5" in str(phase.text)
    held = case_of(root, "nightly.ubuntu-noble-amd64", "build").find("skipped")
    assert held is not None
    assert held.attrib["message"] == "mirror-backup-images failed"
    assert root.attrib["failures"] == "3"


def test_junit_names_are_the_same_every_night() -> None:
    assert names_of(sample.tonight()) == names_of(sample.earlier(1)[0])


def test_junit_tells_a_bad_image_from_a_host_that_cannot() -> None:
    for code, kind in ((75, "error"), (4, "error"), (5, "failure"), (7, "failure"), (1, "failure")):
        root = check_junit(junit.render(sample.with_error(code=code), []))
        assert case_of(root, "nightly.one-amd64", "build").find(kind) is not None


def test_junit_of_a_killed_run_is_not_green() -> None:
    root = check_junit(junit.render(sample.killed(), []))
    assert root.attrib["errors"] == "1"
    assert check_junit(junit.render(sample.tonight(), [])).attrib["errors"] == "0"


def test_junit_of_an_image_that_stood_there_takes_no_time() -> None:
    good = sample.tonight().cells[1]
    phases = tuple(dataclasses.replace(p, status=Status.UNCHANGED) for p in good.phases)
    root = check_junit(
        junit.render(sample.empty(cells=(dataclasses.replace(good, phases=phases),)), [])
    )
    for name in (f"nightly.{sample.BOOKWORM}.build", f"nightly.{sample.BOOKWORM}.boot"):
        times = {c.get("time") for c in root.iter("testcase") if c.get("classname") == name}
        assert times == {"0.000"}


@given(st.text(), st.text(max_size=50))
def test_junit_stands_any_text(text: str, name: str) -> None:
    report = sample.with_error(what=text or "x", detail=text, hint=text)
    phase = dataclasses.replace(report.cells[0].phases[0], why=text, warnings=(text,), target=name)
    cell = dataclasses.replace(report.cells[0], phases=(phase,))
    root = check_junit(junit.render(sample.empty(cells=(cell,), host=name), []))
    assert root.attrib["failures"] == "1"
