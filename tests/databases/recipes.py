"""What is in each image: packages, what of them goes again, our own files, how it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FILES = Path(__file__).with_name("files")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_PYTHON = "/usr/lib/python3*"

#: Versions in the release that the packages are from; also the tags of the images.
MARIADB = "10.11"
POSTGRESQL = "15"
# What Debian has in /usr/bin under these names are scripts that choose a version.
_POSTGRESQL_BIN = f"/usr/lib/postgresql/{POSTGRESQL}/bin"

#: What nothing in these images ever reads.
_DISPENSABLE = (
    "/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale",
    "/usr/share/common-licenses", "/usr/share/i18n", "/usr/share/perl*",
    "/usr/share/zoneinfo/right", "/usr/share/zoneinfo/posix", "/usr/bin/perl*",
    f"{_LIBRARIES}/perl*", f"{_LIBRARIES}/gconv", "/var/cache/*", "/var/lib/apt/*", "/var/log/*",
    "/var/lib/dpkg/info", "/var/lib/dpkg/*-old",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One image.

    `packages` are installed beside Debian's essential ones. `hooks` are commands of a shell
    that are then run, with the tree's place as $1; of that tree, `drop` (patterns of a shell)
    goes. What is in the directory `programs` of `files/` gets into /usr/local/bin, with the
    suffix `.sh`. Recipes that differ in nothing of the packages may name a `layer` that they
    share. The rest is as in the configuration of an image.
    """

    name: str
    version: str
    packages: tuple[str, ...]
    programs: str = ""
    hooks: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    layer: str = ""
    entrypoint: tuple[str, ...] = ("docker-entrypoint.sh",)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    directory: str = ""

    @property
    def dropped(self) -> tuple[str, ...]:
        """All patterns of what goes."""
        return (*_DISPENSABLE, *self.drop)

    @property
    def config(self) -> dict[str, object]:
        """`config` of the image's configuration (config.md of the OCI image format)."""
        found: dict[str, object] = {
            "Env": [f"{k}={v}" for k, v in {"PATH": _PATH, **self.environment}.items()],
            "Entrypoint": list(self.entrypoint),
        }
        if self.command:
            found["Cmd"] = list(self.command)
        if self.port:
            found["ExposedPorts"] = {f"{self.port}/tcp": {}}
        if self.directory:
            found["WorkingDir"] = self.directory
        return found

    def files(self) -> dict[str, bytes]:
        """Our own programs: places in the image, and contents."""
        if not self.programs:
            return {}
        return {
            f"usr/local/bin/{path.name}.sh": path.read_bytes()
            for path in sorted((_FILES / self.programs).iterdir())
        }


MARIADB_SERVER = Recipe(
    "mariadb",
    MARIADB,
    ("mariadb-server-core", "mariadb-client-core"),
    "mariadb",
    drop=("/usr/bin/innochecksum", "/usr/bin/mariadb-check", "/usr/bin/mariadb-upgrade"),
    command=("mariadbd",),
    port=3306,
)

POSTGRESQL_SERVER = Recipe(
    "postgres",
    POSTGRESQL,
    (f"postgresql-{POSTGRESQL}", "libnss-wrapper", "locales"),
    "postgresql",
    # Trove's configuration names this locale; without it the server does not start.
    hooks=('chroot "$1" localedef --inputfile en_US --charmap UTF-8 en_US.utf8',),
    # Without its provider there is no compilation of queries, silently: 150 MB less.
    drop=(
        f"{_LIBRARIES}/libLLVM*", f"{_LIBRARIES}/libz3*",
        f"/usr/lib/postgresql/{POSTGRESQL}/lib/bitcode",
        f"/usr/lib/postgresql/{POSTGRESQL}/lib/llvmjit*",
        # The cluster that the package makes.
        "/var/lib/postgresql/*", "/etc/postgresql/*",
    ),
    command=("postgres",),
    environment={
        "LANG": "en_US.utf8",
        "PATH": f"{_POSTGRESQL_BIN}:{_PATH}",
        "PGDATA": "/var/lib/postgresql/data",
    },
    port=5432,
)  # fmt: skip

#: Where Trove's own image has Trove's code for backups.
BACKUP_CODE = "opt/trove/backup"


def _backup(datastore: str, version: str) -> Recipe:
    """As backup/Dockerfile of Trove, with Debian's packages of what its code imports."""
    libraries = (
        "oslo.config", "oslo.log", "oslo.utils", "oslo.concurrency", "oslo.service",
        "keystoneauth1", "swiftclient", "psycopg2", "semantic-version",
    )  # fmt: skip
    modules = "/usr/lib/python3/dist-packages"
    return Recipe(
        f"db-backup-{datastore}",
        version,
        # The programs of both datastores: so both images have one layer in common.
        ("dumb-init", "python3", *(f"python3-{name}" for name in libraries),
         "mariadb-backup", f"postgresql-client-{POSTGRESQL}"),
        layer="db-backup",
        drop=(
            # Big, and needed only for what is not done here: XML (SAML), vendors of network
            # cards, languages.
            f"{_LIBRARIES}/libicu*", f"{modules}/lxml", "/usr/share/ieee-data/*.csv",
            "/usr/share/ieee-data/*.txt", f"{modules}/babel/locale-data",
            f"{modules}/*/tests", f"{modules}/testtools", f"{modules}/docutils",
            f"{_PYTHON}/ensurepip", f"{_PYTHON}/idlelib", f"{_PYTHON}/lib2to3",
            f"{_PYTHON}/test", f"{_PYTHON}/pydoc_data", "/usr/bin/mariadb-check",
        ),
        entrypoint=("dumb-init", "--single-child", "--"),
        environment={"LANG": "C.UTF-8", "PATH": f"{_POSTGRESQL_BIN}:{_PATH}"},
        directory=f"/{BACKUP_CODE}",
    )  # fmt: skip


#: By the datastore's name in Trove.
BACKUPS = {
    "mariadb": _backup("mariadb", MARIADB),
    "postgresql": _backup("postgresql", POSTGRESQL),
}
