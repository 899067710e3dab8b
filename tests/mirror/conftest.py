"""Two real registries that the tests of mirrors share: each test has repositories of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imagebuild.registry.client import Client
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
