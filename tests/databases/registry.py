"""The images in a registry on loopback, under the names that a guest asks for."""

from __future__ import annotations

from pathlib import Path

from tests.container_images import Image
from tests.databases.images import cache, make_backup, make_mariadb, make_postgresql
from tests.databases.recipes import MARIADB_SERVER, POSTGRESQL_SERVER
from tests.registry_server import RegistryServer

#: What each of Trove's datastores has as `docker_image` and `backup_docker_image`, without the
#: registry, and the version of the datastore, which is the tag of both.
NAMES = {
    "mariadb": (
        "trove-datastores/mariadb", "trove-datastores/db-backup-mariadb", MARIADB_SERVER.version,
    ),
    "postgresql": (
        "trove-datastores/postgres", "trove-datastores/db-backup-postgresql",
        POSTGRESQL_SERVER.version,
    ),
}  # fmt: skip


class DatabaseRegistry(RegistryServer):
    """A registry that holds the images of `datastores`, until `stop()` or the end of the block.

    Images that are not in the cache `kept` are made first, one by one. `tls` and `login` are
    those of `RegistryServer`.
    """

    def __init__(
        self,
        directory: Path,
        datastores: tuple[str, ...] = ("mariadb", "postgresql"),
        *,
        kept: Path | None = None,
        tls: str = "",
        login: tuple[str, str] | None = None,
    ) -> None:
        made = [(name, image) for d in datastores for name, image in _images(d, kept or cache())]
        super().__init__(directory, tls=tls, login=login)
        for name, image in made:
            repository, _, tag = name.rpartition(":")
            image.push(self, repository, tag)

    def __enter__(self) -> DatabaseRegistry:
        return self

    def names(self, datastore: str) -> tuple[str, str]:
        """The server's image and the one for backups, as this host asks for them."""
        server, backup, version = NAMES[datastore]
        return f"{self.host}/{server}:{version}", f"{self.host}/{backup}:{version}"


def _images(datastore: str, kept: Path) -> list[tuple[str, Image]]:
    server, backup, version = NAMES[datastore]
    make = {"mariadb": make_mariadb, "postgresql": make_postgresql}[datastore]
    return [
        (f"{server}:{version}", make(kept)),
        (f"{backup}:{version}", make_backup(datastore, kept)),
    ]
