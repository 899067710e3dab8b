"""What became of a run: what the engine makes, `collect` merges, and the reports show.

`report.json` is a RunReport. All times are seconds since 1970 (`started`) or seconds of
duration (`seconds`); sizes are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import ConfigError, ExitCode
from imagebuild.pipeline.cells import Phase

SCHEMA_VERSION = 1


class Status(str, enum.Enum):
    """How a phase, and a cell, ended."""

    PASSED = "passed"  # something was done, and is good
    UNCHANGED = "unchanged"  # nothing had to be done
    SKIPPED = "skipped"  # not asked for, or known to be published (--skip-unchanged)
    HELD = "held"  # not tried, since something before it failed; `why` says what
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: Ends after which the next phase is tried.
GOOD = (Status.PASSED, Status.UNCHANGED, Status.SKIPPED)


@dataclass(frozen=True)
class Attempt:
    """One try of a command."""

    started: float
    seconds: float
    exit_code: int


@dataclass(frozen=True)
class PhaseReport:
    """What became of one phase of a cell; a phase may be several commands (one a cloud).

    `target` tells those apart: a cloud, a datastore version. `command` is what to type to do
    the same by hand. `log` is the file with its output, relative to the report's directory.
    `error` is ImagebuildError.to_json's form; `why` one sentence for SKIPPED and HELD;
    `result` is what the verb's --json has to say, shortened to what reports use.
    """

    phase: Phase
    status: Status
    target: str = ""
    started: float = 0.0
    seconds: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    command: tuple[str, ...] = ()
    log: str = ""
    error: Mapping[str, Any] | None = None
    why: str = ""
    warnings: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """Of the last try; that of its error where none was made."""
        if self.status in GOOD:
            return ExitCode.OK
        if self.error:
            return _exit_code(self.error.get("exit_code", ExitCode.FAILED))
        return _exit_code(self.attempts[-1].exit_code) if self.attempts else ExitCode.FAILED

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "phase": self.phase.value,
            "status": self.status.value,
            "target": self.target,
            "started": round(self.started, 3),
            "seconds": round(self.seconds, 3),
            "attempts": [
                {
                    "started": round(a.started, 3),
                    "seconds": round(a.seconds, 3),
                    "exit_code": a.exit_code,
                }
                for a in self.attempts
            ],
            "command": list(self.command),
            "log": self.log,
            "error": dict(self.error) if self.error else None,
            "why": self.why,
            "warnings": list(self.warnings),
            "result": dict(self.result),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhaseReport:
        """The inverse of `to_json`. Raises ConfigError."""
        with _reading("a phase"):
            return cls(
                phase=Phase(data["phase"]),
                status=Status(data["status"]),
                target=str(data["target"]),
                started=float(data["started"]),
                seconds=float(data["seconds"]),
                attempts=tuple(
                    Attempt(float(a["started"]), float(a["seconds"]), int(a["exit_code"]))
                    for a in data["attempts"]
                ),
                command=tuple(map(str, data["command"])),
                log=str(data["log"]),
                error=dict(data["error"]) if data["error"] else None,
                why=str(data["why"]),
                warnings=tuple(map(str, data["warnings"])),
                result=dict(data["result"]),
            )


@dataclass(frozen=True)
class CellReport:
    """What became of a cell. `kind` is mirror or image; `image` the facts of its artifact
    (ImageFacts.to_json; None for a mirror cell and where there is no artifact).
    """

    id: str
    kind: str
    phases: tuple[PhaseReport, ...]
    profile: str = ""
    series: str = ""
    arch: str = ""
    build_id: str = ""
    artifact: str = ""
    image: Mapping[str, Any] | None = None

    @property
    def status(self) -> Status:
        """The worst of its phases'; SKIPPED when all are, or there are none."""
        return max((p.status for p in self.phases), key=_ORDER.index, default=Status.SKIPPED)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status.value,
            "profile": self.profile,
            "series": self.series,
            "arch": self.arch,
            "build_id": self.build_id,
            "artifact": self.artifact,
            "phases": [p.to_json() for p in self.phases],
            "image": dict(self.image) if self.image else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellReport:
        """The inverse of `to_json`. Raises ConfigError."""
        with _reading("a cell"):
            return cls(
                id=str(data["id"]),
                kind=str(data["kind"]),
                phases=tuple(PhaseReport.from_json(p) for p in data["phases"]),
                profile=str(data["profile"]),
                series=str(data["series"]),
                arch=str(data["arch"]),
                build_id=str(data["build_id"]),
                artifact=str(data["artifact"]),
                image=dict(data["image"]) if data["image"] else None,
            )


