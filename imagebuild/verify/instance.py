"""One machine as an instance of a real Trove: made by its task manager, started by us.

The control plane (`verify.control`) makes the instance; what it asks Nova for (user data,
network cards, volume) is what the machine gets. Everything afterwards goes through Trove's
own API, and through SQL from outside of the guest.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from imagebuild.errors import VerifyError
from imagebuild.verify import nic
from imagebuild.verify.bootlevel import Boot, Booted, booted
from imagebuild.verify.control import values
from imagebuild.verify.control.environment import Environment
from imagebuild.verify.control.plane import ControlPlane
from imagebuild.verify.control.values import Account, Guest
from imagebuild.verify.dialect import DIALECTS, Dialect
from imagebuild.verify.nic import MANAGEMENT, USER, HostForward, Nic, Role
from imagebuild.verify.place import place
from imagebuild.verify.results import Level, Milestone
from imagebuild.verify.sql import SqlClient

#: Seconds, times the accelerator's patience, that the steps may take. A database is started
#: from cold, its files are made, and docker asks for its health every 10 s.
SECONDS = {"agent": 120.0, "active": 300.0, "healthy": 120.0, "call": 60.0, "backup": 180.0}
#: Where the guest finds RabbitMQ and Swift, in its management network.
BROKER, SWIFT = "168.0.0.4:5672", "168.0.0.5:8080"
#: The data volume's size, in GiB.
VOLUME_GB = 1


@dataclass(frozen=True)
class Registry:
    """Where the guest finds container images: `address` (HOST:PORT) as the guest reaches it,
    `port` on the host's loopback where it is; `insecure`: without TLS.
    """

    address: str
    port: int
    insecure: bool = False


@dataclass(frozen=True)
class Database:
    """What an instance is made of. `datastore` is Trove's name of it; the guest pulls
    `image:version`, and `backup_image:version` for backups ("": there is none).
    """

    datastore: str
    version: str
    image: str
    backup_image: str = ""
    registry: Registry | None = None

    @property
    def dialect(self) -> Dialect:
        """How its clients speak."""
        return DIALECTS[self.datastore]


@dataclass(frozen=True)
class TroveBoot:
    """One machine under Trove. `boot` says how it starts (its user data, cards, volumes and
    forwards are Trove's to say); `agent_version` is that of the image's agent, "" when it is
    not known; `limits` are seconds by the names of SECONDS.
    """

    name: str
    boot: Boot
    environment: Environment
    database: Database
    level: Level
    network_isolation: bool = True
    agent_version: str = ""
    limits: dict[str, float] = field(default_factory=dict)

    def limit(self, name: str) -> float:
        """Seconds that a step may take."""
        return self.limits.get(name) or SECONDS[name] * self.boot.accelerator.patience


@dataclass(frozen=True)
class Live:
    """An instance whose guest runs."""

    wanted: TroveBoot
    plane: ControlPlane
    instance: values.Instance
    booted: Booted
    sql: SqlClient
    account: Account

    @property
    def id(self) -> str:
        """Trove's id of the instance."""
        return self.instance.id

    def limit(self, name: str) -> float:
        """Seconds that a step may take."""
        return self.wanted.limit(name)

    def mark(self, name: str) -> Milestone:
        """A milestone that is reached now."""
        return Milestone(name, round(self.booted.machine.elapsed(), 1))

    def text(self) -> str:
        """All that guest and Trove have to say, for the pattern book."""
        said = [line for tail in self.plane.logs(60).values() for line in tail]
        with suppress(VerifyError):
            said.append(self.booted.guest.run(_WHOLE, timeout=self.limit("call")).out)
        return "\n".join(said)

    def lines(self) -> Sequence[str]:
        """What the guest's journal and Trove's logs have to say of a failure."""
        lines = []
        for title, command in _JOURNALS.items():
            try:
                out = self.booted.guest.run(command, timeout=self.limit("call")).out
            except VerifyError as exc:
                lines.append(f"{title}: not to be had ({exc.what})")
                continue
            lines += [f"{title}: {line}" for line in out.splitlines()[-15:]]
        for service, tail in self.plane.logs(8).items():
            lines += [f"{service}: {line}" for line in tail]
        return lines


_LOG = "/var/log/trove/trove-guestagent.log"
#: Where the agent says what went wrong, and what docker says of the container. The lines of a
#: traceback begin with blanks; sudo's say nothing but that the agent works.
_JOURNALS = {
    "agent": f"tail -n 500 {_LOG} 2>/dev/null |"
    " grep -E ' (ERROR|CRITICAL|WARNING) ' | grep -vE ' ERROR [a-z_.]+ ( |$)"
    "|Traceback \\(most|The above exception was|During handling of' | tail -n 15",
    "unit": "journalctl -q --no-pager -o cat -u guest-agent.service |"
    " grep -vE 'pam_unix|COMMAND=' | tail -n 15",
    "docker": "docker ps -a --format '{{.Names}} {{.Image}} {{.Status}}' 2>&1;"
    " docker logs --tail 12 database 2>&1",
}
#: The same at length: what the pattern book is asked about.
_WHOLE = (
    f"tail -n 1500 {_LOG} 2>/dev/null;"
    " journalctl -q --no-pager -o cat -u docker.service -u guest-agent.service -n 300 |"
    " grep -v level=info;"
    " docker logs --tail 200 database 2>&1"
)


@contextmanager
def living(
    wanted: TroveBoot, *, on_milestone: Callable[[Milestone], None] = lambda _m: None
) -> Iterator[Live]:
    """The control plane, the instance, and its guest when it has settled; all of it is ended
    with the block. Raises what these raise.
    """
    database, boot = wanted.database, wanted.boot
    account = Account("verify", secrets.token_hex(12), ("verify",))
    guest = Guest(
        datastore=database.datastore,
        version_number=database.version,
        docker_image=database.image,
        backup_image=database.backup_image,
        network_isolation=wanted.network_isolation,
        insecure_registries=_insecure(database),
        broker=BROKER,
        swift=SWIFT,
        user_network=_network(USER),
        # The machine's own network is larger: it has the metadata service in it. Trove minds
        # networks that overlap.
        management=dataclasses.replace(_network(MANAGEMENT), cidr="168.0.0.0/24"),
    )
    with (
        place(boot.scratch) as here,
        ControlPlane.start(wanted.environment, here.path / "control", guest) as plane,
    ):
        with_database = wanted.level is Level.DATABASE
        instance = plane.create_instance(
            databases=account.databases if with_database else (),
            users=(account,) if with_database else (),
            volume_gb=VOLUME_GB,
            # At the agent level, too, whatever becomes of it: an agent that was told nothing
            # sends no heartbeat.
            prepare=True,
        )
        volume = here.path / "data.raw"
        with volume.open("wb") as file:
            file.truncate(instance.volume_gb << 30)
        forwards = dict(plane.forwards)
        if database.registry:
            forwards[database.registry.address] = database.registry.port
        machine = dataclasses.replace(
            boot,
            user_data=instance.user_data,
            meta=instance.meta,
            nics=tuple(Nic(n.mac, Role(n.role)) for n in instance.nics),
            volumes=(volume,),
            forwards=forwards,
            # The database listens on the user's port when networks are isolated.
            host_forwards=(HostForward(0, database.dialect.port, 0),),
        )
        plane.server_is(instance, "ACTIVE")
        with booted(machine, on_milestone=on_milestone) as running:
            port = running.machine.qmp.ports()[database.dialect.port]
            python = wanted.environment.bin / "python"
            sql = SqlClient(python, database.datastore, port, wanted.limit("call"))
            yield Live(wanted, plane, instance, running, sql, account)


def _network(network: nic.Network) -> values.Network:
    return values.Network(network.cidr, network.gateway, network.guest)


def _insecure(database: Database) -> tuple[str, ...]:
    registry = database.registry
    return (registry.address,) if registry and registry.insecure else ()
