"""Threads of a mirror's run, and signals."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from imagebuild.errors import Interrupted
from imagebuild.mirror.workers import Workers


def test_a_signal_while_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run ends with is the signal, and not an error of the threads' end."""

    def interrupted(_thread: threading.Thread) -> None:
        raise Interrupted(signal.SIGINT)

    stop = threading.Event()
    workers = Workers(2, stop)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupted):
            workers.put(lambda: None)
    stop.set()
    workers.join(time.monotonic() + 1)
