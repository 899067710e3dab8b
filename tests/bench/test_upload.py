"""The upload's targets alone, from one run of both tools."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from imagebuild.host.run import run
from tests.bench.targets import TARGETS, Target, verdicts
from tests.bench.upload import measure_upload

pytestmark = [pytest.mark.services, pytest.mark.full("publish")]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Measured once; a clock would count what others do on the machine, too."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-bench-", dir="/var/tmp"))
    try:
        return {"upload": measure_upload(directory, print)}
    finally:
        run(["rm", "-rf", "--one-file-system", directory], check=False)


@pytest.mark.parametrize(
    "target", [t for t in TARGETS if t.measure.startswith("upload.")], ids=lambda t: t.name
)
def test_target(results: dict[str, Any], target: Target) -> None:
    (verdict,) = (v for v in verdicts(results) if v.target is target)
    assert verdict.ratio is not None, "not measured"
    assert verdict.ratio < target.limit, results
