"""The managers that Trove's releases have code for, in the guest and for replication.

From trove/common/constants.py (REGISTRY_EXT_DEFAULTS), trove/common/cfg.py
(`replication_namespace`, `replication_strategy`) and what the packages hold, the same in
2025.1 … 2026.2. Trove takes nine more names (cassandra, redis, …), for which no release has
any code left: instances would never start. Any other name it answers with 500, and leaves
the datastore behind that it had made for the version.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.errors import UsageError

_GUEST = "trove.guestagent.datastore"
_REPLICATION = "trove.guestagent.strategies.replication"


@dataclass(frozen=True)
class Manager:
    """A manager: its class in the guest agent, and Trove's default for its replication."""

    registry_ext: str
    repl_strategy: str


#: By name.
MANAGERS = {
    "mariadb": Manager(
        f"{_GUEST}.mariadb.manager.Manager",
        f"{_REPLICATION}.mariadb_gtid.MariaDBGTIDReplication",
    ),
    "mysql": Manager(
        f"{_GUEST}.mysql.manager.Manager",
        f"{_REPLICATION}.mysql_gtid.MysqlGTIDReplication",
    ),
    "postgresql": Manager(
        f"{_GUEST}.postgres.manager.PostgresManager",
        f"{_REPLICATION}.postgresql.PostgresqlReplicationStreaming",
    ),
}
#: Names without code for which Trove's settings still have a replication.
_REPLICATING = frozenset({"percona", "pxc", "redis"})


def check(manager: str, registry_ext: str | None, repl_strategy: str | None) -> None:
    """Raise UsageError for a manager that Trove could not start an instance with."""
    if manager in MANAGERS:
        return
    missing = [] if registry_ext else ["--registry-ext"]
    if not repl_strategy and manager not in _REPLICATING:
        missing.append("--repl-strategy")
    if missing:
        raise UsageError(
            f"Trove has no manager {manager}",
            where=f"manager {manager}",
            detail="with code in Trove: " + ", ".join(sorted(MANAGERS)),
            hint=f"choose one with --manager; a manager of your own needs {' and '.join(missing)}",
        )
