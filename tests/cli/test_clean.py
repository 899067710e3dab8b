"""imagebuild clean: only what nobody uses, and images never."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagebuild.cli.main import run
from imagebuild.host import scratch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="removes as root, in a namespace")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache after a killed build: scratch, a tree, downloads."""
    cache = tmp_path / "cache"
    for name in ("scratch/dead-1/base-tmp", "trees/base-1/tree", "sources/files", "dib", "logs"):
        (cache / name).mkdir(parents=True)
    return cache


def cleaned(capsys: pytest.CaptureFixture[str], cache: Path, *options: str) -> list[str]:
    assert run(["clean", "--json", "--cache-dir", str(cache), *options]) == 0
    document = json.loads(capsys.readouterr().out)
    return [str(Path(p).relative_to(cache)) for p in document["removed"]]


def test_scratch_of_the_dead_goes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scratch.directory(cache / "scratch", "living") as living:
        assert cleaned(capsys, cache, "--dry-run") == ["scratch/dead-1"]
        assert (cache / "scratch/dead-1").exists()
        assert cleaned(capsys, cache) == ["scratch/dead-1"]
        assert not (cache / "scratch/dead-1").exists()
        assert living.exists()
        assert (cache / "trees/base-1").exists()
    assert (cache / "sources").exists()


def test_all_spares_what_a_build_uses(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        scratch.directory(cache / "scratch", "living") as living,
        scratch.lock(cache / "locks/base-1.lock", shared=True),
    ):
        assert cleaned(capsys, cache, "--all") == ["scratch/dead-1"]
        assert living.exists()
        assert (cache / "trees/base-1/tree").exists()
        assert (cache / "sources").exists()
    assert set(cleaned(capsys, cache, "--all")) >= {"trees/base-1", "sources", "dib", "logs"}
    assert not (cache / "trees/base-1").exists()
    assert not (cache / "sources").exists()


def test_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clean", "--all", "--cache-dir", str(tmp_path / "none")]) == 0
    assert "nothing to remove" in capsys.readouterr().err
