"""Pipeline → cells: what is done, independent of each other but for `after`."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.config.load import LoadedProfile, Override, load_profile, parse_set
from imagebuild.config.pipeline import Gates, MirrorStep, Pipeline, Publish, Verify
from imagebuild.config.problems import nearest_hint
from imagebuild.config.words import Arch, Series
from imagebuild.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from imagebuild.config.profile import Profile


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
class MirrorCell:
    """A mirror list that is synced. `id` is `mirror-NAME`."""

    id: str
    step: MirrorStep
    after: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is done."""
        return (Phase.MIRROR,)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What an engine runs for it."""
        return (Job.MIRROR,)


@dataclass(frozen=True)
class ImageCell:
    """An image. `id` is `NAME[-SERIES]-ARCH`, of the letters that names of jobs may have.

    `profile` is a name or a path, `set` what `--set` says (series and architecture not
    among it: they are options of their own; None: the profile's). `after` are the ids of
    the mirror cells that come before. `search` has directories with profiles, as
    --profiles-path. `environment` is what IMAGEBUILD_* say of every profile: a child reads
    that by itself.
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
    name: str = ""
    search: tuple[Path, ...] = ()
    environment: tuple[Override, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is done: what its clouds ask for, of publishing."""
        wanted = {
            Phase.UPLOAD: bool(self.publish),
            Phase.REGISTER: any(p.versions for p in self.publish),
            Phase.PROMOTE: any(p.versions for p in self.publish),
            Phase.RETIRE: any(p.retire for p in self.publish),
        }
        return (
            Phase.BUILD,
            Phase.VERIFY,
            *(phase for phase in JOBS[Job.PUBLISH] if wanted.get(phase, True)),
        )

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What an engine runs for it, each after the one before. The gates are in the last one."""
        has_last = bool(self.publish) or self.gates != Gates()
        return (Job.BUILD, Job.VERIFY, *([Job.PUBLISH] if has_last else []))

    @property
    def settings(self) -> tuple[str, ...]:
        """KEY=VALUE of each --set: VALUE is JSON, which YAML reads alike."""
        return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.set)


Cell = MirrorCell | ImageCell


def expand(pipeline: Pipeline, environment: Sequence[Override] = ()) -> tuple[Cell, ...]:
    """All cells, mirrors first. Their profiles are read.

    Raises ConfigError when two would have one id, or a profile is not valid.
    """
    cells: list[Cell] = list(mirror_cells(pipeline))
    for _, _, image in image_cells(pipeline, environment):
        cells.append(identified(image, profile_of(image).profile))
    for number, cell in enumerate(cells):
        if cell.id in {c.id for c in cells[:number]}:
            raise ConfigError(f"two cells are called {cell.id}", hint=_NAME_HINT)
    return tuple(cells)


#: What helps against two cells of one id.
_NAME_HINT = "give one of the rows a name of its own: name: …"


def mirror_cells(pipeline: Pipeline) -> tuple[MirrorCell, ...]:
    """A cell for each mirror list."""
    return tuple(MirrorCell(f"mirror-{mirror_name(step)}", step) for step in pipeline.mirrors)


def mirror_name(step: MirrorStep) -> str:
    """What a mirror list is called in ids: its own name, or its file's."""
    return step.name or _letters(Path(step.list).name.removesuffix(".yaml").removesuffix(".yml"))


def image_cells(
    pipeline: Pipeline, environment: Sequence[Override] = ()
) -> Iterator[tuple[int, int, ImageCell]]:
    """Each combination of a row: the row's number, the profile's in it, and a cell that has no
    id yet. What it does not say of the architecture is the profile's to say (`identified`).
    """
    after = tuple(cell.id for cell in mirror_cells(pipeline))
    for number, row in enumerate(pipeline.images):
        for index, profile in enumerate(row.profiles):
            for series in row.series or (None,):
                for arch in row.arches or (None,):
                    yield (
                        number,
                        index,
                        ImageCell(
                            id="",
                            profile=profile,
                            series=series,
                            arch=arch or Arch.AMD64,
                            verify=row.verify or pipeline.verify,
                            publish=pipeline.publish if row.publish is None else row.publish,
                            gates=row.gates or pipeline.gates,
                            is_arch_given=arch is not None,
                            set=tuple(row.set.items()),
                            after=after,
                            name=row.name or "",
                            search=pipeline.profiles_path,
                            environment=tuple(environment),
                        ),
                    )


def identified(cell: ImageCell, profile: Profile) -> ImageCell:
    """The cell with the id and the architecture that its profile leads to.

    Job names of GitHub have letters, digits, `-` and `_`, a letter first (workflow syntax,
    `jobs.<job_id>`); GitLab and Zuul take those, too. An architecture at the end keeps it
    apart from GitLab's own words (`image`, `stages`, …).
    """
    parts = (cell.name or profile.name, cell.series or "", profile.arch)
    found = _letters("-".join(str(part) for part in parts if part))
    return dataclasses.replace(
        cell, arch=profile.arch, id=found if found[0].isalpha() else f"image-{found}"
    )


def profile_of(cell: ImageCell) -> LoadedProfile:
    """The profile with all that the cell, and IMAGEBUILD_*, say: what a child's `build` takes.

    Raises ConfigError as `load_profile`.
    """
    given = []
    if cell.is_arch_given:
        given.append(Override("arch", str(cell.arch), "flag --arch"))
    if cell.series:
        given.append(Override("agent.series", str(cell.series), "flag --trove-series"))
    own = [parse_set(text) for text in cell.settings]
    # As click has it: what the command line says stands in place of the variable.
    below = [o for o in cell.environment if not (own and o.origin.startswith(SET_VARIABLE))]
    return load_profile(cell.profile, (*below, *given, *own), cell.search)


#: How the origin of an override begins that is from the variable of --set.
SET_VARIABLE = "environment IMAGEBUILD_SET"


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "list"


def choose(cells: Sequence[Cell], ids: Sequence[str]) -> tuple[Cell, ...]:
    """Those of these ids; all when none is named. Raises UsageError with the nearest id."""
    known = [cell.id for cell in cells]
    for wanted in ids:
        if wanted not in known:
            raise UsageError(
                f"there is no cell {wanted}",
                detail="there are: " + ", ".join(known),
                hint=nearest_hint(wanted, known),
            )
    return tuple(cell for cell in cells if not ids or cell.id in ids)


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
