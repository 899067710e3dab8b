"""A real registry, and a proxy before it; each test has a repository of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.registry.blobs import connect
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="package")
def shared_proxy(server: RegistryServer) -> Iterator[RegistryProxy]:
    with RegistryProxy(server) as running:
        yield running


@pytest.fixture
def proxy(shared_proxy: RegistryProxy) -> RegistryProxy:
    """Without a rule, and nothing seen yet."""
    shared_proxy.reset()
    return shared_proxy


@pytest.fixture
def client(proxy: RegistryProxy) -> Iterator[Client]:
    """Asks the proxy."""
    with connect(proxy.host) as running:
        yield running


@pytest.fixture
def reference(proxy: RegistryProxy, request: pytest.FixtureRequest) -> Reference:
    """Tag 1 of a repository that the test has for itself, by way of the proxy."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Reference.parse(f"{proxy.host}/{name}:1")
