"""python -m tests.bench [-o DIR]: measure, and write bench.json, bench.md and bench.svg."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuild.errors import ImagebuildError
from imagebuild.host.run import run
from tests.bench.measure import measure
from tests.bench.targets import table, verdicts


def main() -> int:
    """Returns 0 when all targets that were measured are met, 1 when one was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench"), metavar="DIR")
    parser.add_argument("--from", dest="given", type=Path, metavar="bench.json",
                        help="draw and tabulate an earlier run, and measure nothing")  # fmt: skip
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.given:
        results = json.loads(arguments.given.read_text())
    else:
        if os.geteuid() != 0:
            parser.error("the plain recipe needs root")
        try:
            results = run_all()
        except ImagebuildError as exc:
            print(f"error: {exc.what}\n{exc.where}\n{exc.detail}", file=sys.stderr)
            return int(exc.exit_code)
    write(results, arguments.output)
    print((arguments.output / "bench.md").read_text())
    return 1 if any(v.met is False for v in verdicts(results)) else 0


def run_all() -> dict[str, Any]:
    """The results of one whole run, made in a directory that goes away."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="imagebuild-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        return measure(directory, say)
    finally:
        run(["rm", "-rf", "--one-file-system", directory], check=False)


def write(results: Mapping[str, Any], directory: Path) -> None:
    """bench.json, bench.md (for the README) and bench.svg."""
    from tests.bench.plot import draw

    document = {**results, "targets": [v.to_json() for v in verdicts(results)]}
    (directory / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    (directory / "bench.md").write_text(table(results))
    draw(results, directory / "bench.svg")


if __name__ == "__main__":
    sys.exit(main())
