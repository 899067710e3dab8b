"""What all exports are made of: the pipeline, its jobs, and text that is safe to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.config.pipeline import OnMirrorFailure, Pipeline
from imagebuild.config.values import parse_duration
from imagebuild.errors import UsageError
from imagebuild.pipeline.cells import Cell, ImageCell, Job, MirrorCell

#: What a path in a job may consist of: nothing that a shell, YAML, an expression of an engine
#: or a unit file gives a meaning to.
_PATH = re.compile(r"[A-Za-z0-9_@+=,./-]+", re.ASCII)
_ID = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
#: What a command gets besides its limit: to install the tool, and to hand on what it made.
_MARGIN = 1800
#: Engines' own words, which stand for something else than what they say.
_EXPRESSIONS = ("${{", "{{", "{%", "{#")


@dataclass(frozen=True)
class JobDefinition:
    """A job: `name` is unique; `after` are jobs that must be over, however they ended; of
    `needs` each must have passed. `seconds`: when the engine ends it.
    """

    name: str
    job: Job
    cell: Cell
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    seconds: int | None = None

    @property
    def publishes(self) -> bool:
        """Whether anything goes up: that is behind the lock, and has the secrets."""
        return (
            self.job is Job.PUBLISH and isinstance(self.cell, ImageCell) and bool(self.cell.publish)
        )


@dataclass(frozen=True)
class Source:
    """What an export goes by. `file` is the pipeline's as jobs find it; `lock` keeps
    publishing jobs apart.
    """

    pipeline: Pipeline
    jobs: tuple[JobDefinition, ...]
    engine: str
    file: str

    @property
    def name(self) -> str:
        """The name of the job definitions: `imagebuild-nightly`."""
        return f"imagebuild-{self.pipeline.name}"

    @property
    def lock(self) -> str:
        """The name of what keeps publishing jobs apart."""
        return f"{self.name}-publish"

    @property
    def remake(self) -> str:
        """The command that makes the files anew."""
        return f"imagebuild pipeline export {self.engine} {self.file} --output DIR"

    def header(self, *more: str) -> str:
        """The first lines of each file: who made it, from what, and how to make it anew."""
        lines = [
            f"Made by `imagebuild pipeline export {self.engine}` from {self.file}: change that,",
            f"then `{self.remake}`;",
            "with --check it says whether this file is up to date, and changes nothing.",
            *(("", *more) if more else ()),
        ]
        return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def source(pipeline: Pipeline, cells: Sequence[Cell], engine: str, file: str) -> Source:
    """The jobs of a pipeline. Raises UsageError for a path or a command that cannot be carried."""
    _check_path(file)
    _check_install(pipeline.engines.install)
    if not cells:
        raise UsageError("the pipeline has no cell: there is nothing to export")
    for cell in cells:
        if not _ID.fullmatch(cell.id):
            raise UsageError(f"{cell.id!r} cannot be the name of a job")
    return Source(pipeline, tuple(_jobs(pipeline, cells)), engine, file)


def _jobs(pipeline: Pipeline, cells: Sequence[Cell]) -> list[JobDefinition]:
    limits = pipeline.timeouts
    mirrors = [c.id for c in cells if isinstance(c, MirrorCell)]
    found = [
        JobDefinition(c.id, Job.MIRROR, c, (), (), _seconds(pipeline, limits.mirror))
        for c in cells
        if isinstance(c, MirrorCell)
    ]
    for cell in cells:
        if not isinstance(cell, ImageCell):
            continue
        before = tuple(m for m in cell.after if m in mirrors)
        build, verify, publish = (f"{job.value}-{cell.id}" for job in list(Job)[1:])
        found += [
            JobDefinition(build, Job.BUILD, cell, before, (), _seconds(pipeline, limits.build)),
            JobDefinition(
                verify, Job.VERIFY, cell, (), (build,), _seconds(pipeline, limits.verify)
            ),
        ]
        # Where there is no cloud, gates are still to be passed.
        is_held = cell.publish and cell.gates.mirrors is OnMirrorFailure.HOLD
        seconds = _seconds(pipeline, limits.publish, len(cell.publish))
        needs = (build, verify, *(before if is_held else ()))
        name = publish if cell.publish else f"gates-{cell.id}"
        found.append(JobDefinition(name, Job.PUBLISH, cell, (), needs, seconds))
    return found


def _seconds(pipeline: Pipeline, limit: str | None, times: int = 1) -> int | None:
    """When a job is ended: later than the command ends itself, so that it can say why.

    A try that fails for a temporary reason fails early; so one limit is counted, and the waits.
    """
    if limit is None:
        return None
    wait = parse_duration(pipeline.retry.wait)
    waits: int = wait * (2 ** (pipeline.retry.attempts - 1) - 1)
    return parse_duration(limit) * times + waits + _MARGIN


def _check_path(file: str) -> None:
    parts = file.split("/")
    if not _PATH.fullmatch(file) or file.startswith("-") or ".." in parts:
        raise UsageError(
            "the path of the pipeline's file cannot be written into job definitions",
            where=file,
            detail="letters, digits and _ @ + = , . / - are allowed, no `..`",
            hint="--file PATH says where jobs find it, from the top of the repository",
        )


def _check_install(command: str) -> None:
    found = next((e for e in _EXPRESSIONS if e in command), None)
    if found:
        raise UsageError(
            f"engines.install has {found}, which engines replace before a shell sees it",
            detail=command,
            hint="put the value into a variable of the engine, and name that: $VARIABLE",
        )
