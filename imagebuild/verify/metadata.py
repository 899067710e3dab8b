"""What Nova tells an instance about itself: the documents, and who asked for them.

The same documents go onto a ConfigDrive (`verify.configdrive`) and are served by
`metadata_server.py`, which qemu starts for each connection of the guest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.verify.nic import ONE_NIC, Nic


@dataclass(frozen=True)
class Instance:
    """An instance as Nova knows it. `user_data` is handed on byte for byte, None: there is
    none; `vendor_data` is cloud-init's part of vendor_data.json; `public_key` is for ssh.
    """

    user_data: bytes | None = None
    vendor_data: str = ""
    public_key: str = ""
    name: str = "imagebuild-verify"
    uuid: str = "c0ffee00-0000-4000-8000-000000000001"
    nics: tuple[Nic, ...] = ONE_NIC
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request that the guest made: seconds since the epoch, path, status."""

    time: float
    path: str
    status: int


def openstack(instance: Instance) -> dict[str, bytes]:
    """File name -> document, as below openstack/latest."""
    raise NotImplementedError


def write(instance: Instance, directory: Path) -> Path:
    """The tree that the server serves; returns `directory`."""
    raise NotImplementedError


def requests(log: Path) -> Sequence[Request]:
    """What was asked, in order; empty when cloud-init never asked."""
    raise NotImplementedError
