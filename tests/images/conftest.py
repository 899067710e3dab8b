"""Fixtures of the image tests: two production builds a session, see `builds.py`."""

from __future__ import annotations

import pytest

from imagebuild.verify.boot import BootResult
from tests.images.builds import Built, Session


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
def booted(request: pytest.FixtureRequest, session: Session) -> BootResult:
    """The first boot of each build."""
    return session.booted(request.param)
