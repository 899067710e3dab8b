"""One environment and one control plane for all: they take their time to start."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.verify.control.environment import Environment, prepare
from imagebuild.verify.control.plane import ControlPlane
from imagebuild.verify.control.values import Guest

SERIES = "2026.2"
ISOLATED = Guest(
    "mariadb",
    "10.11",
    "registry.example/mariadb",
    "registry.example/db-backup-mariadb",
    insecure_registries=("169.254.0.6:5000",),
)


@pytest.fixture(scope="session")
def workplace() -> Iterator[Path]:
    """Not pytest's own directory: that is closed to the user that the services run as."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-control-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def environment(workplace: Path) -> Environment:
    started = time.monotonic()
    made = prepare(SERIES, workplace / "cache", env=os.environ)
    print(f"the environment took {time.monotonic() - started:.1f} s")
    return made


@pytest.fixture(scope="session")
def plane(environment: Environment, workplace: Path) -> Iterator[ControlPlane]:
    """With network isolation, as Trove has it by default."""
    with ControlPlane.start(environment, workplace / "run", ISOLATED) as started:
        yield started
