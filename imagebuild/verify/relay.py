"""One TCP connection between standard input and output and a port on loopback.

qemu starts it (as a script, with any Python) for each connection of a guest that may
reach nothing else: see `forwards` of `boot.boot`.
"""

import os
import select
import socket
import sys


def relay(port: int) -> None:
    """Carry bytes both ways until the server or the guest ends the connection."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        answers = server.fileno()
        while True:
            ready, _, _ = select.select([0, answers], [], [])
            if answers in ready:
                data = server.recv(1 << 16)
                if not data:
                    return
                _write(data)
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                server.sendall(data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    # qemu sends standard error to the guest, too: to whom nobody answers is just hung up on.
    try:
        relay(int(sys.argv[1]))
    except OSError:
        sys.exit(1)
