"""The network cards of a machine, and the networks of one guest that they are in.

qemu's user network, so no root is needed, with `restrict=on`: the guest reaches what is
forwarded and nothing else. An address that is forwarded must lie in the card's own network,
and the metadata service has a fixed one: hence networks that contain 169.254.169.254.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass

METADATA_ADDRESS = "169.254.169.254"


@dataclass(frozen=True)
class Network:
    """One network: its CIDR, the gateway, and the guest's address (by DHCP)."""

    cidr: str
    gateway: str
    resolver: str
    guest: str

    def has(self, address: str) -> bool:
        """Whether a guest in it can be given something at that address."""
        return ipaddress.ip_address(address) in ipaddress.ip_network(self.cidr)


#: Where Trove's management traffic is. Not 169.254.0.0/16: an address of that kind is a
#: link-local one to the guest's network services, which is not what Neutron hands out.
MANAGEMENT = Network("168.0.0.0/6", "168.0.0.2", "168.0.0.3", "168.0.0.15")
#: The network of the database's users (network_isolation). It lies within the other, so that
#: both can serve metadata; the more specific route wins while its card is up.
USER = Network("169.254.0.0/16", "169.254.0.2", "169.254.0.3", "169.254.0.15")


class Role(str, enum.Enum):
    """What a card is for, in Trove's words."""

    MANAGEMENT = "management"
    USER = "user"


@dataclass(frozen=True)
class Nic:
    """One card. Their order in a machine is Nova's: the user's port first, management last."""

    mac: str = "fa:16:3e:00:00:01"
    role: Role = Role.MANAGEMENT

    @property
    def network(self) -> Network:
        """The network that it is in."""
        return USER if self.role is Role.USER else MANAGEMENT


@dataclass(frozen=True)
class HostForward:
    """A port on the host's loopback that leads to one of the guest, by its card `nic`."""

    host_port: int
    guest_port: int
    nic: int = -1


#: One card, as with network_isolation=false; two, as with Trove's default.
ONE_NIC = (Nic(),)
TWO_NICS = (Nic("fa:16:3e:00:00:02", Role.USER), Nic())
