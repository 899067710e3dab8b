"""The images in a registry on loopback, under the names that a guest asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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

    Images that are not in the cache `kept` are made first, two at a time. `tls` and `login` are
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
        made = make_images(datastores, kept or cache())
        super().__init__(directory, tls=tls, login=login)
        for name, image in made.items():
            repository, _, tag = name.rpartition(":")
            image.push(self, repository, tag)

    def __enter__(self) -> DatabaseRegistry:
        return self

    def names(self, datastore: str) -> tuple[str, str]:
        """The server's image and the one for backups, as this host asks for them."""
        server, backup, version = NAMES[datastore]
        return f"{self.host}/{server}:{version}", f"{self.host}/{backup}:{version}"


def make_images(datastores: Sequence[str], kept: Path) -> dict[str, Image]:
    """The images of datastores by their names, two made at a time. Raises as they do."""
    servers = {"mariadb": make_mariadb, "postgresql": make_postgresql}
    work: dict[str, Callable[[], Image]] = {}
    # Backup images share what takes longest: the first is made first, the others wait for it.
    _, backup, version = NAMES[datastores[0]]
    work[f"{backup}:{version}"] = partial(make_backup, datastores[0], kept)
    for datastore in datastores:
        server, _, version = NAMES[datastore]
        work[f"{server}:{version}"] = partial(servers[datastore], kept)
    for datastore in datastores[1:]:
        _, backup, version = NAMES[datastore]
        work[f"{backup}:{version}"] = partial(make_backup, datastore, kept)
    with ThreadPoolExecutor(2) as pool:
        futures = {name: pool.submit(make) for name, make in work.items()}
        return {name: future.result() for name, future in futures.items()}
