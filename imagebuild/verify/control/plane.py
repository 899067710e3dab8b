"""The control plane as a whole: started, asked, ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.verify.control.client import Client
from imagebuild.verify.control.environment import Environment
from imagebuild.verify.control.values import Account, Guest, Instance, State


class ControlPlane(Client):
    """RabbitMQ, MariaDB, trove-api, trove-taskmanager, trove-conductor and a small Swift.

    All of it listens on loopback, lives below one directory, and ends with the tool.
    Methods of `Client` take an instance's id.
    """

    @classmethod
    @contextmanager
    def start(cls, environment: Environment, run_dir: Path, guest: Guest) -> Iterator[ControlPlane]:
        """Start everything, with one datastore version registered; end it after the block.

        Raises PreflightError when this host cannot run it.
        """
        raise NotImplementedError
        yield

    @property
    def forwards(self) -> Mapping[str, int]:
        """Addresses that the guest uses (`Guest.broker`, `Guest.swift`) -> ports on loopback."""
        raise NotImplementedError

    def create_instance(
        self,
        *,
        databases: Sequence[str] = (),
        users: Sequence[Account] = (),
        volume_gb: int = 1,
        prepare: bool = True,
    ) -> Instance:
        """Have Trove make an instance; returns when its task manager has asked Nova for the
        server. Without `prepare` the agent is told nothing: it can be pinged, that is all.
        """
        raise NotImplementedError

    def server_is(self, instance: Instance, status: str, fault: str = "") -> None:
        """Tell what Nova says of the server from now on: BUILD (at first), ACTIVE, ERROR."""
        raise NotImplementedError

    def wait(
        self,
        instance: Instance,
        until: Callable[[State], bool],
        timeout: float,
        on_change: Callable[[State], None] | None = None,
    ) -> State:
        """Poll until a state is as wanted. Raises TimeoutError, and VerifyError when Trove
        gives the instance up (ERROR, FAILED), with its fault and the logs' last words.
        """
        raise NotImplementedError

    def logs(self, lines: int = 20) -> dict[str, list[str]]:
        """Lines that matter (warnings and errors, secrets masked) of each service's log."""
        raise NotImplementedError