@dataclass(frozen=True)
class RunReport:
    """One night. `run` is its name, `20261122T233600Z`; `host` the machine's name.

    `complete` is false while the run goes on, and stays so when it was killed. `parts`: the
    labels of the reports that it was merged from; none: it is one run's own.
    """

    pipeline: str
    run: str
    started: float
    seconds: float
    cells: tuple[CellReport, ...]
    tool: str = ""
    host: str = ""
    complete: bool = True
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tells it from the reports of other machines."""
        return f"{self.run} {self.host}".rstrip()

    @property
    def exit_code(self) -> ExitCode:
        """0 when every cell is good; the code that all failed cells share; 1 when they differ.

        HELD cells count as what held them; an interrupted run has the signal's code.
        """
        phases = [p for c in self.cells for p in c.phases]
        stopped = [p.exit_code for p in phases if p.status is Status.INTERRUPTED]
        if stopped:
            return stopped[0]
        failed = [p.exit_code for p in phases if p.status is Status.FAILED]
        if failed:
            return failed[0] if len(set(failed)) == 1 else ExitCode.FAILED
        # What held it is in the report of another machine, or the run was killed.
        is_whole = self.complete and all(p.status is not Status.HELD for p in phases)
        return ExitCode.OK if is_whole else ExitCode.FAILED

    def cell(self, cell_id: str) -> CellReport | None:
        """The cell of that id."""
        return next((c for c in self.cells if c.id == cell_id), None)

    def to_json(self) -> dict[str, Any]:
        """The document report.json: the fields, `schema_version`, and totals by status."""
        return {
            "schema_version": SCHEMA_VERSION,
            "pipeline": self.pipeline,
            "run": self.run,
            "started": round(self.started, 3),
            "seconds": round(self.seconds, 3),
            "complete": self.complete,
            "exit_code": int(self.exit_code),
            "tool": self.tool,
            "host": self.host,
            "totals": {s.value: sum(c.status is s for c in self.cells) for s in Status},
            "notes": list(self.notes),
            "parts": list(self.parts),
            "cells": [c.to_json() for c in self.cells],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunReport:
        """The inverse of `to_json`. Raises ConfigError for another document or version."""
        with _reading("a report"):
            if data["schema_version"] != SCHEMA_VERSION:
                raise ConfigError(
                    f"the report's schema_version is {data['schema_version']!r}",
                    detail=f"this version of imagebuild reads {SCHEMA_VERSION}",
                    hint="use the version that wrote it",
                )
            return cls(
                pipeline=str(data["pipeline"]),
                run=str(data["run"]),
                started=float(data["started"]),
                seconds=float(data["seconds"]),
                cells=tuple(CellReport.from_json(c) for c in data["cells"]),
                tool=str(data["tool"]),
                host=str(data["host"]),
                complete=bool(data["complete"]),
                notes=tuple(map(str, data["notes"])),
                parts=tuple(map(str, data["parts"])),
            )


#: From the best to the worst.
_ORDER = (
    Status.SKIPPED,
    Status.UNCHANGED,
    Status.PASSED,
    Status.HELD,
    Status.INTERRUPTED,
    Status.FAILED,
)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what a wrong document leads to into one error."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(
            f"this is not {what} as `pipeline run` writes it", detail=f"{type(exc).__name__}: {exc}"
        ) from exc


def _exit_code(number: object) -> ExitCode:
    """A code of ours that is none of success."""
    try:
        return ExitCode(int(str(number))) or ExitCode.FAILED
    except ValueError:  # a signal of somebody else's, a crash
        return ExitCode.FAILED
