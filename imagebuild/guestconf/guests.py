"""How guests ask for images, by configuration files: for whoever asks on their behalf."""

from __future__ import annotations

from imagebuild.guestconf.imagechecks import is_isolated, login_host
from imagebuild.guestconf.reading import Configured
from imagebuild.mirror.answers import Guests


def guests_of(guest: Configured, control: Configured) -> Guests:
    """Whether guests are isolated, and where they log in."""
    login = guest.get("guest_agent", "container_registry")
    return Guests(isolated=is_isolated(control), login_at=login_host(login.value) if login else "")
