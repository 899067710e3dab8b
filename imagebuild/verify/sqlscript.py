"""Run statements on a database. A script for the control plane's Python, whose packages have
the drivers (Trove needs them itself); it imports nothing else of this tool.

One JSON object on standard input: datastore, host, port, user, password, database,
statements, timeout. One on standard output: {"rows": [[...], ...]} of the last statement, or
{"error": text}. The password is never an argument: the process list shows those.
"""

import json
import sys
from typing import Any


def _connect(wanted: dict[str, Any]) -> Any:  # noqa: ANN401 - of two drivers
    common = {
        "host": wanted["host"],
        "port": wanted["port"],
        "user": wanted["user"],
        "password": wanted["password"],
        "connect_timeout": wanted["timeout"],
    }
    if wanted["datastore"] == "postgresql":
        import psycopg2  # type: ignore[import-untyped]

        connection = psycopg2.connect(dbname=wanted["database"] or "postgres", **common)
        connection.autocommit = True
        return connection
    import pymysql  # type: ignore[import-untyped]

    return pymysql.connect(
        database=wanted["database"] or None,
        autocommit=True,
        read_timeout=wanted["timeout"],
        write_timeout=wanted["timeout"],
        **common,
    )


def main() -> None:
    """Read the request, answer it."""
    wanted = json.load(sys.stdin)
    try:
        connection = _connect(wanted)
        rows: Any = []
        cursor = connection.cursor()
        for statement in wanted["statements"]:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        connection.close()
        answer: dict[str, Any] = {"rows": [[str(value) for value in row] for row in rows]}
    except Exception as exc:  # noqa: BLE001 - the drivers' errors have no common base
        answer = {"error": f"{type(exc).__name__}: {exc}".strip()}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
