"""The database level's questions, put to an instance that lies in one way or another.

The real one is in tests/images/test_verify.py; here each question is shown to notice.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from imagebuild.errors import VerifyError
from imagebuild.verify import databaselevel
from imagebuild.verify.asking import Asking
from imagebuild.verify.control.values import Account, Backup, State
from imagebuild.verify.dialect import DIALECTS, WORD
from imagebuild.verify.instance import Database
from imagebuild.verify.results import Level, Milestone, Outcome
from imagebuild.verify.sql import SqlError


class Instance:
    """A database as Trove, its guest and its clients see it; `lies` are what it does wrong."""

    def __init__(self, *lies: str) -> None:
        self.lies = set(lies)
        self.users: dict[str, set[str]] = {"verify": {"verify"}}
        self.names = ["verify"]
        self.words: list[list[str]] = []
        self.starts = 0

    # What Trove answers.
    def wait(
        self,
        _instance: object,
        until: Callable[[State], bool],
        _seconds: float,
        changed: Callable[[State], None] | None = None,
    ) -> State:
        state = State("ACTIVE", "HEALTHY")
        if "error" in self.lies:
            raise VerifyError("the instance is in ERROR", detail="no such image")
        if changed:
            changed(state)
        assert until(state)
        return state

    def databases(self, _id: str) -> list[str]:
        return self.names

    def create_databases(self, _id: str, names: list[str]) -> None:
        if "database" not in self.lies:
            self.names = [*self.names, *names]

    def list_users(self, _id: str) -> dict[str, tuple[str, ...]]:
        return {name: tuple(granted) for name, granted in self.users.items()}

    def create_users(self, _id: str, accounts: list[Account]) -> None:
        for account in accounts:
            self.users[account.name] = set(account.databases)
            if "all" in self.lies:
                self.users[account.name].add("verify")

    def grants(self, _id: str, user: str) -> list[str]:
        return sorted(self.users[user])

    def grant(self, _id: str, user: str, databases: list[str]) -> None:
        if "grant" not in self.lies:
            self.users[user].update(databases)

    def revoke(self, _id: str, user: str, database: str) -> None:
        if "revoke" not in self.lies:
            self.users[user].discard(database)

    def restart(self, _id: str) -> None:
        if "restart" not in self.lies:
            self.starts += 1
        if "data" in self.lies:
            self.words = []

    def create_backup(self, _id: str, _name: str) -> str:
        return "b1"

    def backup(self, backup: str) -> Backup:
        return Backup(backup, "FAILED" if "backup" in self.lies else "COMPLETED", "swift/b1")

    def objects(self) -> dict[str, int]:
        return {"b1": 20 if "empty" in self.lies else 2_000_000}

    # What clients get.
    def run(self, user: str, password: str, database: str, *statements: str) -> list[list[str]]:
        if user not in self.users or (password == "not-the-password" and "open" not in self.lies):  # noqa: S105
            raise SqlError("denied")
        if database not in self.users[user]:
            raise SqlError("denied")
        if any("INSERT" in s for s in statements):
            self.words = [[WORD]]
        return self.words if "SELECT word" in statements[-1] else [["10.11"]]

    def works(self, user: str, password: str, database: str, statement: str = "SELECT 1") -> bool:
        try:
            self.run(user, password, database, statement)
        except SqlError:
            return False
        return True

    # What the guest says.
    def out(self, command: str) -> str:
        if "findmnt" in command:
            return "/dev/vda3 ext4 9G" if "volume" in self.lies else "/dev/vdb ext4 1G"
        if "StartedAt" in command:
            return f"start {self.starts}"
        return "wrong:1 running bridge" if "container" in self.lies else "r/db:10.11 running bridge"


def ask(*lies: str, backup: str = "r/backup") -> dict[str, tuple[Outcome, str]]:
    made = Instance(*lies)
    plane = SimpleNamespace(
        **{n: getattr(made, n) for n in dir(made) if not n.startswith("_") and n != "users"},
        users=made.list_users,
    )
    live: Any = SimpleNamespace(
        id="i", instance=None, plane=plane, sql=made, account=Account("verify", "pw"),
        booted=SimpleNamespace(guest=made),
        wanted=SimpleNamespace(database=Database("mariadb", "10.11", "r/db", backup)),
        limit=lambda _n: 0.01, mark=lambda name: Milestone(name, 1.0),
    )  # fmt: skip
    asking = Asking(Level.DATABASE, "database/x")
    databaselevel.check_database(live, asking, lambda _m: None)
    return {c.name.removeprefix("database/x/"): (c.outcome, c.what) for c in asking.checks}


def test_a_good_database_passes() -> None:
    found = ask()
    assert list(found) == list(databaselevel.NAMES)
    assert {outcome for outcome, _ in found.values()} == {Outcome.PASSED}


def test_without_an_image_for_backups_none_is_made() -> None:
    assert ask("backup", backup="")["backup"][0] is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("lie", "question", "what"),
    [
        ("error", "active", "ERROR"),
        ("volume", "volume", "not mounted"),
        ("container", "container", "not as configured"),
        ("open", "login", "wrong password"),
        ("database", "create-database", "no new database"),
        ("all", "create-user", "was not granted"),
        ("grant", "grant", "no effect"),
        ("revoke", "revoke", "still there"),
        ("restart", "restart", "not restarted"),
        ("data", "data", "did not survive"),
        ("backup", "backup", "failed"),
        ("empty", "backup", "20 bytes"),
    ],
)
def test_each_question_notices(lie: str, question: str, what: str) -> None:
    found = ask(lie)
    outcome, said = found[question]
    assert outcome is Outcome.FAILED
    assert what in said
    # Nothing is asked that needs what failed.
    assert list(found)[-1] == question


def test_every_datastore_has_its_dialect() -> None:
    assert set(DIALECTS) == {"mysql", "mariadb", "postgresql"}
    for dialect in DIALECTS.values():
        assert any(WORD in statement for statement in dialect.write)
