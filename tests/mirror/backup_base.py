"""Debian with what Trove's Dockerfile asks for, in a registry: the base of backup images.

It stands in for the image that Trove's own ones are made from, which is not to be had here. All
packages but the databases' own tools are in it, so that a build has little left to install.
"""

from __future__ import annotations

from pathlib import Path

from tests.container_images import Image
from tests.databases.images import make_image
from tests.databases.recipes import Recipe

#: Its name and tag in a registry.
NAME = "trove/debian:bookworm"


class _Base(Recipe):
    """A recipe that leaves the system whole: packages are installed on it."""

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("/var/lib/apt/lists/*", "/var/cache/apt/*.bin", "/var/cache/apt/archives/*.deb",
                "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")  # fmt: skip


BASE = _Base(
    "backup-base",
    "12",
    # Those of the Dockerfile's own steps.
    ("apt", "gnupg2", "lsb-release", "apt-utils", "apt-transport-https", "ca-certificates",
     "software-properties-common", "curl", "netbase", "python3", "python3-venv", "dumb-init"),
    entrypoint=(),
    command=("/bin/sh",),
    environment={"LANG": "C.UTF-8"},
)  # fmt: skip


def make_base(directory: Path) -> Image:
    """Make it, or take it from `directory`, where it is kept. Raises as make_image does."""
    return make_image(BASE, directory, {"etc/base": b"debian\n"})
