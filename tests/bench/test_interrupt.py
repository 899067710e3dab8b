"""How long an interrupted build takes to end."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.images.builds import Built
from tests.images.test_interrupted import start_slow_build, wait_until

pytestmark = [pytest.mark.image, pytest.mark.full("trust")]

#: Seconds from the signal to the end of the process.
LIMIT = 5.0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_ends_in_time(
    bookworm: Built, tmp_path: Path, signum: signal.Signals
) -> None:
    process = start_slow_build(bookworm, tmp_path)
    wait_until(True, 240)
    started = time.monotonic()
    process.send_signal(signum)
    process.communicate()
    took = time.monotonic() - started
    print(f"{signum.name}: ended after {took:.1f} s")
    assert took < LIMIT
