"""What a check is, what it is asked about, and what it finds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.errors import ImagebuildError

if TYPE_CHECKING:
    from imagebuild.config.profile import Profile
    from imagebuild.doctor.host import Host


class Need(str, enum.Enum):
    """What a host may be wanted for."""

    BUILD = "build"
    BOOT = "boot"
    VERIFY = "verify"
    PUBLISH = "publish"
    MIRROR = "mirror"

    def __str__(self) -> str:
        return self.value


class Level(enum.IntEnum):
    """How bad a finding is; the higher, the worse."""

    SKIPPED = 0
    OK = 1
    WARNING = 2
    MISSING = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    `what` is one line, `where` a path, URL or variable, `detail` the numbers or the
    program's own words. What mends it: `install`, packages by their Debian names (see
    packages.py); `run`, commands; `advice`, words where no command does it. No field ever
    holds a secret.
    """

    level: Level
    what: str
    where: str = ""
    detail: str = ""
    prevents: str = ""
    install: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    advice: str = ""


def ok(what: str, where: str = "") -> Finding:
    """All is well."""
    return Finding(Level.OK, what, where)


def skipped(what: str) -> Finding:
    """It was not looked at; `what` says why."""
    return Finding(Level.SKIPPED, what)


def from_error(error: ImagebuildError, prevents: str, level: Level = Level.MISSING) -> Finding:
    """The finding for what another part of the tool refuses."""
    return Finding(level, error.what, error.where, error.detail, prevents, advice=error.hint)


@dataclass(frozen=True)
class Place:
    """A directory that will be written to, and the option that chooses it."""

    option: str
    directory: Path
    #: Bytes that go there, when it is not on the cache's filesystem; and those of copies
    #: (-o FILE), which come on top wherever it is.
    size: int = 0
    extra: int = 0


@dataclass(frozen=True)
class Subject:
    """What is asked for. Without a `profile`, what depends on one is not looked at."""

    needs: frozenset[Need]
    cache: Path
    profile: Profile | None = None
    places: tuple[Place, ...] = ()
    cloud: str | None = None


@dataclass(frozen=True)
class Check:
    """One question to the host.

    `id` is stable: `--json` names it. A check with `network` talks to other machines; a
    build leaves those out, because resolving asks the same servers a moment later.
    """

    id: str
    group: str
    examines: str
    needed_for: frozenset[Need]
    examine: Callable[[Host, Subject], Iterable[Finding]]
    network: bool = False


@dataclass(frozen=True)
class Result:
    """A check and what it found: one finding at least."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of its findings."""
        return max(f.level for f in self.findings)


@dataclass(frozen=True)
class Report:
    """Everything that was looked at, in order."""

    results: tuple[Result, ...]
    needs: frozenset[Need] = field(default_factory=frozenset)

    def findings(self, level: Level) -> list[Finding]:
        """The findings of one level, in order."""
        return [f for r in self.results for f in r.findings if f.level is level]

    @property
    def prevented(self) -> list[Need]:
        """Those of the needs that cannot be met."""
        bad = [r.check.needed_for for r in self.results if r.level is Level.MISSING]
        return sorted((n for n in self.needs if any(n in b for b in bad)), key=list(Need).index)
