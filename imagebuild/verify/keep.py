"""A machine that was left running on purpose: how to get in, and how to end it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from imagebuild.verify.guest import Guest
from imagebuild.verify.place import PREFIX

RECORD = "kept.json"
_END_SECONDS = 10.0


@dataclass(frozen=True)
class Kept:
    """A kept machine. `ssh` is a whole command line, empty where there is no way; `shell` the
    socket of the root shell; `started` the kernel's own word for when the process began, so
    that another process of the same number is not taken for it.
    """

    pid: int
    started: str
    image: str
    name: str
    scratch: str
    logs: str
    shell: str
    ssh: str

    @property
    def is_running(self) -> bool:
        """Whether its process is still there."""
        return _started(self.pid) == self.started


def record(guest: Guest, name: str) -> Kept:
    """Write down how to get into a machine that stays (in its scratch, closed to others)."""
    machine = guest.machine
    kept = Kept(
        pid=machine.process.pid,
        started=_started(machine.process.pid),
        image=str(machine.spec.image),
        name=name,
        scratch=str(machine.scratch),
        logs=str(machine.logs),
        shell=str(machine.shell),
        ssh=shlex.join(guest.ssh_argv() or []),
    )
    (machine.scratch / RECORD).write_text(json.dumps(asdict(kept), indent=1) + "\n")
    return kept


def kept(root: Path) -> list[Kept]:
    """The machines below `root` (that of all scratch) that run."""
    found = []
    for path in sorted(root.glob(f"{PREFIX}*/{RECORD}")):
        try:
            machine = Kept(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # another user's, or half written
            continue
        if machine.is_running:
            found.append(machine)
    return found


def stop(machine: Kept) -> None:
    """End a kept machine and remove what it had on disk; its logs stay."""
    for number, patience in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, _END_SECONDS)):
        deadline = time.monotonic() + patience
        if machine.is_running:
            os.kill(machine.pid, number)
        while machine.is_running and time.monotonic() < deadline:
            time.sleep(0.1)
    scratch = Path(machine.scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.with_name(f"{scratch.name}.lock").unlink(missing_ok=True)


def _started(pid: int) -> str:
    """Field 22 of /proc/PID/stat, in clock ticks since the host's boot; empty: no process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
