"""What is in each image: packages, what of them goes again, our own files, how it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FILES = Path(__file__).with_name("files")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: PostgreSQL of the release that the packages are from.
POSTGRESQL = "15"
MARIADB = "10.11"
_PG_BIN = f"/usr/lib/postgresql/{POSTGRESQL}/bin"

#: Never read by a database server.
_DISPENSABLE = (
    "/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale",
    "/usr/share/lintian", "/usr/share/bash-completion", "/usr/share/zsh", "/var/cache",
    "/var/lib/apt", "/var/log", "/usr/lib/x86_64-linux-gnu/perl", "/usr/share/perl",
    "/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/gconv", "/usr/share/i18n",
    "/usr/share/zoneinfo/right", "/usr/share/zoneinfo/posix", "/usr/share/common-licenses",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One image.

    `packages` are installed on top of Debian's essential ones. `hooks` run on the host, with
    the tree's place as their first argument, then all of `drop` (patterns of the shell) goes.
    `programs` are files of `files/` that get into /usr/local/bin without their suffix `.sh`.
    """

    name: str
    version: str
    packages: tuple[str, ...]
    drop: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ("docker-entrypoint",)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    directory: str = ""

    @property
    def dropped(self) -> tuple[str, ...]:
        return (*_DISPENSABLE, *self.drop)

    @property
    def config(self) -> dict[str, object]:
        """The part `config` of the image's configuration (config.md of the OCI image format)."""
        environment = {"PATH": _PATH, **self.environment}
        found: dict[str, object] = {
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "Entrypoint": list(self.entrypoint),
        }
        if self.command:
            found["Cmd"] = list(self.command)
        if self.port:
            found["ExposedPorts"] = {f"{self.port}/tcp": {}}
        if self.directory:
            found["WorkingDir"] = self.directory
        return found

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Our own files: the place in the image, the content, the mode."""
        return {
            f"usr/local/bin/{name.rpartition('_')[2].removesuffix('.sh')}": (
                (_FILES / name).read_bytes(),
                0o755,
            )
            for name in self.programs
        }


MARIADB_SERVER = Recipe(
    "mariadb", MARIADB, ("mariadb-server-core", "mariadb-client-core"),
)  # fmt: skip
