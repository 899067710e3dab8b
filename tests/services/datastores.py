"""What tests of datastores do with the cloud: connections, small images, the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Images
from tests.services import state
from tests.services.cloud import TestCloud

ROOT = Path(__file__).resolve().parents[2]
DATA = b"x" * 1000


_CONNECTED: weakref.WeakKeyDictionary[TestCloud, dict[str, Cloud]] = weakref.WeakKeyDictionary()


def connected(cloud: TestCloud, name: str = "admin") -> Cloud:
    """As one of the people, through the proxies where the name says so.

    It is the same connection again: a login takes longer than most tests.
    """
    known = _CONNECTED.setdefault(cloud, {})
    if name not in known:
        config = OpenStackConfig(config_files=[str(cloud.clouds)], load_envvars=False)
        known[name] = Cloud(name, Connection(config=config.get_one(cloud=name)))
    return known[name]


def add_image(
    cloud: TestCloud,
    tags: Sequence[str] = ("trove", "mysql"),
    *,
    owner: str = "admin",
    age: int = 0,
    name: str = "guest",
    is_active: bool = True,
    **attributes: Any,  # noqa: ANN401 - Glance's own
) -> str:
    """An image of so many seconds ago: Glance's clock has whole seconds, too few for a test."""
    connection = connected(cloud, owner)
    wanted = {"name": name, "disk_format": "raw", "container_format": "bare", "tags": list(tags)}
    image = Images(connection.image).create({**wanted, "visibility": "private", **attributes})
    if is_active:
        headers = {"Content-Type": "application/octet-stream"}
        connection.image.request("PUT", f"/images/{image.id}/file", data=DATA, headers=headers)
    if age:
        cloud.sql(
            f"UPDATE {state.GLANCE}.images SET created_at = created_at - INTERVAL {age} SECOND "  # noqa: S608
            f"WHERE id = '{image.id}'"
        )
    return image.id


def versions(cloud: TestCloud) -> dict[str, DatastoreVersion]:
    """All versions by what people call them."""
    return {v.label: v for v in Datastores(connected(cloud).database).versions()}


def datastores(cloud: TestCloud) -> set[str]:
    """The names of all datastores."""
    return {d.name for d in Datastores(connected(cloud).database).datastores()}


def trove_manage(cloud: TestCloud) -> str:
    """A real trove-manage as operators name it."""
    return " ".join(cloud.trove_manage)


@dataclass(frozen=True)
class Ran:
    """What a command line did; `err` is one line after another, as they were written."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """What --json printed."""
        return json.loads(self.out)


def environment(cloud: TestCloud, name: str) -> dict[str, str]:
    """A process's, with this user's rights in the cloud."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "IMAGEBUILD_"))}
    return kept | cloud.environ(name) | {"PYTHONPATH": str(ROOT)}


def run(cloud: TestCloud, *argv: str, name: str = "admin") -> Ran:
    """`imagebuild datastore …` to its end."""
    with start(cloud, *argv, name=name) as process:
        out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


@contextlib.contextmanager
def start(cloud: TestCloud, *argv: str, name: str = "admin") -> Iterator[subprocess.Popen[str]]:
    """The same while it runs; it is ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imagebuild", "--no-color", "datastore", *argv],
        env=environment(cloud, name),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
