"""Builds that are ended from outside leave nothing running and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from imagebuild.host.run import run
from tests.images.builds import REPO, Built, bookworm_argv
from tests.images.elements import write_hook

pytestmark = pytest.mark.image

# A number that no other sleep on the machine has.
_NAP = "sleep 86399"


def start_slow_build(built: Built, tmp_path: Path) -> subprocess.Popen[str]:
    """A build on the first one's stages that stays in the agent stage's install.d."""
    write_hook(tmp_path / "elements", "site-slow/install.d/10-slow", _NAP)
    argv = bookworm_argv(
        "--cache-dir", str(built.cache), "--images-dir", str(tmp_path / "images"),
        "--elements-path", str(tmp_path / "elements"), "--element", "agent:site-slow",
    )  # fmt: skip
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=REPO)


def is_napping() -> bool:
    return _NAP in run(["ps", "-eo", "args"]).stdout.decode()


def wait_until(napping: bool, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_napping() is not napping:
        assert time.monotonic() < deadline, f"waited {seconds} s"
        time.sleep(0.2)


def leftovers(built: Built) -> list[Path]:
    return [p for p in (built.cache / "scratch").iterdir() if p.is_dir()]


def clean(built: Built) -> None:
    argv = [bookworm_argv()[0], "-m", "imagebuild", "clean", "--cache-dir", str(built.cache)]
    run(argv, env=dict(os.environ), cwd=REPO)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_build(
    bookworm: Built, tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    process = start_slow_build(bookworm, tmp_path)
    wait_until(True, 240)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in stderr
    assert not is_napping()
    assert not (tmp_path / "images").exists()
    # On a busy machine its time may end before all of the scratch is removed.
    clean(bookworm)
    assert not leftovers(bookworm)


def test_killed_build_leaves_no_process_and_clean_removes_its_scratch(
    bookworm: Built, tmp_path: Path
) -> None:
    devices = sorted(Path("/dev").iterdir())
    process = start_slow_build(bookworm, tmp_path)
    wait_until(True, 240)
    process.kill()
    process.communicate()
    wait_until(False, 10)
    assert str(bookworm.cache) not in mounts()
    assert leftovers(bookworm)
    clean(bookworm)
    assert not leftovers(bookworm)
    assert bookworm.object("agent", "environment").is_dir()
    assert sorted(Path("/dev").iterdir()) == devices
