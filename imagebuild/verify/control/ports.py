"""Free ports on loopback, kept free until the program that is to listen there does.

A socket that is bound but does not listen keeps the kernel from giving its port to
anybody who asks for any, and does not hinder a program that binds it by its number with
SO_REUSEADDR, as servers do (socket(7), ip(7)).
"""

from __future__ import annotations

import socket
from types import TracebackType


class Ports:
    """Reserved ports; closing gives them up."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        """A port of 127.0.0.1 that nobody else gets."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        # After the bind: before it, the kernel might give us a port that somebody reserved.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port

    def close(self) -> None:
        """Give the reservations up."""
        while self._held:
            self._held.pop().close()

    def __enter__(self) -> Ports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
