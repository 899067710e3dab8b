"""The lock files: which distribution files may be installed for a series and a Python.

A lock is a pip requirements file in imagebuild/locks, made by scripts/locks, with every
package pinned and the sha256 of every file of that version, so that one lock serves all
architectures. Its header is machine-readable: `# key: value` lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from imagebuild.agent.series import PYTHONS, Series, check_python
from imagebuild.data import locks_dir
from imagebuild.digest import of_bytes
from imagebuild.errors import ConfigError

AGENT = "trove"

_HEADER = re.compile(r"^# ([a-z0-9-]+): (.+)$")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)$")
_HASH = re.compile(r"^--hash=sha256:([0-9a-f]{64})$")


@dataclass(frozen=True)
class Pin:
    """One package of a lock: its normalized name, its version, and the sha256 of each file."""

    name: str
    version: str
    hashes: frozenset[str]


@dataclass(frozen=True)
class Lock:
    """A lock file as read. `sha256` is of the file's bytes."""

    name: str
    sha256: str
    header: Mapping[str, str]
    pins: tuple[Pin, ...]
    no_wheel: Mapping[str, tuple[str, ...]]

    def pin(self, name: str) -> Pin:
        """The pin of a package. Raises ConfigError when the lock has none."""
        wanted = canonicalize_name(name)
        for pin in self.pins:
            if pin.name == wanted:
                return pin
        raise ConfigError(f"the lock has no pin for {name}", where=self.name)

    def without(self, name: str) -> tuple[Pin, ...]:
        """The lock's pins less one package."""
        return tuple(p for p in self.pins if p.name != name)


def lock_name(series: Series, python: str) -> str:
    """File name of the lock of a series for a guest Python."""
    return f"{series.name}-py{python}.txt"


def build_lock_name(python: str) -> str:
    """File name of the lock of the tools that build and install wheels."""
    return f"build-py{python}.txt"


def agent_lock(series: Series, python: str, *, release: str = "") -> Lock:
    """The lock of a series for a guest Python; ConfigError when that Python cannot run it."""
    check_python(series, python, release=release)
    return read_lock(locks_dir() / lock_name(series, python))


def build_lock(python: str) -> Lock:
    """The lock of pip, setuptools, wheel and pbr: used at build time, never in the image."""
    if python not in PYTHONS:
        raise ConfigError(
            f"there is no lock of build tools for Python {python}",
            where="the release's Python",
            hint=f"lock files exist for Python {', '.join(PYTHONS)}",
        )
    return read_lock(locks_dir() / build_lock_name(python))


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises ConfigError for a line that is not a pin with sha256 hashes."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            "a lock file of the guest agent cannot be read", where=str(path), detail=str(exc)
        ) from exc
    return parse_lock(path.name, data)


def parse_lock(name: str, data: bytes) -> Lock:
    """`read_lock` on bytes that are at hand."""
    header: dict[str, str] = {}
    no_wheel: dict[str, tuple[str, ...]] = {}
    logical: list[str] = []
    for line in data.decode().replace("\\\n", " ").splitlines():
        if match := _HEADER.match(line):
            key, value = match.groups()
            if key == "no-wheel":
                package, *arches = value.split()
                no_wheel[package] = tuple(arches)
            else:
                header[key] = value
        elif line.strip() and not line.startswith("#"):
            logical.append(line)
    pins = tuple(_parse_pin(name, line) for line in logical)
    return Lock(name, of_bytes(data), header, pins, no_wheel)


def _parse_pin(name: str, line: str) -> Pin:
    words = line.split()
    pinned = _PIN.match(words[0])
    hashes = [m.group(1) for m in map(_HASH.match, words[1:]) if m]
    if pinned is None or not hashes or len(hashes) != len(words) - 1:
        raise ConfigError(
            "a lock file has a line that is not NAME==VERSION with sha256 hashes",
            where=name,
            detail=line[:200],
            hint="make the lock anew with scripts/locks",
        )
    return Pin(canonicalize_name(pinned.group(1)), pinned.group(2), frozenset(hashes))


def render_requirement(name: str, version: str, hashes: frozenset[str]) -> str:
    """One pin in the form that pip reads, hashes sorted."""
    lines = [f"{name}=={version}", *(f"    --hash=sha256:{h}" for h in sorted(hashes))]
    return " \\\n".join(lines) + "\n"
