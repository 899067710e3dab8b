"""OCI layout → registry: the engine copies from a directory or tar file that was carried here."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.errors import UsageError
from imagebuild.events import Emit
from imagebuild.mirror.carrying import Destination, items_of_entries
from imagebuild.mirror.checking import Checker, Progress, Walk
from imagebuild.mirror.copier import run_plan
from imagebuild.mirror.items import Item
from imagebuild.mirror.layoutfiles import Entry, LayoutFiles, entries_of, open_layout
from imagebuild.mirror.layoutsource import LayoutSource
from imagebuild.mirror.planning import MirrorPlan, make_plan
from imagebuild.mirror.result import Report

if TYPE_CHECKING:
    from imagebuild.registry.client import Client


@dataclass(frozen=True)
class Import:
    """What is to be brought into a registry."""

    client: Client
    source: LayoutSource
    items: tuple[Item, ...]

    def plan(self, *, count_bytes: bool = False) -> MirrorPlan:
        """What the registry lacks."""
        return make_plan(self.client, self.items, source=self.source, count_bytes=count_bytes)

    def verify(self, progress: Progress | None = None) -> tuple[Walk, ...]:
        """Read all that the images have, and compare it with its digests; no registry is asked."""
        with Checker(self.source, deep=True) as checker:
            return checker.check_all([i.source for i in self.items], progress)

    def run(self, plan: MirrorPlan, *, emit: Emit | None = None, jobs: int = 4) -> Report:
        """Push what the registry lacks. An image of which something is damaged or missing gets
        no tag, and does not stop the others. The report's sources are the names that the
        images had where they were exported. Raises RunInterrupted.
        """
        report = run_plan(self.client, plan, source=self.source, emit=emit, deep=True, jobs=jobs)
        # Where they came from, they have tags; that they were taken by digest is our affair.
        results = (dataclasses.replace(r, item=_by_tag(r.item)) for r in report.results)
        return dataclasses.replace(report, results=tuple(results))


def _by_tag(item: Item) -> Item:
    source = item.source
    return dataclasses.replace(
        item, source=dataclasses.replace(source, digest="") if source.tag else source
    )


@contextmanager
def opened(
    client: Client,
    path: Path,
    destination: Destination | None = None,
    *,
    name_as: str | None = None,
    only: Sequence[str] = (),
) -> Iterator[Import]:
    """The images of a layout, and where they go. Raises ConfigError and UsageError."""
    files = open_layout(path)
    try:
        entries = _choose(entries_of(files), only, files)
        items = items_of_entries(entries, destination, name_as, path.name)
        yield Import(client, LayoutSource(files), items)
    finally:
        files.close()


def registries_of(path: Path) -> tuple[str, ...]:
    """The registries that an export's images go to when nobody says another one."""
    files = open_layout(path)
    try:
        found = (e.annotations.get("imagebuild.mirror.registry", "") for e in entries_of(files))
        return tuple(dict.fromkeys(filter(None, found)))
    finally:
        files.close()


def _choose(entries: Sequence[Entry], only: Sequence[str], files: LayoutFiles) -> Sequence[Entry]:
    if not entries:
        raise UsageError("there is no image in the export", where=str(files.path))
    for pattern in only:
        if not any(_matches(e, [pattern]) for e in entries):
            raise UsageError(
                f"nothing in the export is called {pattern!r}",
                where=f"--only {pattern}",
                detail="\n".join(e.name or e.descriptor.digest for e in entries[:20]),
            )
    return [e for e in entries if not only or _matches(e, only)]


def _matches(entry: Entry, patterns: Sequence[str]) -> bool:
    name = entry.name or entry.descriptor.digest
    repository = name.rpartition(":")[0]
    names = {name, repository, name.rpartition("/")[2], repository.rpartition("/")[2]}
    return any(fnmatch.fnmatchcase(n, p) for n in names for p in patterns)
