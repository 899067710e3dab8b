"""A cloud of real Keystone, Glance and Trove API processes on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from imagebuild.verify.control import database
from imagebuild.verify.control.daemons import Daemon, Daemons, Identity
from imagebuild.verify.control.database import Database
from imagebuild.verify.control.ports import Ports as Held
from imagebuild.verify.control.services import Settings, render
from tests.services import instances, settings, state
from tests.services.instances import Instances
from tests.services.proxy import FaultProxy
from tests.services.settings import DIRECT, PASSWORD, PEOPLE, PROXIED, TYPES, Ports
from tests.services.state import Prepared

SERVICES = ("keystone", "glance", "trove")
_CONF = {"keystone": "keystone.conf", "glance": "glance-api.conf", "trove": "trove.conf"}
_MANAGE_CONF = "trove-manage.conf"
_START_SECONDS = 120.0
#: Their graceful end waits for clients that keep connections.
_STOP_SECONDS = 0.1
_WEB_PORTS = 3
_APPLICATIONS = {
    "keystone": "keystone.wsgi.api:application",
    "glance": "glance.wsgi.api:application",
}
#: What the schemas themselves bring.
_NOT_DATA = ("alembic_version",)


@dataclass(frozen=True)
class Proxies:
    """The fault proxies before the services, for clouds whose name ends in `-proxied`."""

    keystone: FaultProxy
    glance: FaultProxy
    trove: FaultProxy

    def all(self) -> tuple[FaultProxy, ...]:
        """Each of them."""
        return self.keystone, self.glance, self.trove


class TestCloud:
    """The services, and what tests do with them."""

    __test__ = False  # pytest takes it for a class of tests

    def __init__(self, venv: Path, prepared: Prepared, directory: Path) -> None:
        """Start it on a copy of the prepared state, in `directory`, which is to be a new one.

        The processes end with the calling thread at the latest. Raises PreflightError when
        one of them does not come up.
        """
        self.venv = venv
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._daemons = Daemons(directory, Identity())
        self._held = Held()
        self._changed: set[str] = set()
        try:
            self._start(prepared)
        except BaseException:
            self.close()
            raise

    def _start(self, prepared: Prepared) -> None:
        take = self._held.take
        self.ports = Ports(
            take(), take(), take(), take(), take(), take(),
            tuple(take() for _ in range(_WEB_PORTS)),
        )  # fmt: skip
        maria = database.start(self._daemons, self._held, prepared.database)
        for part in ("keystone.sqlite", "fernet-keys", "credential-keys"):
            source, target = prepared.path / part, self.directory / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        for part in ("images", "staging", "tasks", "cloudinit", "locks", "clouds"):
            (self.directory / part).mkdir()
        self._write_catalog()
        self._database: Database = maria
        self._instances = Instances(self.directory, self.sql)
        self._daemons.write(
            self.directory / _MANAGE_CONF,
            render({"DEFAULT": {"transport_url": "fake:/"}, "database": {"connection": maria.url}}),
        )
        with ThreadPoolExecutor() as pool:
            # Waiting alone: a process ends with the thread that starts it.
            self._launch("keystone")
            database.await_database(self._daemons, maria)
            state.admit(self._daemons, maria)
            self._launch("glance")
            self._launch("trove")
            list(pool.map(self._await, SERVICES))
        for daemon in self._daemons.started:
            daemon.is_up()
        self.proxies = Proxies(
            *(FaultProxy(self.ports.of(s, proxied=True), self.ports.of(s)) for s in SERVICES)
        )
        self.clouds = self.clouds_yaml(self.directory / "clouds" / "clouds.yaml")

    # For tests.

    @property
    def logs(self) -> Path:
        """The directory of the services' logs, SERVICE.log each."""
        return self.directory / "log"

    @property
    def trove_manage(self) -> list[str]:
        """The command prefix of a real trove-manage on this cloud's database."""
        # Not that of the API: its own Nova and its kind would be asked for by their module.
        conf = self.directory / _MANAGE_CONF
        return [str(self.venv / "bin/trove-manage"), f"--config-file={conf}"]

    def endpoint(self, service: str, *, proxied: bool = False) -> str:
        """The URL of a service, without a path."""
        return f"http://127.0.0.1:{self.ports.of(service, proxied=proxied)}"

    def cloud(self, name: str) -> dict[str, Any]:
        """An entry of clouds.yaml, for `admin`, `demo`, `other`, `admin-proxied` and so on."""
        person, _, through = name.partition("-")
        assert person in PEOPLE and through in ("", "proxied"), name  # noqa: PT018
        return {
            "auth": {
                "auth_url": f"{self.endpoint('keystone', proxied=bool(through))}/v3",
                "username": person,
                "password": PASSWORD,
                "project_name": person,
                "user_domain_name": settings.DOMAIN,
                "project_domain_name": settings.DOMAIN,
            },
            "region_name": PROXIED if through else DIRECT,
            "identity_api_version": 3,
        }

    def clouds_yaml(self, path: Path, *names: str) -> Path:
        """Write a clouds.yaml with these clouds, or with all; returns `path`."""
        every = [*PEOPLE, *(f"{p}-proxied" for p in PEOPLE)]
        clouds = {name: self.cloud(name) for name in names or every}
        path.write_text(json.dumps({"clouds": clouds}, indent=1))  # JSON is YAML
        path.chmod(0o600)
        return path

    def environ(self, name: str = "") -> dict[str, str]:
        """The variables that name this cloud: all clouds, and the chosen one if any."""
        found = {"OS_CLIENT_CONFIG_FILE": str(self.clouds)}
        return found | ({"OS_CLOUD": name} if name else {})

    def openrc(self, name: str) -> dict[str, str]:
        """The same without a clouds.yaml: `OS_AUTH_URL`, `OS_USERNAME` and so on."""
        entry = self.cloud(name)
        words = {f"OS_{key.upper()}": value for key, value in entry["auth"].items()}
        return words | {"OS_REGION_NAME": entry["region_name"], "OS_IDENTITY_API_VERSION": "3"}

    def openstack(self, name: str) -> list[str]:
        """The `openstack` client as a command prefix; its environment is `environ(name)`."""
        return [str(self.venv / "bin/openstack"), f"--os-cloud={name}"]

    def project_id(self, name: str) -> str:
        """The id of a project."""
        ((found,),) = self._keystone_sql(
            "SELECT id FROM project WHERE name = ? AND is_domain = 0", name
        )
        return str(found)

    def sql(self, query: str) -> list[list[str]]:
        """The rows of a query to Trove's database; NULL is the word."""
        return self._database.query(query)

    def add_instance(
        self, version_id: str, name: str = "guest", *, deleted: bool = False, project: str = "demo"
    ) -> str:
        """An instance of a datastore version, ACTIVE with nothing behind it; returns its id."""
        return self._instances.add(version_id, self.project_id(project), name, deleted=deleted)

    def add_backup(
        self, version_id: str, name: str = "backup", *, deleted: bool = False, project: str = "demo"
    ) -> str:
        """A finished backup of an instance of a datastore version; returns its id."""
        project_id = self.project_id(project)
        return self._instances.add_backup(version_id, project_id, name, deleted=deleted)

    def new_instance(self, datastore: str, version: str, name: str = "new") -> dict[str, Any]:
        """What to POST to /instances: 200, and it is in BUILD for ever, or Trove's refusal."""
        return instances.wanted(datastore, version, name)

    def image_file(self, image_id: str) -> Path:
        """Where Glance's store keeps an image's bytes."""
        return self.directory / "images" / image_id

    def restart(self, service: str, changes: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Start a service anew, with some options changed: {section: {option: value}}.

        It has its port again, and its own settings after the test. Examples:
        glance {"DEFAULT": {"user_storage_quota": "1MB"}}, {"DEFAULT": {"image_size_cap": "9"}},
        {"DEFAULT": {"enabled_import_methods": "[]"}}; keystone {"token": {"expiration": "9"}}.
        """
        self.stop(service)
        self._launch(service, changes or {})
        self._await(service)
        self._daemons.of(service).is_up()
        if changes:
            self._changed.add(service)
        else:
            self._changed.discard(service)

    def stop(self, service: str) -> None:
        """End a service; nobody listens on its port until `restart`, or the test's end."""
        self._changed.add(service)
        for daemon in [d for d in self._daemons.started if d.name == service]:
            alone = Daemons(self.directory, Identity(), [daemon])
            alone.stop(_STOP_SECONDS)
            self._daemons.started.remove(daemon)

    @contextlib.contextmanager
    def configured(self, service: str, changes: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
        """The service with these options changed for the time of a block."""
        self.restart(service, changes)
        try:
            yield
        finally:
            self.restart(service)

    def reset(self) -> None:
        """Remove what a test has made: images, tasks, datastores, rules of the proxies."""
        for proxy in self.proxies.all():
            proxy.reset()
        for service in SERVICES:
            if service in self._changed:
                self.restart(service)
        self._daemons.check()
        self.forget_images()
        self.forget_datastores()

    def forget_images(self) -> None:
        """Remove all images and tasks: records and bytes."""
        self._empty(state.GLANCE)
        for part in ("images", "staging", "tasks"):
            for file in (self.directory / part).iterdir():
                shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)

    def forget_datastores(self) -> None:
        """Remove all that Trove has: datastores, versions, parameters, instances, backups."""
        self._empty(database.NAME)
        self._instances.forget()

    def close(self) -> None:
        """End everything. The directory stays: it has the logs."""
        if hasattr(self, "proxies"):
            for proxy in self.proxies.all():
                proxy.close()
        self._daemons.stop(5.0)
        self._held.close()

    def __enter__(self) -> TestCloud:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def memory(self) -> dict[str, int]:
        """The memory of each service's processes, in KiB (PSS: what is shared is split)."""
        return {d.name: _memory(d) for d in self._daemons.started}

    # How it is done.

    def _settings(self, service: str) -> Settings:
        if service == "keystone":
            return settings.keystone(self.directory)
        if service == "glance":
            return settings.glance(
                self.directory, self.venv, self.ports, state.glance_url(self._database)
            )
        return settings.trove(self.directory, self.venv, self.ports, self._database.url)

    def _launch(self, service: str, changes: Mapping[str, Mapping[str, str]] | None = None) -> None:
        text = render(settings.merged(self._settings(service), changes or {}))
        conf = self._daemons.write(self.directory / _CONF[service], text)
        env = state.environ(self.venv)
        argv: list[str | Path]
        if service == "trove":
            argv = [self.venv / "bin/trove-api", f"--config-file={conf}"]
            env |= self._instances.environ
        else:
            server = self.directory / f"{service}-server.py"
            server.write_text(settings.gunicorn(self.ports.of(service), _APPLICATIONS[service]))
            argv = [self.venv / "bin/gunicorn"]
            env |= {"GUNICORN_CMD_ARGS": f"--config {server}"}
        env |= {
            "OS_KEYSTONE_CONFIG_FILES": str(self.directory / _CONF["keystone"]),
            "OS_GLANCE_CONFIG_DIR": str(self.directory),
        }
        self._daemons.start(service, argv, env)

    def _await(self, service: str) -> None:
        url = f"{self.endpoint(service)}/{'v3' if service == 'keystone' else ''}"
        self._daemons.of(service).await_ready(lambda: _answers(url), _START_SECONDS)

    def _write_catalog(self) -> None:
        with contextlib.closing(sqlite3.connect(self.directory / "keystone.sqlite")) as tables:
            for service, (kind, path) in TYPES.items():
                for region, proxied in ((DIRECT, False), (PROXIED, True)):
                    url = f"{self.endpoint(service, proxied=proxied)}{path}"
                    done = tables.execute(
                        "UPDATE endpoint SET url = ? WHERE region_id = ?"
                        " AND service_id = (SELECT id FROM service WHERE type = ?)",
                        (url, region, kind),
                    )
                    assert done.rowcount, f"no endpoint of {kind} in {region}"
            tables.commit()

    def _keystone_sql(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.directory / "keystone.sqlite")) as tables:
            return tables.execute(query, values).fetchall()

    def _empty(self, name: str) -> None:
        """All tables of a database. One at a time would need their order."""
        rows = self.sql(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}'"  # noqa: S608
        )
        tables = [row[0] for row in rows if row[0] not in _NOT_DATA]
        deletes = "".join(f"DELETE FROM {name}.{table};" for table in tables)  # noqa: S608
        self.sql(f"SET FOREIGN_KEY_CHECKS = 0; {deletes}")


def new_cloud(directory: Path | None = None) -> TestCloud:
    """A cloud on the kept environment and state, which are made when they are not there."""
    from tests.services.environment import cache, environment

    kept = cache()
    venv = environment(kept)
    prepared = state.prepare(venv, kept)
    place = directory or Path(tempfile.mkdtemp(prefix="imagebuild-services-", dir="/var/tmp"))
    return TestCloud(venv, prepared, place)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20):
            return True
    except urllib.error.HTTPError as exc:
        return exc.code in (HTTPStatus.MULTIPLE_CHOICES, HTTPStatus.UNAUTHORIZED)
    except OSError:
        return False


def _memory(daemon: Daemon) -> int:
    total, waiting = 0, [daemon.process.pid]
    while waiting:
        pid = waiting.pop()
        place = Path("/proc", str(pid))
        with contextlib.suppress(OSError):
            for line in (place / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
            waiting += map(int, (place / f"task/{pid}/children").read_text().split())
    return total


def wait_until(condition: Any, seconds: float = 30.0, what: str = "") -> None:  # noqa: ANN401
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it does not come true"
        time.sleep(0.05)
