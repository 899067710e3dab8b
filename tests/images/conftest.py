"""Fixtures of the image tests: two production builds a session, see `builds.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images.boots import BootReport
from tests.images.builds import Built, Session


@pytest.fixture(scope="module", autouse=True)
def _store_of_the_first_build(session: Session) -> Iterator[None]:
    """What the tests of a module made is not kept for others: it is many GB in the end."""
    yield
    built = session.finished("bookworm")
    if built:
        built.forget_others()


@pytest.fixture(scope="session", params=["bookworm", "jammy"])
def built(request: pytest.FixtureRequest, session: Session) -> Built:
    """Each of the two builds."""
    return session.build(request.param)


@pytest.fixture(scope="session")
def bookworm(session: Session) -> Built:
    """The build of debian bookworm."""
    return session.build("bookworm")


@pytest.fixture(scope="session")
def jammy(session: Session) -> Built:
    """The build of ubuntu jammy, from the stand-in."""
    return session.build("jammy")


@pytest.fixture(scope="session", params=["bookworm", "jammy"])
def booted(request: pytest.FixtureRequest, session: Session) -> BootReport:
    """The first boot of each build."""
    return session.booted(request.param)
