"""A mirror run as a process of its own, to be killed: SOURCE TARGET, again and again."""

from __future__ import annotations

import sys

from imagebuild.mirror.copier import run_plan
from imagebuild.mirror.planning import make_plan
from imagebuild.registry.client import Client
from tests.mirror.mirrors import item


def main(names: list[str]) -> int:
    items = [item(*pair) for pair in zip(names[::2], names[1::2], strict=True)]
    with Client(environ={}) as client:
        report = run_plan(client, make_plan(client, items))
    for result in report.results:
        print(result.outcome.value, result.bytes_copied, result.error or "")
    return 6 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
