"""The database level: an instance becomes ACTIVE, and does what a database is for.

What Trove says is not taken for the truth: each change is looked at by SQL from outside of
the guest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from imagebuild.errors import VerifyError
from imagebuild.verify.asking import Asking, until
from imagebuild.verify.control.values import Account, State
from imagebuild.verify.dialect import WORD
from imagebuild.verify.instance import Live
from imagebuild.verify.results import Milestone

#: What is asked, in this order; each needs those before it.
NAMES = (
    "active", "healthy", "volume", "container", "login", "create-database", "create-user",
    "grant", "revoke", "restart", "data", "backup",
)  # fmt: skip


#: Bytes that the backup of the smallest database has at least, compressed.
_LEAST_BACKUP = 10_000


class _Questions:
    """Asks one instance."""

    def __init__(self, live: Live, on_milestone: Callable[[Milestone], None]) -> None:
        self.live = live
        self.plane = live.plane
        self.sql = live.sql
        self.dialect = live.wanted.database.dialect
        self.on_milestone = on_milestone
        #: A second user, of a second database.
        self.other = Account("other", secrets.token_hex(12), ("second",))

    def active(self) -> Iterable[str]:
        seen: list[str] = []

        def changed(state: State) -> None:
            seconds = self.live.mark("").seconds
            seen.append(f"{seconds:.0f} s: {state.status} {state.operating_status}".rstrip())

        self.plane.wait(
            self.live.instance, lambda s: s.status == "ACTIVE", self.live.limit("active"), changed
        )
        self.on_milestone(self.live.mark("database"))
        return seen

    def healthy(self) -> Iterable[str]:
        # The health check of the container (every 10 s, limit 5 s, fixed in Trove's code) comes
        # and goes under emulation: that it was seen once is what can be asked.
        self.plane.wait(
            self.live.instance, lambda s: s.operating_status == "HEALTHY",
            self.live.limit("healthy"),
        )  # fmt: skip
        return [f"{self.live.mark('').seconds:.0f} s after the start"]

    def volume(self) -> Iterable[str]:
        mount = self.dialect.mount
        out = self.live.booted.guest.out(f"findmnt -n -o SOURCE,FSTYPE,SIZE {mount}")
        if "/dev/vdb" not in out.split():
            raise VerifyError("the data volume is not mounted", where=mount, detail=out)
        return [out]

    def container(self) -> Iterable[str]:
        wanted = self.live.wanted.database
        out = self.live.booted.guest.out(
            "docker inspect -f '{{.Config.Image}} {{.State.Status}}"
            "{{range $name, $_ := .NetworkSettings.Networks}} {{$name}}{{end}}' database"
        )
        if out.split()[:2] != [f"{wanted.image}:{wanted.version}", "running"]:
            raise VerifyError("the database's container is not as configured", detail=out)
        return [out]

    def login(self) -> Iterable[str]:
        account = self.live.account
        self._until_works(account, "verify", "no SQL login as the user of the new instance")
        version = self._run(account, "verify", self.dialect.version)[0][0]
        if self.sql.works(account.name, "not-the-password", "verify"):
            raise VerifyError("a login with a wrong password is let in")
        self._run(account, "verify", *self.dialect.write)
        return [f"version {version}"]

    def create_database(self) -> Iterable[str]:
        self.plane.create_databases(self.live.id, ["second"])
        self._until(lambda: "second" in self.plane.databases(self.live.id), "no new database")
        return self.plane.databases(self.live.id)

    def create_user(self) -> Iterable[str]:
        self.plane.create_users(self.live.id, [self.other])
        self._until(lambda: "other" in self.plane.users(self.live.id), "no new user")
        self._until_works(self.other, "second", "no SQL login as the new user")
        if self._may_use(self.other, "verify"):
            raise VerifyError("a user may use a database that it was not granted")
        return sorted(self.plane.users(self.live.id))

    def grant(self) -> Iterable[str]:
        self.plane.grant(self.live.id, "other", ["verify"])
        self._until(lambda: self._may_use(self.other, "verify"), "the grant has no effect")
        return self.plane.grants(self.live.id, "other")

    def revoke(self) -> Iterable[str]:
        self.plane.revoke(self.live.id, "other", "verify")
        self._until(lambda: not self._may_use(self.other, "verify"), "the grant is still there")
        return self.plane.grants(self.live.id, "other")

    def restart(self) -> Iterable[str]:
        before = self._started()
        self.plane.restart(self.live.id)
        self._until(
            lambda: self._started() not in ("", before), "the container was not restarted",
            self.live.limit("active"),
        )  # fmt: skip
        # Trove's own call may be given up before a slow guest is done: what counts is that it
        # comes back.
        self.plane.wait(
            self.live.instance, lambda s: s.status == "ACTIVE", self.live.limit("active")
        )
        return [f"container started {before}, then {self._started()}"]

    def data(self) -> Iterable[str]:
        account = self.live.account
        self._until_works(account, "verify", "no SQL login after the restart")
        rows = self._run(account, "verify", self.dialect.read)
        if rows != [[WORD]]:
            raise VerifyError("the data did not survive the restart", detail=str(rows))
        return [f"read back: {WORD}"]

    def backup(self) -> Iterable[str]:
        # ACTIVE comes before HEALTHY after a restart, and Trove refuses a backup until then.
        self.healthy()
        made = self.plane.create_backup(self.live.id, "verify")

        def done() -> bool:
            backup = self.plane.backup(made)
            if backup is not None and backup.status == "FAILED":
                raise VerifyError("the backup failed", where=backup.location)
            return backup is not None and backup.status == "COMPLETED"

        self._until(done, "the backup is not complete", self.live.limit("backup"))
        backup = self.plane.backup(made)
        assert backup is not None  # noqa: S101 - it was COMPLETED
        stored = sum(self.plane.objects().values())
        if stored < _LEAST_BACKUP:
            raise VerifyError(f"the backup has {stored} bytes", where=backup.location)
        return [f"{backup.location}, {stored} bytes"]

    def _started(self) -> str:
        command = "docker inspect -f '{{.State.StartedAt}}' database 2>/dev/null || true"
        return self.live.booted.guest.out(command)

    def _may_use(self, account: Account, database: str) -> bool:
        return all(
            self.sql.works(account.name, account.password, database, statement)
            for statement in self.dialect.use
        )

    def _run(self, account: Account, database: str, *statements: str) -> list[list[str]]:
        return self.sql.run(account.name, account.password, database, *statements)

    def _until_works(self, account: Account, database: str, what: str) -> None:
        """Wait for a login; what the server said last stands in the error."""
        try:
            self._until(lambda: self.sql.works(account.name, account.password, database), what)
        except TimeoutError:
            self._run(account, database, "SELECT 1")
            raise

    def _until(self, question: Callable[[], object], what: str, seconds: float = 0) -> None:
        until(question, seconds or self.live.limit("call"), what, pause=2.0)


def check_database(live: Live, asking: Asking, on_milestone: Callable[[Milestone], None]) -> None:
    """Ask the database of a running guest, until something fails that the rest needs."""
    ask = _Questions(live, on_milestone)
    steps = (
        ("active", "the instance becomes ACTIVE", ask.active),
        ("healthy", "the instance is HEALTHY", ask.healthy),
        ("volume", "the agent formatted and mounted the data volume", ask.volume),
        ("container", "the database's container is the one configured", ask.container),
        ("login", "SQL from outside works as the instance's user, and with no wrong password",
         ask.login),
        ("create-database", "a database is created", ask.create_database),
        ("create-user", "a user is created, and can use its own database alone",
         ask.create_user),
        ("grant", "a granted database can be used", ask.grant),
        ("revoke", "a revoked database cannot be used any more", ask.revoke),
        ("restart", "the database restarts", ask.restart),
        ("data", "data survive the restart", ask.data),
    )  # fmt: skip
    if not all(asking.ask(*step) for step in steps):
        return
    if live.wanted.database.backup_image:
        asking.ask("backup", "a backup is made and stored", ask.backup)
    else:
        asking.skip(["backup"], "no image for backups is named (--backup-image)")
