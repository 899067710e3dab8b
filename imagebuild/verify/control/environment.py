"""A venv with Trove of the series that an image was built for, kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ControlVersion:
    """A release of Trove and its series."""

    version: str
    series: str


@dataclass(frozen=True)
class Environment:
    """A venv that is ready. `path` is its directory; `template` a prepared database's place.

    `notes` says what is not as asked (another series, another Python's lock).
    """

    path: Path
    control: ControlVersion
    python: str
    notes: tuple[str, ...] = ()

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.path / "venv/bin"


def prepare(
    series: str,
    cache: Path,
    *,
    env: Mapping[str, str],
    offline: bool = False,
    tell: Callable[[str], None] = lambda _text: None,
) -> Environment:
    """The environment of a series, made when the cache does not have it.

    `cache` is the tool's cache directory, `env` the environment that leads to the package
    index (`host.run.network_env`). `tell` is called with a sentence when it will take a
    while. Raises PreflightError when this host cannot have it, and as `FileCache` does.
    """
    raise NotImplementedError


def skew(agent_version: str, control: ControlVersion) -> str | None:
    """A sentence when the agent and the control plane are of different series; None if not."""
    raise NotImplementedError
