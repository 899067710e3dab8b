"""The prepared databases: made once by the services' own commands, then copied for each run."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.digest import of_value
from imagebuild.host.run import base_env, need, run, which
from imagebuild.host.scratch import lock
from imagebuild.verify.control import database
from imagebuild.verify.control.daemons import Daemons, Identity
from imagebuild.verify.control.database import Database
from imagebuild.verify.control.services import render
from tests.services import settings

#: Glance's database, beside Trove's.
GLANCE = "glance"
_SECONDS = 300.0
#: In the key of what is kept: raise it when this module makes something else.
_FORM = 1
_WANTED = {
    "password": settings.PASSWORD,
    "projects": ["service", *settings.PEOPLE[1:]],
    "users": [
        *({"name": n, "project": "service", "roles": ["admin", "service"]}
          for n in ("glance", "trove")),
        *({"name": n, "project": n, "roles": ["member"]} for n in settings.PEOPLE[1:]),
    ],
    "regions": [settings.DIRECT, settings.PROXIED],
    # The ports are known when a run starts only.
    "services": {
        kind: {"name": name, "url": f"http://127.0.0.1:1{path}"}
        for name, (kind, path) in settings.TYPES.items()
    },
}  # fmt: skip


def environ(venv: Path) -> dict[str, str]:
    """The environment of the services' programs: no proxies, no settings of the host's.

    What they keep in a home (the list of plug-ins of all packages) saves them time.
    """
    return base_env(HOME=str(venv / "home"), PYTHONWARNINGS="ignore")


@dataclass(frozen=True)
class Prepared:
    """`path` has keystone.sqlite and its keys; `database` is the data directory of Glance's and
    Trove's tables, for this host's MariaDB.
    """

    path: Path
    database: Path


def prepare(venv: Path, directory: Path) -> Prepared:
    """The state for an environment, below `directory`; made when it is not there."""
    script = Path(__file__).with_name("identity_state.py")
    key = of_value([_FORM, venv.name, _WANTED, script.read_text()])[:16]
    final = directory / f"state-{key}"
    with lock(directory / f".{final.name}.lock"):
        if not final.is_dir():
            draft = directory / f".{final.name}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            with ThreadPoolExecutor() as pool:
                works: tuple[Future[Any], ...] = (
                    pool.submit(_keystone, venv, draft),
                    pool.submit(_tables, venv, draft),
                )
                for work in works:
                    work.result()
            draft.rename(final)
    # Debian may have brought another MariaDB since.
    return Prepared(final, _tables(venv, final))


def _keystone(venv: Path, place: Path) -> None:
    conf = place / "keystone.conf"
    conf.write_text(render(settings.keystone(place)))
    script = Path(__file__).with_name("identity_state.py")
    run(
        [venv / "bin/python", script, conf],
        env=environ(venv),
        cwd=place,
        input=json.dumps(_WANTED).encode(),
        timeout=_SECONDS,
    )
    conf.unlink()


def _tables(venv: Path, place: Path) -> Path:
    """Glance's and Trove's, in one server.

    Glance will not do with SQLite: the tasks of an import and the requests that ask for them
    lock each other out.
    """

    def fill(daemons: Daemons, made: Database) -> None:
        admit(daemons, made)
        trove = {"DEFAULT": {"transport_url": "fake:/"}, "database": {"connection": made.url}}
        for name, wanted in (
            ("glance", settings.glance(daemons.run_dir, venv, None, glance_url(made))),
            ("trove", trove),
        ):
            conf = daemons.write(daemons.run_dir / f"{name}.conf", render(wanted))
            argv: list[str | Path] = [venv / f"bin/{name}-manage", f"--config-file={conf}"]
            run([*argv, "db_sync"], env=environ(venv), cwd=daemons.run_dir, timeout=_SECONDS)

    with tempfile.TemporaryDirectory(prefix="imagebuild-services-", dir="/var/tmp") as scratch:
        return database.template(place, Path(scratch), Identity(), fill)


def admit(daemons: Daemons, server: Database) -> None:
    """Give the database's user, whom each start makes anew, Glance's database besides Trove's.

    The user who runs the server may do everything through its socket, whose path is short
    where the server is.
    """
    client = which("mariadb") or need("mysql", "mariadb-client")
    argv = [
        client,
        "--no-defaults",
        f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
        "--socket=db.sock",
    ]
    sql = (
        f"CREATE DATABASE IF NOT EXISTS {GLANCE} CHARACTER SET utf8mb4;"
        f" GRANT ALL ON {GLANCE}.* TO {database.USER}@'127.0.0.1'"
    )
    place = server.defaults.parent / "data"
    run(daemons.argv(*argv), env=base_env(), cwd=place, input=sql.encode(), timeout=_SECONDS)


def glance_url(server: Database) -> str:
    """SQLAlchemy's form of Glance's database."""
    return server.url.replace(f"/{database.NAME}?", f"/{GLANCE}?")
