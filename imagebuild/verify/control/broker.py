"""A private RabbitMQ: on loopback, with its own epmd, users and directories."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import which
from imagebuild.verify.control import amqp
from imagebuild.verify.control.daemons import Daemons
from imagebuild.verify.control.ports import Ports

USER = "trove"
_START_SECONDS = 120.0
#: Where Debian's, Fedora's and RabbitMQ's own packages put the server.
_PLACES = ("/usr/lib/rabbitmq/lib", "/usr/lib64/rabbitmq/lib", "/opt/rabbitmq")
_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 192MiB
disk_free_limit.absolute = 50MB
heartbeat = 60
"""


@dataclass(frozen=True)
class Broker:
    """A broker that runs."""

    port: int
    password: str

    def url(self, host: str = "127.0.0.1", port: int | None = None) -> str:
        """oslo.messaging's transport_url, for who reaches it at `host:port`."""
        return f"rabbit://{USER}:{self.password}@{host}:{port or self.port}/"

    def queue(self, name: str) -> amqp.Queue | None:
        """Who listens on a queue, and what waits in it; None when it is not there (yet)."""
        try:
            return amqp.queue(self.port, USER, self.password, name)
        except OSError:
            return None

    def listens(self, name: str) -> bool:
        """Whether somebody takes messages from a queue."""
        found = self.queue(name)
        return found is not None and found.consumers > 0


def start(daemons: Daemons, ports: Ports) -> Broker:
    """Start a broker; `await_broker` says when it is there.

    Not through /usr/sbin/rabbitmq-server: that is for root and rabbitmq alone. Raises
    PreflightError when it is not installed.
    """
    home = _home()
    if not (epmd := which("epmd") or _erlang_epmd()):
        raise PreflightError(
            "epmd is not installed", where="RabbitMQ", hint="apt-get install erlang-base"
        )
    place = daemons.directory("broker")
    port, epmd_port, dist_port = ports.take(), ports.take(), ports.take()
    password = secrets.token_hex(16)
    conf = daemons.write(
        place / "rabbitmq.conf", _CONF.format(port=port, user=USER, password=password)
    )
    daemons.write(place / "enabled_plugins", "[].\n")
    env = {
        "HOME": str(place),  # of the Erlang cookie
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": f"imagebuild{epmd_port}@localhost",
        "RABBITMQ_CONF_ENV_FILE": str(place / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(conf),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "advanced.config"),
        "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
        "RABBITMQ_LOG_BASE": str(place / "log"),
        "RABBITMQ_SCHEMA_DIR": str(place / "schema"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(place / "config"),
        "RABBITMQ_PID_FILE": str(place / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
        "RABBITMQ_PLUGINS_DIR": str(home / "plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(place / "feature_flags"),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2 +sbwt none +A 4"
        ),
        # The script then becomes the server instead of watching it: one process to end.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    # An epmd that the server would start itself would outlive it.
    daemons.start("epmd", [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)], env)
    daemons.start("rabbitmq", [home / "sbin/rabbitmq-server"], env)
    return Broker(port, password)


def await_broker(daemons: Daemons, broker: Broker) -> None:
    """Wait until it answers. Raises PreflightError when it does not get there."""

    def answers() -> bool:
        try:
            amqp.queue(broker.port, USER, broker.password, "none")
        except OSError:
            return False
        return True

    daemons.of("rabbitmq").await_ready(answers, _START_SECONDS)


def _home() -> Path:
    """The newest server that is installed."""
    found = [p for place in _PLACES for p in Path(place).glob("rabbitmq_server-*/sbin")]
    if not found:
        raise PreflightError(
            "rabbitmq-server is not installed",
            where=", ".join(_PLACES),
            hint="apt-get install rabbitmq-server",
        )
    newest = max(found, key=lambda p: [int(x) for x in _digits(p.parent.name)])
    return newest.parent


def _digits(name: str) -> list[str]:
    return [x for x in name.rpartition("-")[2].split(".") if x.isdigit()]


def _erlang_epmd() -> str | None:
    """epmd of an Erlang that does not put it on the PATH."""
    for place in ("/usr/lib/erlang", "/usr/lib64/erlang"):
        for path in sorted(Path(place).glob("erts-*/bin/epmd")):
            return str(path)
    return None
