"""The images in a registry on loopback, under the names that a guest asks for."""

from __future__ import annotations

from pathlib import Path

from tests.databases.images import make_backup, make_mariadb, make_postgresql
from tests.registry_server import RegistryServer


class DatabaseRegistry(RegistryServer):
    """A registry that holds all images, until `stop()` or the end of the block.

    Names, each below `host`: `trove-datastores/mariadb:10.11`, `trove-datastores/postgres:15`,
    `trove-datastores/db-backup-mariadb:10.11`, `trove-datastores/db-backup-postgresql:15`.
    `cache` is where images are kept; without it, `images.cache()`.
    """
