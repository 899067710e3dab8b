"""Peers of a control plane: what a guest would be, of its user data alone."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from imagebuild.host.run import base_env, spawn
from imagebuild.verify.control.plane import ControlPlane
from imagebuild.verify.control.values import Instance

CONF_DIR = "/etc/trove/conf.d/"


@dataclass(frozen=True)
class Written:
    """A file that the user data ask for."""

    owner: str
    text: str


def written(user_data: bytes) -> dict[str, Written]:
    """What cloud-init would write, by path."""
    assert user_data.startswith(b"#cloud-config\n")
    document: dict[str, Any] = yaml.safe_load(user_data)
    return {
        entry["path"]: Written(entry["owner"], base64.b64decode(entry["content"]).decode())
        for entry in document["write_files"]
    }


@dataclass
class Peer:
    """A running peer."""

    state: Path
    process: subprocess.Popen[bytes]

    def says(self, status: str) -> None:
        """What its heartbeats carry from now on: a description of a ServiceStatus."""
        part = self.state / "status.part"
        part.write_text(status)
        part.rename(self.state / "status")


@contextlib.contextmanager
def peer(
    plane: ControlPlane, instance: Instance, directory: Path, *, key: str | None = None
) -> Iterator[Peer]:
    """A peer with the configuration that the instance's user data have, at the broker's real
    address; `key` in the place of its own key.
    """
    conf, state = directory / "conf", directory / "state"
    conf.mkdir(parents=True)
    state.mkdir()
    for path, file in written(instance.user_data).items():
        if path.startswith(CONF_DIR):
            text = file.text
            for address, port in plane.forwards.items():
                text = text.replace(address, f"127.0.0.1:{port}")
            if key:
                lines = text.splitlines()
                lines = [ln for ln in lines if not ln.startswith("instance_rpc_encr_key")]
                text = "\n".join([*lines, ""])
                if "guest_id" in text:
                    text += f"instance_rpc_encr_key={key}\n"
            (conf / path.removeprefix(CONF_DIR)).write_text(text)
    swift = plane.guest.swift
    (state / "swift").write_text(f"{swift} 127.0.0.1:{plane.forwards[swift]}")
    (state / "status").write_text("building")
    with (directory / "log").open("wb") as log:
        process = spawn(
            [plane.environment.bin / "python", Path(__file__).with_name("peer.py"), conf, state],
            env=base_env(HOME=str(directory), PYTHONDONTWRITEBYTECODE="1"),
            stdout=log,
            stderr=log,
            die_with_parent=True,
        )
    try:
        until(lambda: bool((q := plane.agent_queue(instance)) and q.consumers), 60)
        yield Peer(state, process)
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.1)
