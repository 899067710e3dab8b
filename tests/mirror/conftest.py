"""Two real registries that the tests of mirrors share: each test has repositories of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.registry.client import Client
from tests.cli.fuzz import own_environment
from tests.mirror.command import Mirror
from tests.registry_server import RegistryServer


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Where images come from."""
    with RegistryServer(tmp_path_factory.mktemp("source")) as server:
        yield server


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Where copies go."""
    with RegistryServer(tmp_path_factory.mktemp("target")) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(environ={}) as opened:
        yield opened


@pytest.fixture
def mirror(
    tmp_path: Path,
    source: RegistryServer,
    target: RegistryServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Mirror:
    own_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].strip("-")
    return Mirror(tmp_path, source, target, name)
