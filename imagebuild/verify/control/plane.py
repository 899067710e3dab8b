"""The control plane as a whole: started, asked, ended."""

from __future__ import annotations

import functools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imagebuild.errors import PreflightError, VerifyError
from imagebuild.redaction import masked
from imagebuild.verify.control import amqp, broker, database, services
from imagebuild.verify.control.client import Client, account_body
from imagebuild.verify.control.daemons import Daemons, identity
from imagebuild.verify.control.environment import Environment
from imagebuild.verify.control.ports import Ports
from imagebuild.verify.control.swift import Swift
from imagebuild.verify.control.values import Account, Guest, Instance, Nic, State

_START_SECONDS = 120.0
_POLL_SECONDS = 0.5
_CREATE_SECONDS = 60.0
_GIVEN_UP = frozenset({"ERROR", "FAILED"})
_LEVELS = re.compile(r" (WARNING|ERROR|CRITICAL) |\[(warning|error|critical)\]|Traceback")
_NOISE = re.compile(r" WARNING oslo_config\.cfg .* Deprecated: ")


class ControlPlane(Client):
    """RabbitMQ, MariaDB, trove-api, trove-taskmanager, trove-conductor and a small Swift.

    All of it listens on loopback, lives below one directory, and ends with the tool, and with
    the thread that started it. Methods of `Client` take an instance's id.
    """

    def __init__(
        self,
        environment: Environment,
        guest: Guest,
        daemons: Daemons,
        parts: tuple[broker.Broker, database.Database, Swift],
        api_port: int,
        token: str,
    ) -> None:
        super().__init__(api_port, services.PROJECT, token)
        self.environment = environment
        self.guest = guest
        self.run_dir = daemons.run_dir
        self._daemons = daemons
        self._broker, self._database, self._swift = parts
        self._cloud = daemons.run_dir / "cloud"

    @classmethod
    @contextmanager
    def start(cls, environment: Environment, run_dir: Path, guest: Guest) -> Iterator[ControlPlane]:
        """Start everything, with one datastore version registered; end it after the block.

        `run_dir` is a new or an empty directory; its logs stay. Raises PreflightError when
        this host cannot run it.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        run_dir = run_dir.resolve()
        with environment.held():
            daemons = Daemons(run_dir, identity(run_dir, environment.bin / "python"))
            prepared = database.template(
                environment.path,
                run_dir,
                daemons.who,
                lambda d, db: services.sync_schema(environment, d, db),
            )
            token = secrets.token_hex(24)
            public = f"http://{guest.swift}"
            swift = Swift(run_dir / "swift", token, public)
            try:
                with Ports() as ports:
                    plane = cls._launch(environment, guest, daemons, prepared, swift, token, ports)
                    plane._await_services()
                plane.register_version(guest, services.IMAGE)
                yield plane
            finally:
                daemons.stop()
                swift.close()

    @classmethod
    def _launch(
        cls,
        environment: Environment,
        guest: Guest,
        daemons: Daemons,
        prepared: Path,
        swift: Swift,
        token: str,
        ports: Ports,
    ) -> ControlPlane:
        """Start all processes. They come up beside each other: what needs another waits for it."""
        rabbit = broker.start(daemons, ports)
        maria = database.start(daemons, ports, prepared)
        api_port = ports.take()
        services.install(environment, daemons, services.cloud(guest, swift.port))
        place = daemons.run_dir / "trove"
        settings = services.service_settings(
            guest, daemons.run_dir, rabbit, maria, api_port, swift.public
        )
        daemons.write(place / "trove.conf", services.render(settings))
        daemons.write(
            place / "trove-guestagent.conf",
            services.render(services.guest_settings(guest, rabbit, swift.public)),
        )
        database.await_database(daemons, maria)
        services.start(environment, daemons, token)
        return cls(environment, guest, daemons, (rabbit, maria, swift), api_port, token)

    def _await_services(self) -> None:
        broker.await_broker(self._daemons, self._broker)
        for name, queue in services.QUEUES.items():
            # An order that comes before its queue is there would be lost.
            listens = functools.partial(self._broker.listens, queue)
            self._daemons.of(name).await_ready(listens, _START_SECONDS)
        self._daemons.of("trove-api").await_ready(self._answers, _START_SECONDS)
        for daemon in self._daemons.started:
            daemon.is_up()

    def _answers(self) -> bool:
        try:
            return self._request("GET", "/datastores").status_code == 200
        except PreflightError:
            return False

    @property
    def forwards(self) -> Mapping[str, int]:
        """Addresses that the guest uses (`Guest.broker`, `Guest.swift`) -> ports on loopback."""
        return {self.guest.broker: self._broker.port, self.guest.swift: self._swift.port}

    @property
    def user(self) -> str:
        """The user that the processes run as, for the report."""
        return "nobody" if self._daemons.who.prefix else "the caller"

    def create_instance(
        self,
        *,
        databases: Sequence[str] = (),
        users: Sequence[Account] = (),
        volume_gb: int = 1,
        prepare: bool = True,
        name: str = "verify",
    ) -> Instance:
        """Have Trove make an instance; returns when its task manager has asked Nova for the
        server. Without `prepare` the agent is told nothing: it can be pinged, that is all; it
        sends no heartbeat either.

        Raises VerifyError when Trove does not get that far.
        """
        quiet = self._cloud / "quiet"
        if prepare:
            quiet.unlink(missing_ok=True)
        else:
            self._daemons.write(quiet, "")
        body: dict[str, Any] = {
            "name": name,
            "flavorRef": services.FLAVOR,
            "volume": {"size": volume_gb},
            "datastore": {"type": self.guest.datastore, "version": self.guest.version_number},
            "databases": [{"name": d} for d in databases],
            "users": [account_body(u) for u in users],
        }
        if self.guest.user_nic:
            body["nics"] = [{"network_id": services.USER_NETWORK}]
        instance = self.ask_instance(body)
        deadline = time.monotonic() + _CREATE_SECONDS
        while not (server := self._server_of(instance)):
            self._daemons.check()
            state = self.state(instance)
            if time.monotonic() > deadline or (state and state.status in _GIVEN_UP):
                raise self._gave_up("Trove did not ask for a server", instance)
            time.sleep(0.1)
        return Instance(
            id=instance,
            server_id=server["id"],
            name=name,
            user_data=(self._cloud / f"servers/{server['id']}.user").read_bytes(),
            nics=tuple(self._nic(n["port-id"]) for n in server["nics"]),
            meta=server["metadata"],
            volume_gb=volume_gb,
        )

    def _server_of(self, instance: str) -> dict[str, Any] | None:
        for path in (self._cloud / "servers").glob("*.json"):
            server: dict[str, Any] = json.loads(path.read_text())
            if server["metadata"].get("trove_instance_id") == instance:
                return server
        return None

    def _nic(self, port_id: str) -> Nic:
        cloud = json.loads((self._cloud / "cloud.json").read_text())
        port = json.loads((self._cloud / f"ports/{port_id}.json").read_text())
        network = cloud["networks"][port["network_id"]]
        return Nic(
            role=network["name"],
            mac=port["mac_address"],
            ip=port["fixed_ips"][0]["ip_address"],
            cidr=network["cidr"],
            gateway=network["gateway"],
            port_id=port_id,
        )

    def server_is(self, instance: Instance, status: str, fault: str = "") -> None:
        """Tell what Nova says of the server from now on: BUILD (at first), ACTIVE, ERROR."""
        self._daemons.write(
            self._cloud / f"servers/{instance.server_id}.status",
            json.dumps({"status": status, "fault": fault}),
        )

    def wait(
        self,
        instance: Instance,
        until: Callable[[State], bool],
        timeout: float,
        on_change: Callable[[State], None] | None = None,
    ) -> State:
        """Look until a state is as wanted; `on_change` sees each that is new.

        Raises TimeoutError after `timeout` seconds, VerifyError when Trove gives the instance
        up (ERROR, FAILED) or has none, with its fault and the services' last complaints.
        """
        deadline = time.monotonic() + timeout
        last = None
        while True:
            self._daemons.check()
            state = self.state(instance.id)
            if state is None:
                raise VerifyError(f"Trove has no instance {instance.id} any more")
            if on_change and state != last:
                on_change(state)
            last = state
            if until(state):
                return state
            if state.status in _GIVEN_UP:
                raise self._gave_up("Trove gave the instance up", instance.id)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"after {timeout:.0f} s Trove says {state.status}/{state.operating_status}"
                )
            time.sleep(_POLL_SECONDS)

    def fault(self, instance: str) -> str:
        """Why Trove gave an instance up, in its words; "" when it says nothing.

        From its database: trove-api asks the agent before it tells.
        """
        rows = self._database.query(
            f"SELECT message FROM instance_faults WHERE {_of(instance)} ORDER BY created;"  # noqa: S608
        )
        return "\n".join(row[0] for row in rows)

    def heartbeat(self, instance: Instance) -> datetime | None:
        """When the last heartbeat that trove-conductor took from the instance's agent was sent
        (UTC, by the guest's clock); None: it took none yet.

        The agent sends one when it begins to prepare, one when it is done, and regular ones
        from then on: one that is told nothing (`prepare=False`) sends none. The conductor
        keeps the time to drop what comes late; service_statuses.updated_at changes with other
        things, too, and Trove's table of heartbeats stays empty.
        """
        where = f"{_of(instance.id)} AND method_name = 'heartbeat'"
        rows = self._database.query(f"SELECT sent FROM conductor_lastseen WHERE {where};")  # noqa: S608
        return datetime.fromtimestamp(float(rows[0][0]), timezone.utc) if rows else None

    def agent_queue(self, instance: Instance) -> amqp.Queue | None:
        """The queue of an instance's agent. One consumer or more: the agent is connected, or
        was a moment ago; a message more: it does not take what it is sent.
        """
        return self._broker.queue(f"guestagent.{instance.id}")

    def objects(self) -> dict[str, int]:
        """What is in Swift: ACCOUNT/CONTAINER/NAME -> size in bytes."""
        return self._swift.objects()

    def logs(self, lines: int = 20) -> dict[str, list[str]]:
        """The last lines that matter (warnings, errors) of each service's log, no secrets."""
        found = {}
        for daemon in self._daemons.started:
            told = [ln for ln in daemon.told() if _LEVELS.search(ln) and not _NOISE.search(ln)]
            found[daemon.name] = [masked(line)[:400] for line in told[-lines:]]
        return found

    def _gave_up(self, what: str, instance: str) -> VerifyError:
        lines = [self.fault(instance)]
        for name, told in self.logs(5).items():
            lines += told if name.startswith("trove") else []
        detail = "\n".join(filter(None, lines))
        return VerifyError(what, where=str(self._daemons.run_dir / "log"), detail=detail)


def _of(instance: str) -> str:
    """An instance's rows, in SQL."""
    if not re.fullmatch(r"[0-9a-f-]{36}", instance):
        raise ValueError(f"not an instance's id: {instance}")
    return f"instance_id = '{instance}'"
