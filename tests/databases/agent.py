"""Containers as Trove's guest agent starts them, with what it mounts in a directory of a test.

Taken from trove 26.0.0: guestagent/utils/docker.py (the arguments of the docker SDK),
guestagent/datastore/{service,mysql_common/service,mariadb/service,mariadb/manager,
postgres/service}.py (what goes into them). Only the network is another: none where the agent
has docker's bridge, for the ports of this host may be taken.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import ContainerError, NotFound
from docker.models.containers import Container

from tests.databases.swift import Swift

#: Trove's defaults database_service_uid and database_service_gid.
USER = 1001
_SECOND = 10**9
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BACKUP_LOG = re.compile(r".*Backup successfully, checksum: (?P<checksum>.*), "
                         r"location: (?P<location>.*)")  # fmt: skip


@dataclass(frozen=True)
class Datastore:
    """What the agent passes for one datastore. `volumes` are by their places in the container."""

    volumes: Sequence[str]
    environment: Mapping[str, str | int]
    command: str
    health: Sequence[str]
    privileged: bool
    backup_driver: str
    backup_volumes: Mapping[str, str]
    restore_volumes: Sequence[str]
    backup_options: str = ""
    restore_options: str = ""


class Guest:
    """A guest's files below `directory`, and its containers in one docker engine."""

    def __init__(
        self, directory: Path, api: docker.DockerClient, datastore: Datastore, image: str,
        backup_image: str,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._api = api
        self._datastore = datastore
        self._image = image
        self._backup_image = backup_image
        for place in datastore.volumes:
            self.host(place).mkdir(parents=True, exist_ok=True)
        self.own()

    def host(self, place: str) -> Path:
        """Where a file of the container is on this host."""
        return self._directory / place.lstrip("/")

    def own(self) -> None:
        """Give all files to the user of the database."""
        for top, directories, files in os.walk(self._directory):
            for name in (".", *directories, *files):
                os.chown(Path(top, name), USER, USER, follow_symlinks=False)

    def start(self, command: str = "", extra: Mapping[str, str] | None = None) -> Container:
        """Start the database; `extra` are volumes, host's place to the container's."""
        wanted = self._datastore
        volumes = {str(self.host(p)): {"bind": p, "mode": "rw"} for p in wanted.volumes}
        for host, place in (extra or {}).items():
            volumes[host] = {"bind": place, "mode": "rw"}
        options: dict[str, Any] = {
            "name": "database",
            "restart_policy": {"Name": "unless-stopped"},
            "privileged": wanted.privileged,
            "detach": True,
            "volumes": volumes,
            "user": f"{USER}:{USER}",
            "ipc_mode": "host",
            "environment": dict(wanted.environment),
            "healthcheck": {
                "test": ["CMD", *wanted.health],
                "start_period": 10 * _SECOND,
                "interval": 10 * _SECOND,
                "timeout": 5 * _SECOND,
                "retries": 3,
            },
            "command": command or wanted.command,
            "network_mode": "none",
        }
        return self._api.containers.run(self._image, **options)

    def remove(self) -> None:
        """Remove the database's container, if there is one."""
        with suppress(NotFound):
            self._api.containers.get("database").remove(force=True, v=True)

    def wait(self, container: Container, *, docker_says: bool = False) -> None:
        """Until the health check succeeds: as docker sees it, every ten seconds, or asked often."""
        deadline = time.monotonic() + 90
        while True:
            container.reload()
            if docker_says:
                good = container.health == "healthy"
            else:
                good = (
                    container.status == "running"
                    and container.exec_run(list(self._datastore.health)).exit_code == 0
                )
            if good:
                return
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.2)

    def backup(self, swift: Swift, password: str) -> dict[str, str]:
        """Make a backup as the agent does; its checksum and location, by the last line."""
        wanted = self._datastore
        # The blanks where the agent has nothing to say are its own.
        command = (
            f"python3 main.py --backup --backup-id=backup-1 "
            f"--storage-driver=swift --driver={wanted.backup_driver} "
            f"--os-token={swift.token} --swift-url={swift.url}  "
            f"{wanted.backup_options.format(password=password)} "
            f"--swift-extra-metadata=datastore:test,datastore_version:1 "
            f"--swift-container=database_backups  "
            f"{wanted.restore_options}"
        )
        volumes = {
            str(self.host(place)): {"bind": place, "mode": mode}
            for place, mode in wanted.backup_volumes.items()
        }
        lines = self._run("db_backup", volumes, command)
        found = _BACKUP_LOG.match(lines[-1])
        assert found, "\n".join(lines)
        return found.groupdict()

    def restore(self, swift: Swift, backup: Mapping[str, str]) -> None:
        """Take a backup back, into directories that are empty."""
        wanted = self._datastore
        command = (
            f"python3 main.py --nobackup "
            f"--storage-driver=swift --driver={wanted.backup_driver} "
            f"--os-token={swift.token} --swift-url={swift.url} "
            f"--restore-from={backup['location']} "
            f"--restore-checksum={backup['checksum']} "
            f"{wanted.restore_options}"
        )
        volumes = {str(self.host(p)): {"bind": p, "mode": "rw"} for p in wanted.restore_volumes}
        lines = self._run("db_restore", volumes, command)
        assert "Restore successfully" in lines[-1], "\n".join(lines)
        self.own()

    def empty(self, place: str) -> None:
        """Leave nothing in a directory, which the agent has made for a new instance."""
        shutil.rmtree(self.host(place))
        self.host(place).mkdir(mode=0o755)

    def _run(self, name: str, volumes: dict[str, Any], command: str) -> list[str]:
        try:
            said: bytes = self._api.containers.run(
                self._backup_image, name=name, network_mode="host", volumes=volumes, remove=False,
                command=command, user="",
            )  # fmt: skip
        except ContainerError as exc:
            said = exc.container.logs()
        finally:
            self._api.containers.get(name).remove(force=True)
        return _COLOUR.sub("", said.decode()).strip().split("\n")
