"""Running other programs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, PreflightError
from imagebuild.host.run import run
from tests.images.witness import family, living, wait_for

_TOOL = """
import sys
from imagebuild.host.run import run
run(["sh", "-c", "echo $$ > " + sys.argv[1] + "; exec sleep 600"])
"""


def test_what_runs_dies_with_the_tool(tmp_path: Path) -> None:
    """Also when the tool is killed, and can end nothing itself."""
    file = tmp_path / "pid"
    tool = subprocess.Popen([sys.executable, "-c", _TOOL, str(file)])
    wait_for(lambda: file.exists() and bool(file.read_text().strip()), 30, "the program runs")
    before = family(tool.pid)
    assert int(file.read_text()) in {pid for pid, _ in before}
    tool.send_signal(signal.SIGKILL)
    tool.wait()
    wait_for(lambda: not living(before), 10, "the program has ended")


def test_program_that_is_missing() -> None:
    with pytest.raises(PreflightError, match="cannot run no-such-program"):
        run(["no-such-program"])


def test_program_that_fails_is_named_with_its_last_lines() -> None:
    with pytest.raises(BuildError) as caught:
        run(["sh", "-c", "echo why >&2; exit 7"])
    assert caught.value.what == "sh failed with status 7"
    assert caught.value.where == "sh -c echo why >&2; exit 7"
    assert caught.value.detail == "why"
