"""Asks trove-api, as an operator's tools do: instances, databases, users, backups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from imagebuild.verify.control.values import Account, Backup, State


class Client:
    """Plain requests to one trove-api. Methods raise VerifyError with Trove's own words when
    it refuses, PreflightError when it does not answer at all.
    """

    def __init__(self, endpoint: str, project: str) -> None:
        raise NotImplementedError

    def state(self, instance: str) -> State:
        """What Trove says of an instance now."""
        raise NotImplementedError

    def rpc_ping(self, instance: str) -> bool:
        """Whether the agent answers Trove's own `guestagent.api` (management API)."""
        raise NotImplementedError

    def databases(self, instance: str) -> list[str]:
        """Names of the databases, as the agent reads them."""
        raise NotImplementedError

    def create_databases(self, instance: str, names: Sequence[str]) -> None:
        """Ask for databases; the agent makes them later."""
        raise NotImplementedError

    def delete_database(self, instance: str, name: str) -> None:
        """Ask for a database's end."""
        raise NotImplementedError

    def users(self, instance: str) -> dict[str, tuple[str, ...]]:
        """The users and the databases that each may use."""
        raise NotImplementedError

    def create_users(self, instance: str, accounts: Sequence[Account]) -> None:
        """Ask for users; the agent makes them later."""
        raise NotImplementedError

    def delete_user(self, instance: str, name: str) -> None:
        """Ask for a user's end."""
        raise NotImplementedError

    def grants(self, instance: str, user: str) -> list[str]:
        """The databases that a user may use."""
        raise NotImplementedError

    def grant(self, instance: str, user: str, databases: Sequence[str]) -> None:
        """Let a user use databases."""
        raise NotImplementedError

    def revoke(self, instance: str, user: str, database: str) -> None:
        """Take a grant back."""
        raise NotImplementedError

    def enable_root(self, instance: str) -> tuple[str, str]:
        """Name and password of the database's administrator."""
        raise NotImplementedError

    def restart(self, instance: str) -> None:
        """Ask for a restart of the database."""
        raise NotImplementedError

    def create_backup(self, instance: str, name: str, parent: str | None = None) -> str:
        """Ask for a backup; returns its id."""
        raise NotImplementedError

    def backup(self, backup: str) -> Backup | None:
        """A backup as it is now; None when there is none (any more)."""
        raise NotImplementedError

    def delete_backup(self, backup: str) -> None:
        """Ask for a backup's end."""
        raise NotImplementedError

    def delete(self, instance: str) -> None:
        """Ask for an instance's end."""
        raise NotImplementedError

    def heartbeat(self, instance: str) -> datetime | None:
        """When the instance's agent was last heard of by trove-conductor (UTC)."""
        raise NotImplementedError
