"""The images do what Trove's agent asks of them, in a real docker engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from tests.databases.agent import Datastore, Guest
from tests.databases.images import cache, make_mariadb
from tests.databases.registry import DatabaseRegistry
from tests.databases.swift import swift
from tests.images.engine import Engine, engine

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="docker engines need root"),
]

#: With what a shell and SQL would trip over.
PASSWORD = "a'b\\c $x"  # noqa: S105 - of a database that lives for a test
OTHER = "other"
TOKEN = "token-of-a-test"  # noqa: S105

MARIADB = Datastore(
    volumes=("/etc/mysql", "/var/run/mysqld", "/var/lib/mysql"),
    environment={
        "MYSQL_ROOT_PASSWORD": PASSWORD,
        "MYSQL_INITDB_SKIP_TZINFO": 1,
        "MARIADB_AUTO_UPGRADE": 1,
    },
    command="--defaults-file=/etc/mysql/my.cnf --ignore-db-dir=lost+found "
    "--ignore-db-dir=conf.d --datadir=/var/lib/mysql/data",
    health=("healthcheck.sh", "--defaults-file", "/var/lib/mysql/data/.my-healthcheck.cnf",
            "--connect", "--innodb_initialized"),
    privileged=True,
    backup_driver="mariabackup",
    backup_volumes={
        "/etc/mysql": "ro", "/var/lib/mysql": "rw", "/var/run/mysqld": "ro", "/tmp": "rw",
    },
    restore_volumes=("/var/lib/mysql",),
    backup_options="--db-host=localhost --db-user=os_admin --db-password={password}",
)  # fmt: skip
#: What matters here of Trove's template for 512 MB.
MY_CNF = """[client]
port = 3306
socket = /var/run/mysqld/mysqld.sock
[mysqld]
port = 3306
basedir = /usr
datadir = /var/lib/mysql/data
tmpdir = /var/tmp
pid_file = /var/run/mysqld/mysqld.pid
socket = /var/run/mysqld/mysqld.sock
innodb_buffer_pool_size = 150M
innodb_log_file_size = 50M
open_files_limit = 512
local-infile = 0
server_id = 7
!includedir /etc/mysql/conf.d/
"""

ARCHIVE = "/var/lib/postgresql/data/wal_archive"
PGDATA = "/var/lib/postgresql/data/pgdata"
POSTGRESQL = Datastore(
    volumes=("/etc/postgresql", "/var/run/postgresql", "/var/lib/postgresql",
             "/var/lib/postgresql/data"),
    environment={"POSTGRES_PASSWORD": PASSWORD, "PGDATA": PGDATA},
    command="postgres -c config_file=/etc/postgresql/postgresql.conf",
    health=("pg_isready", "-U", "postgres"),
    privileged=False,
    backup_driver="pg_basebackup",
    backup_volumes={"/var/lib/postgresql/data": "rw", "/var/run/postgresql": "ro"},
    restore_volumes=("/var/lib/postgresql/data",),
    restore_options=f"--pg-wal-archive-dir {ARCHIVE}",
)  # fmt: skip
POSTGRESQL_CONF = f"""listen_addresses = '*'
max_stack_depth = 7MB
wal_level = replica
archive_mode = on
archive_command = 'test ! -f {ARCHIVE}/%f && cp %p {ARCHIVE}/%f.tmp && \
mv {ARCHIVE}/%f.tmp {ARCHIVE}/%f'
restore_command = 'cp {ARCHIVE}/%f "%p"'
timezone = 'Etc/UTC'
lc_messages = 'en_US.utf8'
lc_monetary = 'en_US.utf8'
lc_numeric = 'en_US.utf8'
lc_time = 'en_US.utf8'
default_text_search_config = 'pg_catalog.english'
data_directory = '{PGDATA}'
hba_file = '/etc/postgresql/pg_hba.conf'
include_dir = '/etc/postgresql/conf.d'
"""
PG_HBA = """local all postgres trust
local replication postgres trust
local all all md5
host all postgres 127.0.0.1/32 trust
host all all 0.0.0.0/0 md5
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseRegistry]:
    with DatabaseRegistry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine() as started:
        yield started


