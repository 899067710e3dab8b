"""What differs between the databases that Trove runs, seen from a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """Statements of one kind of database. `port` is what it listens on, `mount` where the
    guest agent mounts the data volume (trove/guestagent/datastore/*/manager.py).

    `write` makes a table with a word in it, `read` reads it; `use` needs a grant on the
    database and leaves nothing there.
    """

    port: int
    mount: str
    version: str
    write: tuple[str, ...]
    read: str
    use: tuple[str, ...]


WORD = "still here"

_MYSQL = Dialect(
    port=3306,
    mount="/var/lib/mysql",
    version="SELECT VERSION()",
    write=(
        "CREATE TABLE imagebuild_verify (word VARCHAR(64))",
        f"INSERT INTO imagebuild_verify VALUES ('{WORD}')",  # noqa: S608 - our own word
    ),
    read="SELECT word FROM imagebuild_verify",
    use=("SELECT 1",),
)
# Everybody may connect to a database of PostgreSQL until Trove 2026; what a grant of Trove's
# (ALL ON DATABASE) gives in every release is the right to make schemas.
_POSTGRESQL = Dialect(
    port=5432,
    mount="/var/lib/postgresql",
    version="SHOW server_version",
    write=(
        "CREATE SCHEMA imagebuild_verify",
        "CREATE TABLE imagebuild_verify.words (word VARCHAR(64))",
        f"INSERT INTO imagebuild_verify.words VALUES ('{WORD}')",  # noqa: S608 - our own word
    ),
    read="SELECT word FROM imagebuild_verify.words",
    use=("CREATE SCHEMA imagebuild_use", "DROP SCHEMA imagebuild_use"),
)

#: By Trove's names of the datastores.
DIALECTS = {"mysql": _MYSQL, "mariadb": _MYSQL, "postgresql": _POSTGRESQL}
