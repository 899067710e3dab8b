"""Which backup images there can be: Trove's datastores, and the tools that their backups need.

Trove's `backup/install.sh` does nothing at all, and says nothing, for a name that it does not
know; its own documentation has such a one (`postgres`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imagebuild.errors import ConfigError, UsageError
from imagebuild.mirror.naming import WRONG_DATASTORES

_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){0,3}")


@dataclass(frozen=True)
class Tool:
    """A program that a backup runs: `names` are those that it has had, the newest first.

    `version` finds the version in what `--version` says, "" where it does not matter: in its
    first group. The last one has that of the database, of which `matches` numbers must be the
    datastore version's.
    """

    names: tuple[str, ...]
    version: str = ""
    matches: int = 0


@dataclass(frozen=True)
class Datastore:
    """`name` as install.sh has it; `driver` is the module of its backups (`backup/drivers`).

    `in_distributions`: Debian and Ubuntu have packages of its tools themselves.
    """

    name: str
    driver: str
    tools: tuple[Tool, ...]
    in_distributions: bool = True


#: XtraBackup 2.4 is for MySQL 5.7; since 8.0 its numbers are MySQL's.
_XTRABACKUP = r"xtrabackup version ([0-9.]+)\S* based on MySQL server ([0-9.]+)"
_DATASTORES = (
    Datastore(
        "mysql", "xtrabackup.py",
        (Tool(("xtrabackup",), _XTRABACKUP, 2), Tool(("xbstream",))),
        in_distributions=False,
    ),
    Datastore(
        "mariadb", "mariabackup.py",
        (
            Tool(("mariadb-backup", "mariabackup"), r"MariaDB server ([0-9.]+)", 2),
            Tool(("mbstream",)),
        ),
    ),
    Datastore(
        "postgresql", "postgres.py",
        (Tool(("pg_basebackup",), r"PostgreSQL\) ([0-9.]+)", 1),),
    ),
)  # fmt: skip
NAMES = tuple(d.name for d in _DATASTORES)


def get_datastore(name: str) -> tuple[Datastore, str]:
    """The datastore, and a note for people when it was called by another name.

    Raises ConfigError for one that Trove has no backup image for.
    """
    meant = WRONG_DATASTORES.get(name, name)
    for datastore in _DATASTORES:
        if datastore.name == meant:
            note = f"{name} is taken as {meant}: install.sh knows no other name, and would install "
            return datastore, note + "nothing" if meant != name else ""
    raise ConfigError(
        f"there is no backup image for the datastore {name}",
        where="backup-image",
        hint=f"Trove has them for {', '.join(NAMES)}",
    )


def check_version(version: str) -> str:
    """A datastore version as it may stand in a command. Raises UsageError."""
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"{version!r} is no version of a database",
            hint="numbers with dots between them, like 8.4, 11.4 or 17",
        )
    return version


def needed_tools(datastore: Datastore, sources: Mapping[str, str]) -> tuple[Tool, ...]:
    """The tools, by those names alone that the code itself calls them (`sources`: the driver's
    text by its name): MariaDB has renamed one of them, and Trove with it.
    """
    text = sources.get(datastore.driver, "")
    found = []
    for tool in datastore.tools:
        called = tuple(n for n in tool.names if re.search(rf"['\"\s]{re.escape(n)}\s", text))
        found.append(Tool(called or tool.names, tool.version, tool.matches))
    return tuple(found)


def fits(tool: Tool, said: str, version: str) -> str | None:
    """The tool's version, when what it said fits the datastore version; None when it does not.

    "" for a tool whose version does not matter.
    """
    if not tool.version:
        return ""
    found = re.search(tool.version, said)
    if found is None:
        return None
    wanted = version.split(".")[: tool.matches]
    database = found[found.lastindex or 0]
    return found[1] if database.split(".")[: len(wanted)] == wanted else None
