"""Who listens on a queue: the little of AMQP 0-9-1 that asks a broker.

Its frames, methods and arguments are those of the specification (sections 4.2 and 1.4 to
1.6 of its reference). One connection a question: it is asked rarely.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

PROTOCOL = b"AMQP\x00\x00\x09\x01"
_METHOD, _END = 1, 0xCE
_START, _START_OK, _TUNE, _TUNE_OK, _OPEN, _OPEN_OK = (
    (10, 10), (10, 11), (10, 30), (10, 31), (10, 40), (10, 41),
)  # fmt: skip
_CHANNEL_OPEN, _CHANNEL_OPEN_OK, _CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
_DECLARE, _DECLARE_OK = (50, 10), (50, 11)
_CLOSE, _CLOSE_OK = (10, 50), (10, 51)
_PASSIVE = 1
_NOT_FOUND = 404


@dataclass(frozen=True)
class Queue:
    """A queue: messages that wait in it, and programs that take from it."""

    messages: int
    consumers: int


def queue(port: int, user: str, password: str, name: str, timeout: float = 10.0) -> Queue | None:
    """The queue of that name on 127.0.0.1; None when there is none.

    Raises ConnectionError when the broker does not answer as it should, OSError when it does
    not at all.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(PROTOCOL)
        _expect(connection, _START)
        login = _long_string(f"\0{user}\0{password}".encode())
        _send(connection, 0, _START_OK, _table() + _short("PLAIN") + login + _short("en_US"))
        limits = _expect(connection, _TUNE)
        _send(connection, 0, _TUNE_OK, limits[:6] + b"\0\0")  # no heartbeats
        _send(connection, 0, _OPEN, _short("/") + _short("") + b"\0")
        _expect(connection, _OPEN_OK)
        _send(connection, 1, _CHANNEL_OPEN, _short(""))
        _expect(connection, _CHANNEL_OPEN_OK)
        flags = bytes([_PASSIVE])
        _send(connection, 1, _DECLARE, b"\0\0" + _short(name) + flags + _table())
        method, arguments = _receive(connection)
        # A connection that just ends would be a warning in the broker's log.
        _send(connection, 0, _CLOSE, b"\0\0" + _short("") + b"\0\0\0\0")
        _expect(connection, _CLOSE_OK)
        if method == _CHANNEL_CLOSE and struct.unpack(">H", arguments[:2])[0] == _NOT_FOUND:
            return None
        if method != _DECLARE_OK:
            raise ConnectionError(f"the broker answers with method {method}")
        return Queue(*struct.unpack(">II", arguments[1 + arguments[0] :]))


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _table() -> bytes:
    return struct.pack(">I", 0)


def _send(connection: socket.socket, channel: int, method: tuple[int, int], data: bytes) -> None:
    payload = struct.pack(">HH", *method) + data
    frame = struct.pack(">BHI", _METHOD, channel, len(payload)) + payload
    connection.sendall(frame + bytes([_END]))


def _receive(connection: socket.socket) -> tuple[tuple[int, int], bytes]:
    """The next method and its arguments."""
    while True:
        kind, _, size = struct.unpack(">BHI", _read(connection, 7))
        payload = _read(connection, size + 1)[:-1]
        if kind == _METHOD:
            class_id, method_id = struct.unpack(">HH", payload[:4])
            return (class_id, method_id), payload[4:]


def _expect(connection: socket.socket, wanted: tuple[int, int]) -> bytes:
    method, arguments = _receive(connection)
    if method != wanted:
        raise ConnectionError(f"the broker answers with method {method} instead of {wanted}")
    return arguments


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise ConnectionError("the broker ended the connection")
        data += more
    return data
