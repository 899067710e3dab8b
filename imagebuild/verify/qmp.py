"""Ask qemu about a machine over QMP (docs/interop/qmp-spec in qemu's sources)."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.errors import PreflightError

#: The text screen of a PC: 25 lines of 80 characters, each with a byte of colours.
_SCREEN, _COLUMNS, _LINES = 0xB8000, 80, 25


@contextmanager
def connect(path: Path, timeout: float = 10) -> Iterator[socket.socket]:
    """A connection to a socket, however long its path is. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield connection
    finally:
        os.close(folder)


@dataclass(frozen=True)
class Processor:
    """What a virtual processor does just now."""

    is_halted: bool
    counter: str


class Qmp:
    """Questions to one machine; each is a connection of its own. They raise OSError when qemu
    is gone or does not answer, PreflightError when it refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - QMP's own values
        """The answer to one command."""
        with connect(self.path) as connection, connection.makefile("rwb") as stream:
            json.loads(_line(stream.readline()))
            for name, values in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": values}).encode() + b"\n")
                stream.flush()
                answer: dict[str, Any] = {"event": ""}
                while "event" in answer:
                    answer = json.loads(_line(stream.readline()))
                if "error" in answer:
                    raise PreflightError(
                        f"qemu refuses {name}", detail=str(answer["error"].get("desc"))
                    )
            return answer["return"]

    def monitor(self, line: str) -> str:
        """What qemu's monitor for people prints."""
        return str(self.ask("human-monitor-command", **{"command-line": line}))

    def status(self) -> str:
        """`running`, `paused`, `shutdown`, `internal-error`, ..."""
        return str(self.ask("query-status")["status"])

    def processors(self) -> list[Processor]:
        """Whether each is halted, and its program counter (x86; elsewhere never halted)."""
        found = []
        for part in self.monitor("info registers -a").split("CPU#")[1:]:
            counter = re.search(r"\b(?:RIP|EIP|PC)=([0-9a-f]+)", part)
            found.append(Processor("HLT=1" in part, counter[1] if counter else ""))
        return found

    def ports(self) -> dict[int, int]:
        """Guest's port -> port on the host's loopback, of what leads into the guest."""
        lines = re.findall(
            r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", self.monitor("info usernet")
        )
        return {int(guest): int(host) for host, guest in lines}

    def screen(self) -> list[str]:
        """The text on a PC's screen: where a BIOS and GRUB say what they miss."""
        wanted = 2 * _COLUMNS * _LINES
        dump = self.monitor(f"xp /{wanted}xb {_SCREEN:#x}")
        cells = bytes(int(x, 16) for x in re.findall(r"\b0x([0-9a-f]{2})\b", dump))[::2]
        text = "".join(chr(c) if 32 <= c < 127 else " " for c in cells)
        rows = (text[at : at + _COLUMNS].rstrip() for at in range(0, len(text), _COLUMNS))
        return [row for row in rows if row]


def _line(line: bytes) -> bytes:
    if not line:
        raise ConnectionResetError("qemu closed the connection")
    return line
