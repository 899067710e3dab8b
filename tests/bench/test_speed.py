"""The targets, from one run: ratios to the plain recipe on the same machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.bench.__main__ import run_all, write
from tests.bench.targets import TARGETS, Target, verdicts

pytestmark = [
    pytest.mark.image,
    pytest.mark.full("stages"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the plain recipe needs root"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of the bench; with IMAGEBUILD_BENCH_OUTPUT its files are kept there."""
    found = run_all()
    kept = os.environ.get("IMAGEBUILD_BENCH_OUTPUT")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("bench")
    directory.mkdir(parents=True, exist_ok=True)
    write(found, directory)
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_target(results: dict[str, Any], target: Target) -> None:
    (verdict,) = (v for v in verdicts(results) if v.target is target)
    assert verdict.ratio is not None, "not measured"
    assert verdict.ratio < target.limit, verdict.to_json()
