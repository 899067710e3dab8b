"""Order and options of the whole test session."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-images", action="store_true", help="leave builds and boots of the image tests there"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Image tests last: their builds run in the background of the others."""
    items.sort(key=lambda item: item.get_closest_marker("image") is not None)


@pytest.fixture(scope="session", autouse=True)
def _builds_in_background(request: pytest.FixtureRequest) -> None:
    """Start the builds with the first test, when a selected test wants them."""
    if any("session" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("session")
