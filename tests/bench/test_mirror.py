"""The mirror's targets alone, from one run of all three tools."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from imagebuild.host.run import run
from tests.bench.mirror import measure_mirror
from tests.bench.targets import TARGETS, Target, verdicts

pytestmark = [
    pytest.mark.image,
    pytest.mark.full("mirror"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a docker engine of its own needs root"),
]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Measured once."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-bench-", dir="/var/tmp"))
    try:
        return {"mirror": measure_mirror(directory, print)}
    finally:
        run(["rm", "-rf", "--one-file-system", directory], check=False)


@pytest.mark.parametrize(
    "target", [t for t in TARGETS if t.measure.startswith("mirror.")], ids=lambda t: t.name
)
def test_target(results: dict[str, Any], target: Target) -> None:
    (verdict,) = (v for v in verdicts(results) if v.target is target)
    assert verdict.ratio is not None, "not measured"
    assert verdict.ratio < target.limit, results


def test_a_run_with_nothing_to_do_asks_for_tags_alone(results: dict[str, Any]) -> None:
    nothing = results["mirror"]["nothing"]
    assert set(nothing["requests"]) == {"HEAD"}, nothing
    assert nothing["bytes"] == 0
