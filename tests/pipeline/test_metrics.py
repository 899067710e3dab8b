"""metrics.prom of a run."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from imagebuild.host.run import run
from imagebuild.pipeline import changes, metrics, reporting
from imagebuild.pipeline.outcome import RunReport
from tests.pipeline import sample


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus' own parser reads: (name, labels but `pipeline`) → value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for one in family.samples:
            assert one.labels.pop("pipeline") == "nightly"
            key = (one.name.removeprefix("imagebuild_pipeline_"), frozenset(one.labels.items()))
            assert key not in found
            found[key] = one.value
    return found


def value(text: str, name: str, **labels: str) -> float | None:
    """One of them; None when it is not there."""
    return values(text).get((name, frozenset(labels.items())))


def test_metrics_of_a_bad_night() -> None:
    nights, report = sample.earlier(), sample.bad_night()
    text = metrics.render(report, nights)
    assert value(text, "exit_code") == 1
    assert value(text, "complete") == 1
    end = report.started + report.seconds
    last = nights[-1].started + nights[-1].seconds
    assert value(text, "last_run_timestamp_seconds") == pytest.approx(end)
    assert value(text, "last_success_timestamp_seconds") == pytest.approx(last)
    own = "cell_last_success_timestamp_seconds"
    assert value(text, own, cell=sample.BOOKWORM) == pytest.approx(end)
    assert value(text, own, cell=sample.JAMMY) == pytest.approx(last)
    assert value(text, own, cell=sample.NOBLE) is None
    assert value(text, "cells", status="failed") == 2
    assert value(text, "result", cell=sample.JAMMY, phase="verify") == 0
    assert value(text, "result", cell=sample.JAMMY, phase="build") == 1
    assert value(text, "phase_attempts", cell=sample.BOOKWORM, phase="upload") == 3
    facts = sample.facts(sample.BOOKWORM)
    own = "image_size_bytes"
    assert value(text, own, cell=sample.BOOKWORM, kind="qcow2") == facts.files["qcow2"]
    assert value(text, own, cell=sample.BOOKWORM, kind="virtual") == 5 << 30
    changed = changes.changes(sample.facts(sample.BOOKWORM, 1), facts, "")
    own = "image_changed_packages"
    assert value(text, own, cell=sample.BOOKWORM, kind="deb") == len(changed.packages) > 0
    assert value(text, "image_checks", cell=sample.JAMMY, outcome="failed") == 1
    boot = max(s for _, s in facts.boots["metadata"])
    own = "image_boot_duration_seconds"
    assert value(text, own, cell=sample.BOOKWORM, machine="metadata") == boot


def test_metrics_are_all_documented() -> None:
    text = metrics.render(sample.tonight(), sample.earlier())
    there = {f.name for f in text_string_to_metric_families(text)}
    assert there == metrics.HELP.keys()
    named = set(re.findall(r"^    (imagebuild_pipeline_\w+)", str(metrics.__doc__), re.MULTILINE))
    assert named == metrics.HELP.keys()


def test_the_last_success_outlives_the_reports_that_had_it(tmp_path: Path) -> None:
    good, bad = sample.tonight(), sample.bad_night()
    end = good.started + good.seconds
    later = dataclasses.replace(bad, started=bad.started + sample.DAY, run="20261124T021700Z")
    for report in (good, later):
        reporting.write(report, reporting.new_directory(tmp_path, "nightly", report.run), [])
    text = (tmp_path / "nightly/latest/metrics.prom").read_text()
    assert value(text, "last_success_timestamp_seconds") == pytest.approx(end)
    own = "cell_last_success_timestamp_seconds"
    assert value(text, own, cell=sample.JAMMY) == pytest.approx(end)
    # The same night written again, worse than before: what it said of itself does not count.
    reporting.write(dataclasses.replace(bad), tmp_path / "nightly" / good.run, [])
    text = (tmp_path / f"nightly/{good.run}/metrics.prom").read_text()
    assert value(text, own, cell=sample.JAMMY) is None


@given(st.text())
def test_metrics_stand_any_name(text: str) -> None:
    report = sample.with_error()
    cell = dataclasses.replace(report.cells[0], id=text)
    shown = metrics.render(sample.empty(cells=(cell,)), [])
    assert value(shown, "result", cell=text, phase="build") == 0


@pytest.mark.parametrize("report", [sample.tonight(), sample.bad_night(), sample.empty()])
def test_promtool_has_nothing_to_say(report: RunReport, tmp_path: Path) -> None:
    file = tmp_path / "metrics.prom"
    file.write_text(metrics.render(report, sample.earlier()))
    tool = shutil.which("promtool")
    assert tool, "promtool comes with Debian's package prometheus: scripts/test installs it"
    said = run([tool, "check", "metrics"], input=file.read_bytes(), check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
