"""A private MariaDB with Trove's schema, on loopback, from a data directory that is prepared.

SQLite will not do: Trove's services lock each other out of it, and it cannot hold the
largest values of its configuration parameters.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import base_env, need, run, which
from imagebuild.host.scratch import lock
from imagebuild.verify.control.daemons import Daemons, Identity
from imagebuild.verify.control.ports import Ports

USER = "trove"
NAME = "trove"
_PACKAGE = "mariadb-server"
_START_SECONDS = 60.0
_INSTALL_SECONDS = 300.0
#: Small, and as fast as may be: nothing of it outlives the run. The socket's path is relative
#: to the data directory: it may have 107 characters at most (unix(7)).
_CONF = """\
[mariadbd]
datadir = {place}/data
socket = db.sock
pid-file = {place}/pid
port = {port}
bind-address = 127.0.0.1
init-file = {place}/init.sql
tmpdir = {place}
character-set-server = utf8mb4
skip-name-resolve
skip-log-bin
skip-external-locking
performance-schema = off
innodb-buffer-pool-size = 32M
innodb-log-file-size = 16M
innodb-flush-log-at-trx-commit = 0
innodb-doublewrite = 0
key-buffer-size = 1M
aria-pagecache-buffer-size = 4M
max-connections = 100
"""
_INIT = """\
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4;
CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON {name}.* TO {user}@'127.0.0.1';
"""


@dataclass(frozen=True)
class Database:
    """A database that runs. `defaults` is the option file of its clients (0600)."""

    port: int
    password: str
    defaults: Path

    @property
    def url(self) -> str:
        """SQLAlchemy's form of it."""
        return (
            f"mysql+pymysql://{USER}:{self.password}@127.0.0.1:{self.port}/{NAME}?charset=utf8mb4"
        )

    def query(self, sql: str) -> list[list[str]]:
        """The rows of a query; NULL is the word. Raises BuildError when it is refused."""
        argv = [_client(), f"--defaults-file={self.defaults}", "-N", "-B", "--raw", NAME]
        done = run(argv, env=base_env(), input=sql.encode(), timeout=60)
        return [line.split("\t") for line in done.stdout.decode().splitlines()]


def template(
    directory: Path, scratch: Path, who: Identity, fill: Callable[[Daemons, Database], None]
) -> Path:
    """A data directory that `fill` has put the schema into, made below `directory` once.

    It is made in `scratch`, where the processes' user can work. Each release of MariaDB has
    its own. Raises PreflightError when it is not installed.
    """
    path = directory / f"database-{_version()}"
    with lock(directory / f".{path.name}.lock"):
        if path.is_dir():
            return path
        draft = Path(tempfile.mkdtemp(prefix="template-", dir=scratch))
        try:
            who.own(draft)
            daemons = Daemons(draft, who)
            place = daemons.directory("database")
            _install(place / "data", who)
            try:
                with Ports() as ports:
                    database = _launch(daemons, ports, place)
                    await_database(daemons, database)
                fill(daemons, database)
            finally:
                daemons.stop(60)  # it must write all it has
            # Copied, for they may be on different filesystems; renamed, to be whole.
            partial = directory / f".{path.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            _copy(place / "data", partial)
            partial.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return path


def start(daemons: Daemons, ports: Ports, prepared: Path) -> Database:
    """Start a database on a copy of a prepared directory; `await_database` waits for it."""
    place = daemons.directory("database")
    _copy(prepared, place / "data")
    daemons.who.own_tree(place / "data")
    return _launch(daemons, ports, place)


def await_database(daemons: Daemons, database: Database) -> None:
    """Wait until it answers: its users are made by then."""
    daemons.of("mariadb").await_ready(lambda: _greets(database.port), _START_SECONDS)


def _launch(daemons: Daemons, ports: Ports, place: Path) -> Database:
    port, password = ports.take(), secrets.token_hex(16)
    conf = daemons.write(place / "my.cnf", _CONF.format(place=place, port=port))
    daemons.write(place / "init.sql", _INIT.format(name=NAME, user=USER, password=password))
    defaults = daemons.write(
        place / "client.cnf",
        f"[client]\nhost = 127.0.0.1\nport = {port}\nuser = {USER}\npassword = {password}\n",
    )
    argv: list[str | Path] = [_server(), f"--defaults-file={conf}"]
    daemons.start("mariadb", [*argv, *_as_root(daemons.who)], {})
    return Database(port, password, defaults)


def _install(data: Path, who: Identity) -> None:
    argv: list[str | Path] = [*who.prefix, need("mariadb-install-db", _PACKAGE), "--no-defaults"]
    argv += [f"--datadir={data}", "--skip-test-db", "--innodb-log-file-size=16M"]
    run([*argv, *_as_root(who)], env=base_env(), cwd=data.parent, timeout=_INSTALL_SECONDS)


def _copy(source: Path, target: Path) -> None:
    run(["cp", "-R", "--sparse=always", "--reflink=auto", "--", source, target])


def _greets(port: int) -> bool:
    """Whether a server sends its handshake (protocol 10)."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(5)[4:] == b"\x0a"
    except OSError:
        return False


def _server() -> str:
    return which("mariadbd") or need("mysqld", _PACKAGE)


def _client() -> str:
    return which("mariadb") or need("mysql", "mariadb-client")


def _version() -> str:
    text = run([_server(), "--no-defaults", "--version"], env=base_env()).stdout.decode()
    match = re.search(r"(\d+\.\d+\.\d+)-MariaDB", text)
    if not match:
        raise PreflightError(
            "the host's mysqld is not MariaDB",
            where=_server(),
            detail=text.strip()[:200],
            hint=f"apt-get install {_PACKAGE}",
        )
    return match[1]


def _as_root(who: Identity) -> list[str]:
    """MariaDB runs as root only when it is told to."""
    return ["--user=root"] if os.geteuid() == 0 and not who.prefix else []
