"""Asks trove-api, as an operator's tools do: instances, databases, users, backups.

The requests are those of the Database service's API reference (v1.0), and of its
management API, which is for administrators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests

from imagebuild.errors import PreflightError, VerifyError
from imagebuild.verify.control.values import Account, Backup, Guest, State

#: Trove itself waits for the agent in some of these (`agent_call_high_timeout`).
_SECONDS = 1000.0


class Client:
    """Plain requests to one trove-api.

    Methods raise VerifyError with Trove's own words when it refuses or the agent does not
    answer it, PreflightError when trove-api itself does not answer. Those that ask for a
    change return before it is made: look until it is there.
    """

    def __init__(self, port: int, project: str, token: str) -> None:
        self.port, self.project = port, project
        self._url = f"http://127.0.0.1:{port}/v1.0/{project}"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy lies between
        self._session.headers["X-Auth-Token"] = token

    def register_version(self, guest: Guest, image: str) -> str:
        """Make the datastore and its version; returns the version's id."""
        version = {
            "name": guest.version_number,
            "version": guest.version_number,
            "datastore_name": guest.datastore,
            "datastore_manager": guest.datastore,
            "image": image,
            "active": True,
            "default": True,
            "packages": [],
        }
        self._ask("POST", "/mgmt/datastore-versions", {"version": version})
        found = self._ask("GET", f"/datastores/{guest.datastore}/versions")["versions"]
        return str(found[0]["id"])

    def ask_instance(self, body: Mapping[str, Any]) -> str:
        """Ask for an instance; returns its id."""
        return str(self._ask("POST", "/instances", {"instance": body})["instance"]["id"])

    def state(self, instance: str) -> State | None:
        """What Trove says of an instance now; None when there is none (any more).

        From the list: for a single instance trove-api asks its agent how full the volume is,
        and waits for one that is not there.
        """
        rows = self._ask("GET", "/instances")["instances"]
        found = next((row for row in rows if row["id"] == instance), None)
        if found is None:
            return None
        return State(str(found["status"]), str(found.get("operating_status", "")))

    def rpc_problem(self, instance: str) -> str | None:
        """None when the agent answers a call of Trove's own `guestagent.api` (rpc_ping, with
        the instance's key); else what Trove says.

        It waits for the answer as long as trove-api does (`agent_call_low_timeout`).
        """
        answer = self._request("GET", f"/mgmt/instances/{instance}/rpc_ping")
        if answer.status_code == 404:
            self._checked(answer)
        return None if answer.status_code == 204 else _words(answer) or "no answer"

    def rpc_ping(self, instance: str) -> bool:
        """Whether there is no `rpc_problem`."""
        return self.rpc_problem(instance) is None

    def databases(self, instance: str) -> list[str]:
        """Names of the databases, as the agent reads them."""
        found = self._ask("GET", f"/instances/{instance}/databases")["databases"]
        return [str(d["name"]) for d in found]

    def create_databases(self, instance: str, names: Sequence[str]) -> None:
        """Ask for databases."""
        body = {"databases": [{"name": name} for name in names]}
        self._ask("POST", f"/instances/{instance}/databases", body)

    def delete_database(self, instance: str, name: str) -> None:
        """Ask for a database's end."""
        self._ask("DELETE", f"/instances/{instance}/databases/{quote(name, safe='')}")

    def users(self, instance: str) -> dict[str, tuple[str, ...]]:
        """The users and the databases that each may use, as the agent reads them."""
        found = self._ask("GET", f"/instances/{instance}/users")["users"]
        return {str(u["name"]): tuple(d["name"] for d in u.get("databases", [])) for u in found}

    def create_users(self, instance: str, accounts: Sequence[Account]) -> None:
        """Ask for users."""
        body = {"users": [account_body(a) for a in accounts]}
        self._ask("POST", f"/instances/{instance}/users", body)

    def delete_user(self, instance: str, name: str) -> None:
        """Ask for a user's end."""
        self._ask("DELETE", self._user(instance, name))

    def grants(self, instance: str, user: str) -> list[str]:
        """The databases that a user may use."""
        found = self._ask("GET", f"{self._user(instance, user)}/databases")["databases"]
        return [str(d["name"]) for d in found]

    def grant(self, instance: str, user: str, databases: Sequence[str]) -> None:
        """Let a user use databases."""
        body = {"databases": [{"name": name} for name in databases]}
        self._ask("PUT", f"{self._user(instance, user)}/databases", body)

    def revoke(self, instance: str, user: str, database: str) -> None:
        """Take a grant back."""
        self._ask("DELETE", f"{self._user(instance, user)}/databases/{quote(database, safe='')}")

    def enable_root(self, instance: str) -> tuple[str, str]:
        """Name and password of the database's administrator."""
        user = self._ask("POST", f"/instances/{instance}/root", {})["user"]
        return str(user["name"]), str(user["password"])

    def restart(self, instance: str) -> None:
        """Ask for a restart of the database."""
        self._ask("POST", f"/instances/{instance}/action", {"restart": {}})

    def delete(self, instance: str) -> None:
        """Ask for an instance's end."""
        self._ask("DELETE", f"/instances/{instance}")

    def create_backup(self, instance: str, name: str, parent: str | None = None) -> str:
        """Ask for a backup (incremental, when it has a parent); returns its id."""
        body: dict[str, Any] = {"name": name, "instance": instance}
        if parent:
            body |= {"parent_id": parent, "incremental": 1}
        return str(self._ask("POST", "/backups", {"backup": body})["backup"]["id"])

    def backup(self, backup: str) -> Backup | None:
        """A backup as it is now; None when there is none (any more)."""
        answer = self._request("GET", f"/backups/{backup}")
        if answer.status_code == 404:
            return None
        found = self._checked(answer)["backup"]
        return Backup(
            id=str(found["id"]),
            status=str(found["status"]),
            location=str(found.get("locationRef") or ""),
            size=found.get("size"),
        )

    def delete_backup(self, backup: str) -> None:
        """Ask for a backup's end."""
        self._ask("DELETE", f"/backups/{backup}")

    def _user(self, instance: str, name: str) -> str:
        return f"/instances/{instance}/users/{quote(name, safe='')}"

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:  # noqa: ANN401
        return self._checked(self._request(method, path, body))

    def _request(
        self,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401
    ) -> requests.Response:
        try:
            return self._session.request(method, self._url + path, json=body, timeout=_SECONDS)
        except requests.RequestException as exc:
            raise PreflightError(
                "trove-api does not answer", where=f"{method} {path}", detail=str(exc)
            ) from exc

    def _checked(self, answer: requests.Response) -> dict[str, Any]:
        request = f"{answer.request.method} {(answer.request.url or '').removeprefix(self._url)}"
        if answer.status_code >= 400:
            raise VerifyError(
                f"trove-api refuses a request with status {answer.status_code}",
                where=request,
                detail=_words(answer),
            )
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document


def account_body(account: Account) -> dict[str, Any]:
    """A user as the API has it."""
    return {
        "name": account.name,
        "password": account.password,
        "host": account.host,
        "databases": [{"name": name} for name in account.databases],
    }


def _words(answer: requests.Response) -> str:
    """What Trove says: {"badRequest": {"code": 400, "message": …}}."""
    try:
        said = next(iter(answer.json().values()))
        return str(said["message"])
    except (ValueError, StopIteration, KeyError, TypeError, AttributeError):
        return answer.text[:500]
