"""Clouds that a pipeline names, and this host does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.config.pipeline import Gates, Publish, Verify
from imagebuild.config.words import Arch
from imagebuild.pipeline.cells import JOBS, ImageCell, Job
from imagebuild.pipeline.clouds import unknown

CANARY = "canary-Xq7"


def cell(name: str, *clouds: str | None) -> ImageCell:
    publish = tuple(Publish(cloud=c) for c in clouds)
    return ImageCell(name, "p", None, Arch.AMD64, Verify(), publish, Gates())


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "clouds.yaml"
    file.write_text(
        "clouds: {east: {auth: {auth_url: 'http://127.0.0.1:1/v3', username: u, "
        f"password: {CANARY}, project_name: p}}}}}}\n"
    )
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    return file


@pytest.mark.usefixtures("clouds")
def test_each_is_said_once_with_its_cells() -> None:
    (said,) = unknown([cell("a", "east", "west"), cell("b", "west"), cell("c", None)])
    assert said.startswith("clouds.yaml has no cloud 'west'")
    assert said.endswith("(a, b)")
    assert unknown([cell("a", "east")]) == []


@pytest.mark.usefixtures("clouds")
def test_who_publishes_nothing_needs_none() -> None:
    assert unknown([cell("a", "west")], JOBS[Job.BUILD]) == []
    assert unknown([cell("a", "west")], JOBS[Job.PUBLISH])


def test_a_damaged_file_is_said_without_what_is_in_it(clouds: Path) -> None:
    clouds.write_text(f"clouds: {{east: {{password: {CANARY}\n")
    (said,) = unknown([cell("a", "east")])
    assert "cannot be read" in said
    assert CANARY not in said
