"""Looks from outside at a build that runs: where it is, what it started, what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from imagebuild.host.run import run
from imagebuild.store.store import Store


def wait_for(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; AssertionError naming `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"waited {seconds} s: {what}"
        time.sleep(0.05)


def log_of(cache: Path, process: subprocess.Popen[str]) -> str:
    """The log of the build that runs now: the newest, which it opened itself."""
    assert process.poll() is None or process.returncode is not None
    logs = sorted((cache / "logs").glob("*.log"), key=lambda p: p.stat().st_mtime_ns)
    return logs[-1].read_text(errors="replace") if logs else ""


def has_reached(log: str, stage: str, hook: str = "") -> bool:
    """Whether a log says that a stage, and in it a hook (`PHASE/NAME`), has begun."""
    _, begun, rest = log.rpartition(f"=== stage {stage} ")
    if not begun or not hook:
        return bool(begun)
    phase, name = hook.split("/")
    return re.search(rf"Running \S+/{phase}\.d/{re.escape(name)}$", rest, re.MULTILINE) is not None


def family(pid: int) -> set[tuple[int, str]]:
    """A process and all its descendants: (pid, start time), which no later process shares."""
    children: dict[int, list[int]] = {}
    born = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        born[int(entry.name)] = fields[19]
    found, pending = set(), [pid]
    while pending:
        one = pending.pop()
        if one in born:
            found.add((one, born[one]))
        pending += children.get(one, [])
    return found


def living(processes: set[tuple[int, str]]) -> set[int]:
    """The pids of those that still run (zombies that nobody has waited for do not)."""
    alive = set()
    for pid, start in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[19] == start and fields[0] != "Z":
            alive.add(pid)
    return alive


def mounts_of(place: Path) -> list[str]:
    """Mounts below a place, in any mount namespace of the machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines = (entry / "mountinfo").read_text().splitlines()
            except OSError:
                continue
            found |= {line for line in lines if str(place) in line}
    return sorted(found)


def loops_of(place: Path) -> str:
    """Loop devices whose file is below a place."""
    lines = run(["losetup", "-a"]).stdout.decode().splitlines()
    return "\n".join(line for line in lines if str(place) in line)


def scratch_of(cache: Path) -> list[Path]:
    """Scratch directories in a cache, of whatever build."""
    scratch = cache / "scratch"
    return sorted(p for p in scratch.iterdir() if p.is_dir()) if scratch.is_dir() else []


def kept_of(store: Store) -> set[str]:
    """Names of all that is in a store beside its locks; what is on its way out has gone."""
    drafts = [p.name for p in store.drafts.iterdir()] if store.drafts.is_dir() else []
    assert drafts == [], str(drafts)
    return {p.name for p in store.root.iterdir()} - {"locks", "drafts"}


def devices() -> list[str]:
    """The host's /dev, which a build must leave as it was."""
    return sorted(os.listdir("/dev"))  # noqa: PTH208 - names are all that counts
