"""An interactive root shell in a verified guest, over its serial port: no network, no login."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

#: Ctrl-], as telnet(1) and virsh console have it.
ESCAPE = b"\x1d"


def attach(path: Path) -> None:
    """Join the terminal and the root shell behind the socket `path`, until Ctrl-] or `exit`.

    The guest's own script(1) makes a terminal of the port, so that editors work.
    """
    size = shutil.get_terminal_size()
    end = secrets.token_hex(8).encode()
    with socket.socket(socket.AF_UNIX) as guest, _raw(sys.stdin.fileno()):
        guest.connect(str(path))
        term = os.environ.get("TERM", "vt100")
        start = f"TERM={term} script -qc 'stty rows {size.lines} cols {size.columns}; bash -l'"
        # The halves of the mark stand apart here: what is echoed must not look like it.
        guest.sendall(f"{start} /dev/null; echo ".encode() + end[:8] + b"''" + end[8:] + b"\n")
        tail = b""
        while True:
            ready, _, _ = select.select([sys.stdin, guest], [], [])
            if guest in ready:
                data = guest.recv(1 << 16)
                if not data:
                    return
                os.write(sys.stdout.fileno(), data.replace(end, b""))
                tail = (tail + data)[-64:]
                if end in tail:
                    return
            if sys.stdin in ready:
                data = os.read(sys.stdin.fileno(), 1 << 12)
                if not data or ESCAPE in data:
                    return
                guest.sendall(data)


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
