"""What a guest has written to its serial console, without the codes that colour it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_c])|[\r\0]")

KERNEL = re.compile(r"Linux version \d")
SYSTEMD = re.compile(r"systemd\[1\]: |^Welcome to (?!GRUB).*!$", re.MULTILINE)
LOGIN = re.compile(r"login: ?$", re.MULTILINE)
#: cloud-init's last word; it names the datasource.
FINISHED = re.compile(r"Cloud-init v\. \S+ finished at ")
PANIC = re.compile(r"Kernel panic - not syncing")
INITRAMFS = re.compile(r"^\(initramfs\)", re.MULTILINE)
EMERGENCY = re.compile(
    r"You are in (?:emergency|rescue) mode|Reached target .*(?:emergency\.target|Emergency Mode)"
)

#: What says that something is wrong, in the words of firmware, GRUB, kernel, systemd, cloud-init.
_TROUBLE = re.compile(
    r"panic|BUG:|Oops|Call Trace|soft lockup|blocked for more than|segfault|ALERT!|"
    r"Failed to start|\[FAILED\]|\[DEPEND\]|Timed out waiting|emergency|Out of memory|"
    r"I/O error|EXT4-fs error|No bootable|not found|^error: |WARNING\]: |Traceback|"
    r"Gave up waiting|does not exist|Datasource DataSourceNone",
)


@dataclass
class Console:
    """The console's log, read as it grows. `grown`: when it last grew, in seconds since
    qemu's start; None: it is empty.
    """

    path: Path
    text: str = ""
    grown: float | None = None
    _at: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self, now: float) -> bool:
        """Read on; `now`: seconds since qemu's start. Whether there was something."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return False
        if not data:
            return False
        self._at += len(data)
        self.grown = now
        # A code may be cut in two: what may be the first half waits.
        data = self._rest + data
        escape = data.rfind(b"\x1b", -32)
        self._rest = data[escape:] if escape >= 0 and not _whole(data[escape:]) else b""
        data = data[: len(data) - len(self._rest)]
        self.text += _ESCAPE.sub("", data.decode(errors="replace"))
        return True

    def tail(self, lines: int = 40) -> list[str]:
        """The last lines that are not empty."""
        return [line.rstrip() for line in self.text.splitlines() if line.strip()][-lines:]

    def telling(self, lines: int = 12) -> list[str]:
        """The last lines that speak of trouble."""
        return [line.rstrip() for line in self.text.splitlines() if _TROUBLE.search(line)][-lines:]


def _whole(data: bytes) -> bool:
    return _ESCAPE.match(data.decode(errors="replace")) is not None
