"""Make the images, or take them from the cache."""

from __future__ import annotations

from pathlib import Path

from tests.container_images import Image


def cache() -> Path:
    """Where images are kept from one session to the next; may be removed at any time."""
    raise NotImplementedError


def make_mariadb(directory: Path) -> Image:
    """MariaDB's server, as the official image `mariadb` behaves. Kept below `directory`."""
    raise NotImplementedError


def make_postgresql(directory: Path) -> Image:
    """PostgreSQL's server, as the official image `postgres` behaves. Kept below `directory`."""
    raise NotImplementedError


def make_backup(datastore: str, directory: Path) -> Image:
    """Trove's `db-backup` image for "mariadb" or "postgresql". Kept below `directory`."""
    raise NotImplementedError
