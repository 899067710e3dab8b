"""imagebuild clean: only what nobody uses, and images never."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagebuild.cli.main import run
from imagebuild.host import scratch
from imagebuild.store.store import Store
from tests.unit.store_objects import key, stored

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="removes as root, in a namespace")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache after a killed build: scratch, a draft and an object of the store, downloads."""
    cache = tmp_path / "cache"
    for name in ("scratch/dead-1/base-tmp", "store/drafts/dead-2", "sources/files", "dib", "logs"):
        (cache / name).mkdir(parents=True)
    stored(Store(cache / "store"), tmp_path)
    return cache


OBJECT = f"store/{key().name}"


def cleaned(capsys: pytest.CaptureFixture[str], cache: Path, *options: str) -> list[str]:
    assert run(["clean", "--json", "--cache-dir", str(cache), *options]) == 0
    document = json.loads(capsys.readouterr().out)
    return [str(Path(p).relative_to(cache)) for p in document["removed"]]


def test_scratch_of_the_dead_goes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = ["scratch/dead-1", "store/drafts/dead-2"]
    with scratch.directory(cache / "scratch", "living") as living:
        assert cleaned(capsys, cache, "--dry-run") == dead
        assert all((cache / name).exists() for name in dead)
        assert cleaned(capsys, cache) == dead
        assert not any((cache / name).exists() for name in dead)
        assert living.exists()
        assert (cache / OBJECT).exists()
    assert (cache / "sources").exists()


def test_all_spares_what_a_build_uses(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        scratch.directory(cache / "scratch", "living") as living,
        Store(cache / "store").hold(key()) as held,
    ):
        held.share()
        assert cleaned(capsys, cache, "--all") == ["scratch/dead-1", "store/drafts/dead-2"]
        assert living.exists()
        assert (cache / OBJECT / "tree").exists()
        assert (cache / "sources").exists()
    assert set(cleaned(capsys, cache, "--all")) >= {OBJECT, "sources", "dib", "logs"}
    assert not (cache / OBJECT).exists()
    assert not (cache / "sources").exists()


def test_trees_of_an_earlier_version_go(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("base-1", "agent-1"):
        (cache / "trees" / name / "tree").mkdir(parents=True)
    with scratch.lock(cache / "locks/base-1.lock", shared=True):
        assert "trees/agent-1" in cleaned(capsys, cache)
    assert [p.name for p in (cache / "trees").iterdir()] == ["base-1"]


def test_control_planes_that_run_stay(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("control-2026.1-aa", "control-2026.2-bb"):
        (cache / "verify" / name / "venv").mkdir(parents=True)
    assert not [n for n in cleaned(capsys, cache) if n.startswith("verify")]
    with scratch.lock(cache / "locks/control-2026.2-bb.lock", shared=True):
        assert "verify/control-2026.1-aa" in cleaned(capsys, cache, "--all")
    assert [p.name for p in (cache / "verify").iterdir()] == ["control-2026.2-bb"]


def test_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clean", "--all", "--cache-dir", str(tmp_path / "none")]) == 0
    assert "nothing to remove" in capsys.readouterr().err
