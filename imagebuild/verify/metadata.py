"""What Nova tells an instance about itself: the documents, and who asked for them.

The same documents go onto a ConfigDrive (`verify.configdrive`) and are served by
`metadata_server.py`, which qemu starts for each connection of the guest. Their shape is that
of nova/api/metadata/base.py and nova/virt/netutils.py.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.verify.nic import ONE_NIC, Nic


@dataclass(frozen=True)
class Instance:
    """An instance as Nova knows it. `user_data` is handed on byte for byte, None: there is
    none; `vendor_data` is cloud-init's part of vendor_data.json; `public_key` is for ssh.
    `meta` are the instance's properties (trove_instance_id, ...).
    """

    user_data: bytes | None = None
    vendor_data: str = ""
    public_key: str = ""
    name: str = "imagebuild-verify"
    uuid: str = "c0ffee00-0000-4000-8000-000000000001"
    project_id: str = "0" * 32
    nics: tuple[Nic, ...] = ONE_NIC
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request that the guest made: seconds since the epoch, path, status of the answer."""

    time: float
    path: str
    status: int


def openstack(instance: Instance) -> dict[str, bytes]:
    """File name -> document, as below openstack/latest. Without user data there is no file."""
    documents: dict[str, Any] = {
        "meta_data.json": _meta_data(instance),
        "network_data.json": _network_data(instance),
        "vendor_data.json": {"cloud-init": instance.vendor_data} if instance.vendor_data else {},
        "vendor_data2.json": {},
    }
    files = {name: json.dumps(document).encode() for name, document in documents.items()}
    if instance.user_data is not None:
        files["user_data"] = instance.user_data
    return files


def ec2(instance: Instance) -> dict[str, bytes]:
    """Path below latest/ -> text, as in the service that is compatible with Amazon's."""
    leaves = {
        "ami-id": "ami-00000001",
        "ami-launch-index": "0",
        "ami-manifest-path": "FIXME",  # Nova's own word
        "block-device-mapping/ami": "vda",
        "block-device-mapping/root": "/dev/vda",
        "hostname": f"{instance.name}.novalocal",
        "instance-action": "none",
        "instance-id": "i-00000001",
        "instance-type": "imagebuild.verify",
        "local-hostname": f"{instance.name}.novalocal",
        "local-ipv4": instance.nics[-1].network.guest,
        "placement/availability-zone": "nova",
        "public-hostname": f"{instance.name}.novalocal",
        "public-ipv4": "",
        "reservation-id": "r-00000001",
    }
    files = {f"meta-data/{name}": text.encode() for name, text in leaves.items()}
    if instance.public_key:
        files["meta-data/public-keys/0/openssh-key"] = instance.public_key.encode()
    if instance.user_data is not None:
        files["user-data"] = instance.user_data
    return files


def write(instance: Instance, directory: Path) -> Path:
    """Make the tree that the server serves; returns `directory`, which must be new."""
    trees = {"openstack": openstack(instance), "ec2": ec2(instance)}
    for folder, files in trees.items():
        for name, content in files.items():
            path = directory / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return directory


def requests(log: Path) -> list[Request]:
    """What was asked, in order; empty when nobody asked."""
    if not log.exists():
        return []
    lines = log.read_text(errors="replace").splitlines()
    return [Request(float(t), path, int(s)) for t, s, path in (x.split(" ", 2) for x in lines)]


def _meta_data(instance: Instance) -> dict[str, Any]:
    document: dict[str, Any] = {
        "uuid": instance.uuid,
        "name": instance.name,
        "hostname": f"{instance.name}.novalocal",
        "availability_zone": "nova",
        "launch_index": 0,
        "devices": [],
        "project_id": instance.project_id,
        "random_seed": base64.b64encode(os.urandom(512)).decode(),
        "dedicated_cpus": [],
    }
    if instance.meta:
        document["meta"] = dict(instance.meta)
    if instance.public_key:
        document["public_keys"] = {"imagebuild": instance.public_key}
        document["keys"] = [{"name": "imagebuild", "type": "ssh", "data": instance.public_key}]
    return document


def _network_data(instance: Instance) -> dict[str, Any]:
    links, networks = [], []
    for number, nic in enumerate(instance.nics):
        links.append(
            {"id": f"tap{number}", "type": "ovs", "vif_id": f"vif{number}",
             "ethernet_mac_address": nic.mac, "mtu": 1500}
        )  # fmt: skip
        networks.append(
            {"id": f"network{number}", "type": "ipv4_dhcp", "link": f"tap{number}",
             "network_id": f"n{number}"}
        )  # fmt: skip
    return {"links": links, "networks": networks, "services": []}
