"""Memory of the host, and of the control group that the tool runs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Bytes that a new program can have, and free swap; `limit` is a control group's, if any."""

    available: int
    swap: int
    limit: int | None = None

    @property
    def usable(self) -> int:
        """What a build can count on."""
        total = self.available + self.swap
        return total if self.limit is None else min(total, self.limit)


def measure() -> Memory:
    """Memory, as /proc/meminfo and the control group (version 2) have it."""
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    return Memory(fields["MemAvailable"], fields["SwapFree"], group_limit())


def group_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control groups (version 2) above this process leave of their memory, in bytes."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    left = []
    group = root / own.strip("/")
    while group.is_relative_to(root):
        try:
            limit = (group / "memory.max").read_text().strip()
            if limit != "max":
                used = int((group / "memory.current").read_text())
                left.append(int(limit) - used + _reclaimable(group / "memory.stat"))
        except (OSError, ValueError):
            pass
        group = group.parent
    return max(min(left), 0) if left else None


def _reclaimable(stat: Path) -> int:
    # What the page cache holds counts as used, but is given up on demand.
    fields = dict(line.split() for line in stat.read_text().splitlines())
    return int(fields.get("inactive_file", 0))
