"""Nova, Cinder, Neutron, Glance and Swift's client, as far as Trove asks them.

Trove's settings `remote_*_client` name the functions at the end. The state is files below
$IMAGEBUILD_CLOUD, one JSON document an object, so that trove-api, trove-taskmanager and
the tool see the same cloud:

    cloud.json            what there is: networks, flavors, the image, Swift (the tool's)
    servers/ID.json       what was asked of Nova; its user data are beside it, servers/ID.user
    servers/ID.status     what Nova says of the server (the tool's); without it: BUILD
    volumes, ports, groups/ID.json
    quiet                 when it is there, guests are not told to prepare (the tool's)
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import uuid
from pathlib import Path
from typing import Any

# ruff: noqa: ANN401 - the clients' own arguments are of any kind
from novaclient import api_versions
from novaclient import exceptions as nova_errors

ROOT = Path(os.environ["IMAGEBUILD_CLOUD"])
_TIME = "2026-01-01T00:00:00Z"


def cloud() -> dict[str, Any]:
    """What the tool says there is."""
    document: dict[str, Any] = json.loads((ROOT / "cloud.json").read_text())
    return document


class Table:
    """Objects of a kind."""

    def __init__(self, kind: str) -> None:
        self.place = ROOT / kind

    def put(self, data: dict[str, Any]) -> dict[str, Any]:
        """Keep an object by its id."""
        self.place.mkdir(exist_ok=True)
        part = self.place / f".{data['id']}.{secrets.token_hex(4)}"
        part.write_text(json.dumps(data, default=str))
        part.rename(self.place / f"{data['id']}.json")
        return data

    def get(self, key: str) -> dict[str, Any] | None:
        """An object, or None."""
        try:
            data: dict[str, Any] = json.loads((self.place / f"{key}.json").read_text())
        except OSError:
            return None
        return data

    def all(self) -> list[dict[str, Any]]:
        """All of them."""
        found = (self.get(p.stem) for p in sorted(self.place.glob("*.json")))
        return [data for data in found if data]

    def remove(self, key: str) -> None:
        """Forget one."""
        (self.place / f"{key}.json").unlink(missing_ok=True)


SERVERS, VOLUMES, PORTS, GROUPS = (Table(k) for k in ("servers", "volumes", "ports", "groups"))


class Thing:
    """An object as the clients have it: its fields are attributes."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.__dict__.update(data)
        self._info = data

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return self._info


# --- Nova ---------------------------------------------------------------------------------


