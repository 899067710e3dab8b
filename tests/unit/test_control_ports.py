"""Ports that are held for who will listen, and nobody else."""

from __future__ import annotations

import socket

import pytest

from imagebuild.verify.control.ports import Ports


def listener(port: int, *, reuse: bool) -> socket.socket:
    made = socket.socket()
    if reuse:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_a_server_gets_the_port_that_was_held_for_it() -> None:
    with Ports() as ports:
        port = ports.take()
        with listener(port, reuse=True), socket.create_connection(("127.0.0.1", port), 5):
            pass


def test_nobody_else_gets_it() -> None:
    with Ports() as ports:
        held = [ports.take() for _ in range(200)]
        assert len(set(held)) == 200
        with pytest.raises(OSError, match="in use"):
            listener(held[0], reuse=False)
    with listener(held[0], reuse=False):
        pass
