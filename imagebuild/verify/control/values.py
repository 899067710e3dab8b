"""What goes into a control plane and what comes out of it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Network:
    """A network as Neutron has it: its instances' addresses begin with `address`."""

    cidr: str
    gateway: str
    address: str


@dataclass(frozen=True)
class Guest:
    """What the operator of a cloud decides about its guests (trove-guestagent.conf and so on).

    `datastore` is Trove's own name of it, which is its manager's and its section's
    (`mariadb`, `mysql`, `postgresql`); `version_number` is the tag of its container image.
    `docker_image` and `backup_image` are without a tag. `broker` and `swift` are
    `ADDRESS:PORT` as the guest sees them; what listens behind them is
    `ControlPlane.forwards`. `insecure_registries` are `HOST:PORT` that docker may speak to
    without TLS. `settings` are further ones for trove-guestagent.conf, by section and key.
    `user_nic`: whether the instance has a network card in the user's network, too (isolation
    is nothing without). The networks may not overlap. `memory_mib` is the flavor's.
    """

    datastore: str
    version_number: str
    docker_image: str
    backup_image: str = ""
    network_isolation: bool = True
    broker: str = "169.254.0.4:5672"
    swift: str = "169.254.0.5:8080"
    insecure_registries: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    user_nic: bool = True
    user_network: Network = Network("10.42.0.0/24", "10.42.0.1", "10.42.0.10")
    management: Network = Network("169.254.0.0/16", "169.254.0.2", "169.254.0.15")
    memory_mib: int = 2048


@dataclass(frozen=True)
class Nic:
    """A network card that Nova would give to the machine. `role`: `user` or `management`."""

    role: str
    mac: str
    ip: str
    cidr: str
    gateway: str
    port_id: str


@dataclass(frozen=True)
class Account:
    """A user of a database, and the databases that it may use."""

    name: str
    password: str
    databases: tuple[str, ...] = ()
    host: str = "%"


@dataclass(frozen=True)
class Instance:
    """An instance of Trove, and what Trove asked of Nova for it.

    `user_data` byte for byte; `nics` in Nova's order: the user's first, management last;
    `meta` is the server's metadata, `volume_gb` the size of the data volume in GiB.
    """

    id: str
    server_id: str
    name: str
    user_data: bytes
    nics: tuple[Nic, ...]
    meta: Mapping[str, str]
    volume_gb: int


@dataclass(frozen=True)
class State:
    """What Trove says of an instance: `status` (BUILD … ACTIVE, ERROR) and `operating_status`
    (HEALTHY …).
    """

    status: str
    operating_status: str


@dataclass(frozen=True)
class Backup:
    """A backup as Trove has it: `status` NEW, BUILDING, COMPLETED, FAILED; `size` in GB."""

    id: str
    status: str
    location: str
    size: float | None = None
