"""The lock file beside a list: what each tag was, and which tags of the target are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Locked:
    """One tag: `digest` of the source, `size` in bytes of all its blobs, `when` (UTC, ISO)."""

    digest: str
    size: int = 0
    when: str = ""


@dataclass(frozen=True)
class Lock:
    """`sources`: full source name with tag -> what it was. `tags`: full target name with tag ->
    digest that we put there: what `prune` may remove.
    """

    sources: dict[str, Locked] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def lock_path(list_path: Path) -> Path:
    """MIRROR.lock.yaml beside MIRROR.yaml."""
    return list_path.with_name(f"{list_path.stem}.lock.yaml")


def read_lock(path: Path) -> Lock:
    """An empty lock when there is no file. Raises ConfigError for a damaged one."""
    raise NotImplementedError


def write_lock(path: Path, lock: Lock) -> None:
    """Atomically."""
    raise NotImplementedError