@pytest.fixture
def mariadb(docker: Engine, registry: DatabaseRegistry, tmp_path: Path) -> Iterator[Guest]:
    """A guest with MariaDB's files as the agent leaves them before the first start."""
    guest = Guest(tmp_path, docker.api, MARIADB, *registry.names("mariadb"))
    guest.host("/var/lib/mysql/data").mkdir()
    guest.host("/etc/mysql/conf.d").mkdir()
    guest.host("/etc/mysql/mariadb.conf.d").mkdir()
    guest.host("/etc/mysql/my.cnf").write_text(MY_CNF)
    guest.host("/tmp").mkdir(exist_ok=True)
    guest.host("/tmp").chmod(0o1777)
    guest.own()
    yield guest
    guest.remove()


@pytest.fixture
def postgresql(docker: Engine, registry: DatabaseRegistry, tmp_path: Path) -> Iterator[Guest]:
    """A guest with PostgreSQL's files as the agent leaves them before the first start."""
    guest = Guest(tmp_path, docker.api, POSTGRESQL, *registry.names("postgresql"))
    for place in (PGDATA, ARCHIVE, "/etc/postgresql/conf.d"):
        guest.host(place).mkdir()
    guest.host("/etc/postgresql/postgresql.conf").write_text(POSTGRESQL_CONF)
    guest.host("/etc/postgresql/pg_hba.conf").write_text(PG_HBA)
    guest.own()
    yield guest
    guest.remove()


def said(container: Container, argv: list[str]) -> str:
    """What a program in the container writes."""
    output: bytes = container.exec_run(argv).output
    return output.decode().strip()


def mysql(container: Container, statement: str, *options: str, password: str = PASSWORD) -> str:
    """What MariaDB answers root, or how it refuses."""
    argv = ["mariadb", "--no-defaults", "--socket=/var/run/mysqld/mysqld.sock", "--user=root",
            f"--password={password}", "--skip-column-names", *options,
            "--execute", statement]  # fmt: skip
    return said(container, argv)


def psql(container: Container, statement: str, *options: str) -> str:
    """What PostgreSQL answers its superuser, or how it refuses."""
    argv = ["psql", "-U", "postgres", "-tA", *options, "-c", statement]
    return said(container, argv)


def test_mariadb_is_as_the_agent_expects_it(mariadb: Guest) -> None:
    database = mariadb.start()
    mariadb.wait(database, docker_says=True)
    assert mysql(database, "SELECT 1") == "1"
    assert mysql(database, "SELECT 1", "--host=127.0.0.1", "--protocol=tcp") == "1"
    assert "Access denied" in mysql(database, "SELECT 1", password="")
    assert "Access denied" in mysql(database, "SELECT 1", "--host=127.0.0.1", password="")
    accounts = mysql(database, "SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1")
    assert accounts.split() == [
        "healthcheck@127.0.0.1", "healthcheck@::1", "healthcheck@localhost",
        "mariadb.sys@localhost", "root@%", "root@localhost",
    ]  # fmt: skip
    assert mariadb.host("/var/run/mysqld/mysqld.sock").is_socket()

    mysql(database, "CREATE DATABASE app; CREATE TABLE app.t (n INT); INSERT INTO app.t VALUES (7)")
    database.restart(timeout=30)
    mariadb.wait(database)
    assert mysql(database, "SELECT n FROM app.t") == "7"
    assert "Normal shutdown" in database.logs().decode(), "the server was killed"


