"""Order and options of the whole test session, and its builds in the background."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.images.builds import Session
from tests.services.background import Background
from tests.services.cloud import TestCloud

# The same examples each time, so that a change is what breaks a test; scripts/test --full
# looks for new ones, twenty times as many (--hypothesis-profile=full).
settings.register_profile("default", derandomize=True, deadline=None, max_examples=100)
settings.register_profile(
    "full", derandomize=False, deadline=None, max_examples=2000, print_blob=True
)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-images", action="store_true", help="leave builds and boots of the image tests there"
    )

    parser.addoption("--area", help="of the tests that --full adds, those of this area alone")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Image tests last: their builds run in the background of the others; before them those
    of the services, which come up meanwhile; and first those that change what the whole
    process sees, where programs are found say.
    """
    for item in items:
        if "cloud_services" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.services)
    area = config.getoption("--area")
    if area:
        kept = [i for i in items if any(area in m.args for m in i.iter_markers("full"))]
        config.hook.pytest_deselected(items=[i for i in items if i not in kept])
        items[:] = kept
    items.sort(key=_turn)


def _is_alone(item: pytest.Item) -> bool:
    """Whether it changes what threads beside it would see: the environment, our modules."""
    if any(item.get_closest_marker(m) for m in ("image", "services")):
        return False  # these wait for the threads
    return bool(
        item.get_closest_marker("alone") or "monkeypatch" in getattr(item, "fixturenames", ())
    )


def _turn(item: pytest.Item) -> int:
    if _is_alone(item):
        return 0
    if item.get_closest_marker("image"):
        return 3
    return 2 if item.get_closest_marker("services") else 1


@pytest.fixture(scope="session")
def _wants_builds(request: pytest.FixtureRequest) -> bool:
    """Whether a selected test wants the builds."""
    return any("session" in getattr(item, "fixturenames", ()) for item in request.session.items)


@pytest.fixture(scope="session")
def _wants_services(request: pytest.FixtureRequest) -> bool:
    """Whether a selected test wants OpenStack's services."""
    return any(item.get_closest_marker("services") for item in request.session.items)


@pytest.fixture(autouse=True)
def _in_background(
    request: pytest.FixtureRequest, _wants_builds: bool, _wants_services: bool
) -> None:
    """Start builds and services with the first test that leaves their threads alone."""
    if _is_alone(request.node):
        return
    if _wants_services:
        request.getfixturevalue("_services")
    if _wants_builds:
        request.getfixturevalue("session")


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The background builds."""
    # Not pytest's own temporary directory: that is closed to the user who builds jammy.
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    started = Session(directory)
    started.start()
    try:
        yield started
    finally:
        if request.config.getoption("--keep-images"):
            print(f"kept: {directory}")
        else:
            started.close()


@pytest.fixture(scope="session")
def _services(request: pytest.FixtureRequest) -> Iterator[Background]:
    """OpenStack's services, on their way."""
    started = Background()
    try:
        yield started
    finally:
        keep = bool(request.config.getoption("--keep-images"))
        started.close(keep=keep)
        if keep:
            print(f"kept: {started.directory}")


@pytest.fixture(scope="session")
def cloud_services(_services: Background) -> TestCloud:
    """Keystone, Glance and Trove, up; what tests leave in them is their affair."""
    return _services.cloud()


@pytest.fixture
def cloud(cloud_services: TestCloud) -> Iterator[TestCloud]:
    """The same, empty; what the test leaves is removed."""
    yield cloud_services
    cloud_services.reset()
