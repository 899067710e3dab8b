"""What the page shows, picked out of this night's report and the earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imagebuild.errors import ConfigError
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.changes import ImageChanges, changes
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import GOOD, CellReport, PhaseReport, RunReport, Status
from imagebuild.pipeline.page.words import WORST_FIRST, anchor, at

#: Nights that the trend shows, this one among them.
NIGHTS = 31


@dataclass(frozen=True)
class Night:
    """A cell in one night. `status` is None when it had no such cell.

    `size` in bytes, of the file that is published; `build` and `boot` in seconds, None when
    nothing was built or booted that night.
    """

    run: str
    started: float
    status: Status | None
    size: int | None = None
    build: float | None = None
    boot: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether its figures are those of an image that is in order."""
        return self.status in GOOD


@dataclass(frozen=True)
class CellView:
    """A cell with its past. `before` is the newest good image of an earlier night, `since`
    that night's run; `nights` are oldest first, this one the last.
    """

    report: CellReport
    nights: tuple[Night, ...]
    facts: ImageFacts | None = None
    before: ImageFacts | None = None
    since: str = ""
    since_started: float = 0.0
    changes: ImageChanges | None = None

    @property
    def id(self) -> str:
        """The cell's."""
        return self.report.id

    @property
    def status(self) -> Status:
        """The cell's."""
        return self.report.status

    @property
    def anchor(self) -> str:
        """Where links to it lead."""
        return anchor("cell", self.id)

    @property
    def since_date(self) -> str:
        """The date of the night that it is compared with; the time too when it is the same."""
        return at(self.since_started, self.tonight.started)

    @property
    def tonight(self) -> Night:
        """This night."""
        return self.nights[-1]

    @property
    def last_good(self) -> Night | None:
        """The newest earlier night that was good."""
        return next((n for n in reversed(self.nights[:-1]) if n.is_good), None)


@dataclass(frozen=True)
class Room:
    """How much is told of each image, so that the page stays small whatever their number.

    `packages`, `directories`, `phases`: rows of a table; `levels` of directories in a
    picture, `machines` of a boot; `has_dots`: whether a chart has a point for every night.
    """

    packages: int
    directories: int
    phases: int
    levels: int
    machines: int
    has_dots: bool

    @classmethod
    def of(cls, images: int) -> Room:
        """That of a page with so many images."""
        packages = min(max(2000 // max(images, 1), 25), 400)
        if images <= 12:
            return cls(packages, 24, 60, 3, 12, has_dots=True)
        return cls(packages, 12, 30, 2, 4, has_dots=False)


@dataclass(frozen=True)
class PageView:
    """All of it. `cells` stand worst first, as the file has them among equals."""

    report: RunReport
    earlier: tuple[RunReport, ...]
    cells: tuple[CellView, ...] = field(default=())

    @property
    def images(self) -> tuple[CellView, ...]:
        """The image cells."""
        return tuple(c for c in self.cells if c.report.kind != "mirror")

    @property
    def room(self) -> Room:
        """How much each image gets."""
        return Room.of(len(self.images))

    @property
    def mirrors(self) -> tuple[CellView, ...]:
        """The mirror lists."""
        return tuple(c for c in self.cells if c.report.kind == "mirror")


def view(report: RunReport, earlier: Sequence[RunReport]) -> PageView:
    """Make it. Reports of other pipelines, and later ones, are not looked at."""
    known = {r.run: r for r in earlier if r.pipeline == report.pipeline and r.run < report.run}
    past = tuple(known[run] for run in sorted(known))[1 - NIGHTS :]
    cells = sorted(
        (_cell(report, cell, past) for cell in report.cells),
        key=lambda c: WORST_FIRST.index(c.status),
    )
    return PageView(report, past, tuple(cells))


def size_of(facts: ImageFacts | None) -> int | None:
    """The size of the file that is published, as far as one can tell: the smallest."""
    return min(facts.files.values(), default=None) if facts else None


def boot_of(facts: ImageFacts | None) -> float | None:
    """When the first machine had booted to its end."""
    marks = next(iter(facts.boots.values()), ()) if facts else ()
    return marks[-1][1] if marks else None


def phase_of(cell: CellReport, phase: Phase) -> PhaseReport | None:
    """The first report of a phase."""
    return next((p for p in cell.phases if p.phase is phase), None)


def _cell(report: RunReport, cell: CellReport, past: Sequence[RunReport]) -> CellView:
    facts = _facts(cell)
    nights = tuple(_night(r, r.cell(cell.id)) for r in (*past, report))
    for run in reversed(past):
        other = run.cell(cell.id)
        before = _facts(other) if other and other.status in GOOD else None
        if before:
            found = changes(before, facts, run.run) if facts else None
            return CellView(cell, nights, facts, before, run.run, run.started, found)
    return CellView(cell, nights, facts)


def _facts(cell: CellReport | None) -> ImageFacts | None:
    """Facts that can be read; a page does not fail for a picture."""
    if cell is None or not cell.image:
        return None
    try:
        return ImageFacts.from_json(cell.image)
    except ConfigError:
        return None


def _night(run: RunReport, cell: CellReport | None) -> Night:
    if cell is None:
        return Night(run.run, run.started, None)
    facts = _facts(cell)
    build = phase_of(cell, Phase.BUILD)
    verified = phase_of(cell, Phase.VERIFY)
    return Night(
        run.run,
        run.started,
        cell.status,
        size=size_of(facts),
        build=build.seconds if build and build.status is Status.PASSED else None,
        boot=boot_of(facts) if verified and verified.status is Status.PASSED else None,
    )
