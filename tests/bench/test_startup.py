"""How long a shell waits for the help, and for a completion."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_main import completion, environment

pytestmark = pytest.mark.full("stages")

#: Seconds.
LIMIT = 0.2
#: The best of so many counts, and of more while others keep the machine busy.
TRIES, MOST_TRIES = 5, 40


def commands() -> list[list[str]]:
    """The ways to start the tool that there are here."""
    script = Path(sys.executable).with_name("imagebuild")
    module = [sys.executable, "-m", "imagebuild"]
    return [module, *([[str(script)]] if script.exists() else [])]


@pytest.mark.parametrize("command", commands(), ids=lambda c: Path(c[-1]).name)
@pytest.mark.parametrize(
    ("argv", "completed"),
    [
        (["--help"], None),
        (["build", "--help"], None),
        ([], ""),
        ([], "build --"),
        ([], "build ubuntu "),
        ([], "inspect "),
    ],
)
def test_start(command: list[str], argv: list[str], completed: str | None) -> None:
    env = environment() | ({} if completed is None else completion(completed))
    took: list[float] = []
    while len(took) < TRIES or (min(took) >= LIMIT and len(took) < MOST_TRIES):
        started = time.monotonic()
        subprocess.run([*command, *argv], env=env, capture_output=True, check=True)
        took.append(time.monotonic() - started)
    print(f"{argv or completed}: {min(took):.3f} s")
    assert min(took) < LIMIT
