"""Runs that are cut off: signals, twice, and kill -9; each is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild.pipeline import reporting
from tests.pipeline.fakenight import TEMPORARY, Fake, statuses

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


_RUNNER = """
import sys
from pathlib import Path
from imagebuild.cli.main import raise_interrupted
from imagebuild.pipeline.engine import RunInterrupted
from tests.pipeline.fakenight import Fake
import json, signal
signal.signal(signal.SIGINT, raise_interrupted)
signal.signal(signal.SIGTERM, raise_interrupted)
fake = Fake(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
try:
    report = fake.run()
except RunInterrupted as exc:
    report = exc.report
sys.exit(int(report.exit_code))
"""


def start(fake: Fake) -> subprocess.Popen[bytes]:
    """The run as a process."""
    return subprocess.Popen(
        [
            sys.executable, "-c", _RUNNER, fake.directory, json.dumps(fake.document),
            json.dumps(fake.plan),
        ],
        cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip


def alive(fake: Fake) -> list[int]:
    """The children that live."""
    pids = map(int, (fake.directory / "pids").read_text().split())
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


def wait_until(met: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_the_report_written(fake: Fake, number: int, code: int) -> None:
    fake.plan = {"verify": [{"sleep": 30}]}
    process = start(fake)
    fake.wait_for("verify")
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(20) == code
    assert (fake.directory / "signals").read_text() == f"verify {code}\n", "once"
    assert alive(fake) == []
    report = reporting.read(fake.places.reports / "fake/latest")
    found = statuses(report, "one-amd64")
    assert found["build"] == "passed"
    assert found["verify"] == "interrupted"
    assert found["upload prod"] == "held"
    assert set(statuses(report, "two-amd64").values()) == {"held"}
    assert report.exit_code == code
    # Taken up again.
    fake.plan = {}
    assert statuses(fake.run(), "one-amd64")["build"] == "unchanged"


def test_a_wait_between_two_tries_is_cut_off(fake: Fake) -> None:
    fake.document["retry"]["wait"] = "1h"
    fake.plan = {"build": [{"code": 75, "error": TEMPORARY}]}
    process = start(fake)
    fake.wait_for("build")
    wait_until(lambda: alive(fake) == [])
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    report = reporting.read(fake.places.reports / "fake/latest")
    assert statuses(report, "one-amd64")["build"] == "interrupted"
    assert len([c for c in fake.calls if c.startswith("build")]) == 1


def test_children_that_do_not_hear_are_killed_when_asked_twice(fake: Fake) -> None:
    fake.plan = {"build": [{"sleep": 60, "stubborn": True}]}
    process = start(fake)
    fake.wait_for("build")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "it waits for its child"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert alive(fake) == []


def test_kill_9_leaves_nobody(fake: Fake) -> None:
    fake.plan = {"build": [{"sleep": 60, "stubborn": True}]}
    process = start(fake)
    fake.wait_for("build")
    process.kill()
    process.wait(10)
    wait_until(lambda: alive(fake) == [])
    runs = fake.places.reports / "fake"
    (directory,) = [p for p in runs.iterdir() if p.name[0] == "2"]
    assert not reporting.read(directory).complete
    fake.plan = {}
    assert fake.run().exit_code == 0
