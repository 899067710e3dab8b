"""What reports say of an image, taken from its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageFacts:
    """An artifact, as far as reports go. Sizes in bytes, times in seconds.

    `files`: format → size of the file; `virtual_size` of the disk; `rootfs`: of all files in
    it. `packages`, `python_packages`: name → version. `stages`: (stage, seconds, reused) in
    order, `hooks`: the slowest [stage, phase, name, seconds]. `boots`: machine → its
    milestones [(name, seconds)]. `checks`: of verify.json (name, level, outcome, what, hint,
    seconds). `directories`: (path, bytes, depth), as sizes.tree has them.
    """

    name: str
    build_id: str
    created: float
    files: Mapping[str, int] = field(default_factory=dict)
    virtual_size: int | None = None
    rootfs: int | None = None
    agent: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    python_packages: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[tuple[str, float, bool], ...] = ()
    hooks: tuple[tuple[str, str, str, float], ...] = ()
    verdict: str | None = None
    proven: str | None = None
    boots: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    checks: tuple[Mapping[str, Any], ...] = ()
    directories: tuple[tuple[str, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Shape used in report.json."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageFacts:
        """The inverse of `to_json`. Raises ConfigError."""
        raise NotImplementedError


def facts_of(artifact: Path) -> ImageFacts:
    """Read an artifact; what an older one lacks is left empty. Raises ConfigError."""
    raise NotImplementedError
