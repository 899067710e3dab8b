"""Configuration files → how guests ask for images: for whoever asks a registry on their behalf."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imagebuild.guestconf.imagechecks import images_of, is_isolated, login_host
from imagebuild.guestconf.optiontable import option_table
from imagebuild.guestconf.reading import Configured, Role, read
from imagebuild.mirror.answers import Guests
from imagebuild.mirror.naming import NEWEST
from imagebuild.mirror.wants import ImageNames


def guests_of_files(
    paths: Iterable[Path], series: str = NEWEST
) -> tuple[dict[str, ImageNames], Guests]:
    """The images of each manager, and how guests ask for them, by trove-guestagent.conf and, as
    far as it is there, trove.conf.

    A manager that the files do not name is left out. Raises ConfigError as `read`.
    """
    sources = [source for path in paths for source in read(path)]
    table = option_table(series)
    guest = Configured.of(sources, Role.GUEST, table)
    control = Configured.of(sources, Role.CONTROL, table)
    login = guest.get("guest_agent", "container_registry")
    return images_of(guest), Guests(
        isolated=is_isolated(control), login_at=login_host(login.value) if login else ""
    )
