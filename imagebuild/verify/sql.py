"""Log in to a database as a client of the cloud would, and run statements there."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import PreflightError, VerifyError
from imagebuild.host.run import base_env

_SCRIPT = Path(__file__).with_name("sqlscript.py")


class SqlError(VerifyError):
    """The database said no, or nothing."""


@dataclass(frozen=True)
class SqlClient:
    """Speaks to the database of `datastore` at a port on the host's loopback.

    `python` is one that has the drivers: the control plane's. `timeout` (seconds) is for
    connecting and for each answer.
    """

    python: Path
    datastore: str
    port: int
    timeout: float = 30.0

    def run(self, user: str, password: str, database: str, *statements: str) -> list[list[str]]:
        """The rows of the last statement, as text. Raises SqlError with the server's words."""
        request = {
            "datastore": self.datastore,
            "host": "127.0.0.1",
            "port": self.port,
            "user": user,
            "password": password,
            "database": database,
            "statements": statements,
            "timeout": max(1, round(self.timeout)),
        }
        try:
            done = subprocess.run(
                [self.python, "-I", _SCRIPT], input=json.dumps(request).encode(),
                env=base_env(), capture_output=True, timeout=self.timeout * 4, check=False,
            )  # fmt: skip
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired as exc:
            raise SqlError(f"no answer to SQL as {user} within {self.timeout * 4:.0f} s") from exc
        except ValueError as exc:
            raise PreflightError(
                "the SQL client does not run",
                where=str(self.python),
                detail=done.stderr.decode(errors="replace")[-2000:],
            ) from exc
        if "error" in answer:
            raise SqlError(
                f"SQL as {user} is refused", where=database,
                detail=str(answer["error"]).replace(password, "***"),
            )  # fmt: skip
        rows: list[list[str]] = answer["rows"]
        return rows

    def works(self, user: str, password: str, database: str, statement: str = "SELECT 1") -> bool:
        """Whether a statement is carried out."""
        try:
            self.run(user, password, database, statement)
        except SqlError:
            return False
        return True
