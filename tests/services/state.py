"""The prepared databases: made once by the services' own commands, then copied for each run."""

from __future__ import annotations

import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagebuild.digest import of_value
from imagebuild.host.run import base_env, run
from imagebuild.host.scratch import lock
from imagebuild.verify.control import database
from imagebuild.verify.control.daemons import Daemons, Identity
from imagebuild.verify.control.database import Database
from imagebuild.verify.control.services import render
from tests.services import settings

_SECONDS = 300.0
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


def prepare(venv: Path, directory: Path) -> Path:
    """The state for an environment, below `directory`; made when it is not there.

    It holds keystone.sqlite and its keys, glance.sqlite, and a data directory for the
    MariaDB of this host, `database-*`.
    """
    script = Path(__file__).with_name("identity_state.py")
    key = of_value([venv.name, _WANTED, script.read_text()])[:16]
    final = directory / f"state-{key}"
    with lock(directory / f".{final.name}.lock"):
        if not final.is_dir():
            draft = directory / f".{final.name}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            with ThreadPoolExecutor() as pool:
                works = [pool.submit(w, venv, draft) for w in (_keystone, _glance, _trove)]
                for work in works:
                    work.result()
            draft.rename(final)
    # Debian may have brought another MariaDB since.
    _trove(venv, final)
    return final


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


def _glance(venv: Path, place: Path) -> None:
    conf = place / "glance-api.conf"
    conf.write_text(render(settings.glance(place, venv, None)))
    argv: list[str | Path] = [venv / "bin/glance-manage", f"--config-file={conf}", "db_sync"]
    run(argv, env=environ(venv), cwd=place, timeout=_SECONDS)
    conf.unlink()


def _trove(venv: Path, place: Path) -> None:
    def fill(daemons: Daemons, made: Database) -> None:
        conf = daemons.write(
            daemons.run_dir / "trove.conf",
            render({"DEFAULT": {"transport_url": "fake:/"}, "database": {"connection": made.url}}),
        )
        argv: list[str | Path] = [venv / "bin/trove-manage", f"--config-file={conf}", "db_sync"]
        run(argv, env=environ(venv), cwd=daemons.run_dir, timeout=_SECONDS)

    with tempfile.TemporaryDirectory(prefix="imagebuild-services-", dir="/var/tmp") as scratch:
        database.template(place, Path(scratch), Identity(), fill)
