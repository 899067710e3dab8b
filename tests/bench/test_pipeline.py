"""The pipeline's targets alone, from one first night and some with nothing to do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from imagebuild.host.run import run
from tests.bench.pipeline import measure_pipeline
from tests.bench.targets import TARGETS, Target, verdicts

pytestmark = [
    pytest.mark.image,
    pytest.mark.full("pipeline"),
    pytest.mark.skipif(os.geteuid() != 0, reason="builds without sudo"),
]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Measured once."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-bench-", dir="/var/tmp"))
    try:
        return {"pipeline": measure_pipeline(directory, print)}
    finally:
        run(["rm", "-rf", "--one-file-system", directory], check=False)


@pytest.mark.parametrize(
    "target", [t for t in TARGETS if t.measure.startswith("pipeline.")], ids=lambda t: t.name
)
def test_target(results: dict[str, Any], target: Target) -> None:
    (verdict,) = (v for v in verdicts(results) if v.target is target)
    assert verdict.ratio is not None, "not measured"
    assert verdict.ratio < target.limit, results
