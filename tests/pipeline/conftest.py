"""Fixtures of whole nightlies: a warm cache of builds, and what a test changes beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.host.run import run
from tests.images.builds import Session
from tests.pipeline.nightly import Nightly, nightly
from tests.services.cloud import TestCloud


@pytest.fixture(scope="session")
def cache(session: Session) -> Path:
    """The cache of the session's first build: a build of the same is a matter of seconds."""
    return session.build("bookworm").cache


@pytest.fixture(scope="session")
def artifacts() -> Iterator[Path]:
    """Artifacts of the nightlies, proven: built by the first that wants them."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-nightly-", dir="/var/tmp"))
    yield directory / "images"
    run(["rm", "-rf", "--one-file-system", directory], check=False)


@pytest.fixture
def night(cloud: TestCloud, cache: Path, artifacts: Path) -> Iterator[Nightly]:
    """A pipeline of two images and a mirror list; cloud and target registry are empty."""
    with (
        tempfile.TemporaryDirectory(prefix="imagebuild-night-", dir="/var/tmp") as directory,
        nightly(Path(directory), cloud, cache, artifacts) as made,
    ):
        yield made
