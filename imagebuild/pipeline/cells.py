"""Pipeline → cells: what is done, independent of each other but for `after`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.config.pipeline import Gates, MirrorStep, Pipeline, Publish, Verify
from imagebuild.config.words import Arch, Series


class Phase(str, enum.Enum):
    """What is done for a cell, in this order. Mirror cells have the first alone."""

    MIRROR = "mirror"
    BUILD = "build"
    VERIFY = "verify"
    GATES = "gates"  # what a policy says of the artifact; nothing is changed
    UPLOAD = "upload"
    REGISTER = "register"  # datastore versions that are not there yet
    PROMOTE = "promote"
    RETIRE = "retire"


class Job(str, enum.Enum):
    """What an engine runs as one job: phases that want the same kind of machine."""

    MIRROR = "mirror"
    BUILD = "build"
    VERIFY = "verify"
    PUBLISH = "publish"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Its phases, in order."""
        return JOBS[self]


JOBS: Mapping[Job, tuple[Phase, ...]] = {
    Job.MIRROR: (Phase.MIRROR,),
    Job.BUILD: (Phase.BUILD,),
    Job.VERIFY: (Phase.VERIFY,),
    Job.PUBLISH: (Phase.GATES, Phase.UPLOAD, Phase.REGISTER, Phase.PROMOTE, Phase.RETIRE),
}


@dataclass(frozen=True)
class Needs:
    """What a machine must have for a job: `memory` and `disk` in bytes."""

    cpus: int
    memory: int
    disk: int
    kvm: bool = False
    root: bool = False
    arch: Arch = Arch.AMD64


@dataclass(frozen=True)
class MirrorCell:
    """A mirror list that is synced. `id` is `mirror-NAME`."""

    id: str
    step: MirrorStep
    after: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is done."""
        return (Phase.MIRROR,)


@dataclass(frozen=True)
class ImageCell:
    """An image. `id` is `NAME[-SERIES]-ARCH`, of the letters that names of jobs may have.

    `profile` is a name or a path, `set` what `--set` says (series and architecture not
    among it: they are options of their own; None: the profile's). `after` are the ids of
    the mirror cells that come before.
    """

    id: str
    profile: str
    series: Series | None
    arch: Arch
    verify: Verify
    publish: tuple[Publish, ...]
    gates: Gates
    is_arch_given: bool = False
    set: tuple[tuple[str, Any], ...] = ()
    after: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is done; nothing is published where there is no cloud."""
        return (Phase.BUILD, Phase.VERIFY, *JOBS[Job.PUBLISH][: None if self.publish else 1])


Cell = MirrorCell | ImageCell


def expand(pipeline: Pipeline) -> tuple[Cell, ...]:
    """All cells, mirrors first. Raises ConfigError when two would have one id."""
    raise NotImplementedError


def choose(cells: Sequence[Cell], ids: Sequence[str]) -> tuple[Cell, ...]:
    """Those of these ids; all when none is named. Raises UsageError with the nearest id."""
    raise NotImplementedError


def needs(cell: Cell, job: Job, search: Sequence[Path]) -> Needs:
    """What the job wants of its machine (README, notes: measured figures).

    Raises ConfigError for a profile that is not valid.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Places:
    """Where a run works; the options that every verb gets."""

    images: Path
    cache: Path
    reports: Path
    store: Path | None = None
    store_size: str | None = None
    store_remote: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