def test_mariadb_comes_back_from_a_backup(mariadb: Guest) -> None:
    database = mariadb.start()
    mariadb.wait(database)
    mysql(database, "CREATE DATABASE app; CREATE TABLE app.t (n INT); INSERT INTO app.t VALUES (7)")
    mysql(database, "CREATE USER os_admin@localhost IDENTIFIED BY 'admin'")
    mysql(database, "GRANT ALL ON *.* TO os_admin@localhost WITH GRANT OPTION")

    with swift(TOKEN) as account:
        made = mariadb.backup(account, "admin")
        mysql(database, "INSERT INTO app.t VALUES (8)")
        database.stop(timeout=30)
        database.remove()
        mariadb.empty("/var/lib/mysql/data")
        mariadb.restore(account, made)

    # How the agent makes root's password its own again.
    database = mariadb.start(
        "--defaults-file=/etc/mysql/my.cnf --skip-grant-tables --datadir=/var/lib/mysql/data ",
        {str(mariadb.host("/etc/mysql/my.cnf")): "/etc/my.cnf"},
    )
    mariadb.wait(database)
    reset = f"FLUSH PRIVILEGES; ALTER USER 'root'@'localhost' IDENTIFIED BY '{OTHER}';"
    argv = ["mariadb", "--defaults-file=/etc/mysql/my.cnf", "-u", "root", "-e", reset]
    assert database.exec_run(argv).exit_code == 0
    database.remove(force=True)

    database = mariadb.start()
    mariadb.wait(database)
    assert mysql(database, "SELECT n FROM app.t", password=OTHER) == "7"


def test_postgresql_is_as_the_agent_expects_it(postgresql: Guest) -> None:
    database = postgresql.start()
    postgresql.wait(database, docker_says=True)
    assert psql(database, "SHOW data_directory") == PGDATA
    # Text is UTF-8 and sorted as people do; Trove makes databases that want it.
    wanted = "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database"
    assert psql(database, f"{wanted} WHERE datname = 'template1'") == "UTF8|en_US.utf8"
    assert psql(database, "CREATE DATABASE app ENCODING 'UTF8'") == "CREATE DATABASE"
    assert psql(database, "CREATE ROLE u LOGIN PASSWORD 'secret'") == "CREATE ROLE"
    login = "postgresql://u:{}@127.0.0.1/app"
    argv = ["psql", "-tA", "-c", "SELECT current_user"]
    assert database.exec_run([*argv, login.format("secret")]).output == b"u\n"
    assert b"authentication failed" in database.exec_run([*argv, login.format("wrong")]).output
    # The password that the agent gave is the superuser's.
    stored = "SELECT rolpassword ~ '^SCRAM-SHA-256' FROM pg_authid WHERE rolname = 'postgres'"
    assert psql(database, stored) == "t"
    assert postgresql.host("/var/run/postgresql/.s.PGSQL.5432").is_socket()
    assert database.exec_run(f"pg_ctl reload -D {PGDATA}").exit_code == 0

    psql(database, "CREATE TABLE t (n INT)", "app")
    psql(database, "INSERT INTO t VALUES (7)", "app")
    database.restart(timeout=30)
    postgresql.wait(database)
    assert psql(database, "SELECT n FROM t", "app") == "7"
    assert "database system was not properly shut down" not in database.logs().decode()


def test_postgresql_comes_back_from_a_backup(postgresql: Guest) -> None:
    database = postgresql.start()
    postgresql.wait(database)
    psql(database, "CREATE TABLE t AS SELECT 7 AS n")

    with swift(TOKEN) as account:
        made = postgresql.backup(account, "")
        psql(database, "DROP TABLE t")
        database.stop(timeout=30)
        database.remove()
        for place in (PGDATA, ARCHIVE):
            postgresql.empty(place)
        postgresql.restore(account, made)

    postgresql.host(f"{PGDATA}/recovery.signal").touch()
    postgresql.own()
    database = postgresql.start()
    postgresql.wait(database)
    assert psql(database, "SELECT n FROM t") == "7"


def test_the_engine_finds_the_backup_image_in_the_registry(
    docker: Engine, registry: DatabaseRegistry
) -> None:
    """Of a version that has none the agent takes the image of the version above it."""
    name = registry.names("mariadb")[1]
    assert docker.api.images.get_registry_data(name).image_name == name
    with pytest.raises(NotFound):
        docker.api.images.get_registry_data(f"{name}.19")


def test_images_are_kept(registry: DatabaseRegistry) -> None:
    """Another session gets the very same, and installs nothing."""
    layers = sorted((cache() / "layers").iterdir())
    before = [layer.stat().st_mtime_ns for layer in layers if layer.suffix == ".gz"]
    image = make_mariadb(cache())
    after = [layer.stat().st_mtime_ns for layer in layers if layer.suffix == ".gz"]
    assert after == before
    assert registry.blob_file(image.digest).exists()