class Server(Thing):
    """A server: the test's virtual machine stands for it."""

    id: str

    def _said(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads((SERVERS.place / f"{self.id}.status").read_text())
        except OSError:
            return {"status": "BUILD"}
        return said

    @property
    def status(self) -> str:
        """What the tool says."""
        return str(self._said()["status"])

    @property
    def fault(self) -> dict[str, Any]:
        """Why it is in ERROR."""
        return {"message": self._said().get("fault", "")}

    @property
    def addresses(self) -> dict[str, Any]:
        """By the names of networks, as Nova has them."""
        found: dict[str, Any] = {}
        for port in PORTS.all():
            if port["device_id"] == self.id:
                name = cloud()["networks"][port["network_id"]]["name"]
                address = port["fixed_ips"][0]["ip_address"]
                found.setdefault(name, []).append({"addr": address, "version": 4})
        return found

    def delete(self) -> None:
        """It is gone at once."""
        SERVERS.remove(self.id)

    def reboot(self, *_: object, **__: object) -> None:
        """The tool's machine is not ours to reboot."""

    stop = start = reboot


class Servers:
    """novaclient's `servers`."""

    def create(self, name: str, image: str, flavor: str, **asked: Any) -> Server:
        """Keep what is asked; the tool starts the machine."""
        user_data = asked.pop("userdata", None) or ""
        key = str(uuid.uuid4())
        SERVERS.place.mkdir(exist_ok=True)
        (SERVERS.place / f"{key}.user").write_bytes(
            user_data if isinstance(user_data, bytes) else user_data.encode()
        )
        for nic in asked.get("nics") or []:
            if port := PORTS.get(nic.get("port-id") or ""):
                PORTS.put(port | {"device_id": key})
        return Server(
            SERVERS.put(
                {
                    "id": key, "name": name, "image": {"id": image}, "flavor": {"id": flavor},
                    "metadata": asked.get("meta") or {}, "tags": asked.get("tags"),
                    "nics": asked.get("nics") or [], "config_drive": asked.get("config_drive"),
                    "block_device_mapping_v2": asked.get("block_device_mapping_v2"),
                    "tenant_id": "service", "user_id": "trove", "host": "localhost",
                    "hostId": "localhost", "created": _TIME, "updated": _TIME,
                }
            )
        )  # fmt: skip

    def get(self, key: Any) -> Server:
        """A server; NotFound as novaclient has it."""
        data = SERVERS.get(str(getattr(key, "id", key)))
        if data is None:
            raise nova_errors.NotFound(404, "Not found")
        return Server(data)

    def list(self, **_: object) -> list[Server]:
        """All servers."""
        return [Server(data) for data in SERVERS.all()]

    def set_tags(self, *_: object) -> None:
        """Nobody reads them."""


class Flavors:
    """novaclient's `flavors`."""

    def get(self, key: Any) -> Thing:
        """A flavor; NotFound as novaclient has it."""
        data = cloud()["flavors"].get(str(key))
        if data is None:
            raise nova_errors.NotFound(404, f"Flavor {key} not found")
        url = f"http://127.0.0.1/flavors/{key}"
        links = [{"rel": rel, "href": url} for rel in ("self", "bookmark")]
        return Thing({"id": str(key), "links": links, "ephemeral": 0, **data})

    def list(self, **_: object) -> list[Thing]:
        """All flavors."""
        return [self.get(key) for key in cloud()["flavors"]]


class Nothing:
    """A part that has nothing, and takes everything."""

    def list(self, *_: object, **__: object) -> list[Thing]:
        """None."""
        return []

    def delete_server_volume(self, *_: object) -> None:
        """Nothing is attached."""

    create_server_volume = delete = delete_server_volume


class Nova:
    """novaclient's client."""

    api_version = api_versions.APIVersion("2.67")

    def __init__(self) -> None:
        self.servers, self.flavors = Servers(), Flavors()
        self.volumes, self.server_groups = Nothing(), Nothing()


# --- Cinder -------------------------------------------------------------------------------


class Volume(Thing):
    """A volume: the second disk of the test's machine."""

    id: str

    def delete(self) -> None:
        """It is gone at once."""
        VOLUMES.remove(self.id)


class Volumes:
    """cinderclient's `volumes`."""

    def create(self, size: int, name: str = "", **asked: Any) -> Volume:
        """A volume, available at once."""
        data = {"id": str(uuid.uuid4()), "size": size, "name": name, "status": "available"}
        data |= {"volume_type": asked.get("volume_type"), "attachments": [], "bootable": "false"}
        return Volume(VOLUMES.put(data))

    def get(self, key: Any) -> Volume:
        """A volume that is there."""
        data = VOLUMES.get(str(getattr(key, "id", key)))
        if data is None:
            raise nova_errors.NotFound(404, "Not found")
        return Volume(data)

    def list(self, search_opts: dict[str, Any] | None = None, **_: object) -> list[Volume]:
        """Volumes, of a name."""
        name = (search_opts or {}).get("name")
        return [Volume(data) for data in VOLUMES.all() if name in (None, data["name"])]

    def delete(self, key: Any) -> None:
        """It is gone at once."""
        VOLUMES.remove(str(getattr(key, "id", key)))


class Cinder:
    """cinderclient's client."""

    def __init__(self) -> None:
        self.volumes, self.volume_types = Volumes(), Nothing()


# --- Neutron ------------------------------------------------------------------------------


class Neutron:
    """neutronclient's client. A network has one subnet, of the same id."""

    def show_network(self, key: str, **_: object) -> dict[str, Any]:
        """A network."""
        name = cloud()["networks"][key]["name"]
        return {"network": {"id": key, "name": name, "subnets": [key]}}

    def list_networks(self, **_: object) -> dict[str, Any]:
        """All networks."""
        return {"networks": [self.show_network(k)["network"] for k in cloud()["networks"]]}

    def show_subnet(self, key: str, **_: object) -> dict[str, Any]:
        """A network's subnet."""
        network = cloud()["networks"][key]
        return {
            "subnet": {
                "id": key, "network_id": key, "ip_version": 4, "cidr": network["cidr"],
                "gateway_ip": network["gateway"], "host_routes": [],
            }
        }  # fmt: skip

    def list_subnets(self, network_id: str | None = None, **_: object) -> dict[str, Any]:
        """The subnets of a network, or all."""
        keys = [network_id] if network_id else list(cloud()["networks"])
        return {"subnets": [self.show_subnet(key)["subnet"] for key in keys]}

    def show_extension(self, *_: object, **__: object) -> dict[str, Any]:
        """Every extension is there."""
        return {}

    def create_port(self, body: dict[str, Any], **_: object) -> dict[str, Any]:
        """A port with the network's next address."""
        asked = body["port"]
        network = cloud()["networks"][asked["network_id"]]
        used = sum(p["network_id"] == asked["network_id"] for p in PORTS.all())
        address = ipaddress.ip_address(network["first"]) + used
        if fixed := (asked.get("fixed_ips") or [{}])[0].get("ip_address"):
            address = ipaddress.ip_address(fixed)
        octets = ":".join(f"{b:02x}" for b in secrets.token_bytes(3))
        return {
            "port": PORTS.put(
                asked
                | {
                    "id": str(uuid.uuid4()), "device_id": "", "status": "ACTIVE",
                    "mac_address": f"fa:16:3e:{octets}", "allowed_address_pairs": [],
                    "fixed_ips": [
                        {"subnet_id": asked["network_id"], "ip_address": str(address)}
                    ],
                }
            )
        }  # fmt: skip

    def show_port(self, key: str, **_: object) -> dict[str, Any]:
        """A port."""
        return {"port": PORTS.get(key)}

    def list_ports(self, **wanted: Any) -> dict[str, Any]:
        """Ports by name, device and network. Every subnet has a router."""
        if "device_owner" in wanted:
            return {"ports": [{"id": "router"}]}
        wanted = {k: v for k, v in wanted.items() if k in ("name", "device_id", "network_id")}
        found = [p for p in PORTS.all() if all(p.get(k) == v for k, v in wanted.items())]
        return {"ports": found}

    def delete_port(self, key: str, **_: object) -> None:
        """It is gone at once."""
        PORTS.remove(key)

    def create_security_group(self, body: dict[str, Any], **_: object) -> dict[str, Any]:
        """A security group; nothing is filtered."""
        group = body["security_group"] | {"id": str(uuid.uuid4())}
        return {"security_group": GROUPS.put(group)}

    def list_security_groups(self, name: str | None = None, **_: object) -> dict[str, Any]:
        """Security groups of a name."""
        return {"security_groups": [g for g in GROUPS.all() if name in (None, g["name"])]}

    def delete_security_group(
        self, key: str = "", *, security_group: str = "", **_: object
    ) -> None:
        """It is gone at once."""
        GROUPS.remove(key or security_group)

    def create_security_group_rule(self, *_: object, **__: object) -> dict[str, Any]:
        """Nothing is filtered."""
        return {"security_group_rule": {"id": "rule"}}

    def list_security_group_rules(self, **_: object) -> dict[str, Any]:
        """Nothing is filtered."""
        return {"security_group_rules": []}

    def delete_security_group_rule(self, *_: object, **__: object) -> None:
        """Nothing is filtered."""

    def list_floatingips(self, **_: object) -> dict[str, Any]:
        """There are none."""
        return {"floatingips": []}


# --- Glance -------------------------------------------------------------------------------


class Images:
    """glanceclient's `images`: there is one, with every tag."""

    def get(self, key: str) -> Thing:
        """The image."""
        return Thing({"id": str(key), "name": "guest", "status": "active", "min_ram": 0,
                      "min_disk": 0, "tags": [], "visibility": "private"})  # fmt: skip

    def list(self, **_: object) -> list[dict[str, Any]]:
        """The image."""
        return [{"id": cloud()["image"], "status": "active"}]


class Glance:
    """glanceclient's client."""

    def __init__(self) -> None:
        self.images = Images()


# --- what Trove's settings name -----------------------------------------------------------


def nova_client(*_: object, **__: object) -> Nova:
    """remote_nova_client."""
    return Nova()


def cinder_client(*_: object, **__: object) -> Cinder:
    """remote_cinder_client."""
    return Cinder()


def neutron_client(*_: object, **__: object) -> Neutron:
    """remote_neutron_client."""
    return Neutron()


def glance_client(*_: object, **__: object) -> Glance:
    """remote_glance_client."""
    return Glance()


def swift_client(context: Any, *_: object, **__: object) -> Any:
    """remote_swift_client: the tool's Swift, as it is reached from the host."""
    from swiftclient.client import Connection

    url = f"{cloud()['swift']}/v1/AUTH_{context.project_id}"
    return Connection(preauthurl=url, preauthtoken=context.auth_token, retries=1)


def guest_client(context: Any, key: str, *_: object, **__: object) -> Any:
    """remote_guest_client: Trove's own, which says nothing of `prepare` where it is not to.

    Its ping takes anything for an answer, also what it cannot decrypt: an agent with another
    key would seem to be well.
    """
    from trove.common import exception
    from trove.guestagent.api import API

    api = API(context, key)
    ping = api.rpc_ping

    def strict_ping() -> bool:
        if ping() is not True:
            raise exception.GuestError(
                original_message="the agent's answer cannot be decrypted with its instance's key"
            )
        return True

    api.rpc_ping = strict_ping
    if (ROOT / "quiet").exists():
        api.prepare = lambda *_a, **_k: None
    return api
