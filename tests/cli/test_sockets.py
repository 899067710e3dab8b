"""A service that hangs up does not end the tool."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import signal, socket
from imagebuild.cli.sockets import connections
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as the command does
ours, theirs = socket.socketpair()
theirs.close()
with connections():
    try:
        ours.send(b"x")
    except BrokenPipeError:
        print("told", flush=True)
ours.send(b"x")
"""


def test_a_broken_connection_is_an_error_in_the_block_and_the_end_behind_it() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("told\n", -signal.SIGPIPE)
