"""A small pipeline whose verbs are those of fakeverbs.py: the engine is the real one."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.config.pipeline import Pipeline
from imagebuild.pipeline import engine
from imagebuild.pipeline.cells import Cell, ImageCell, Job, MirrorCell, Phase, Places
from imagebuild.pipeline.engine import Asked, Watch
from imagebuild.pipeline.outcome import PhaseReport, RunReport

_PROGRAM = Path(__file__).with_name("fakeverbs.py")
TEMPORARY = {
    "error": "TemporaryError", "exit_code": 75, "what": "the archive is away",
    "where": "http://archive.example/", "detail": "HTTP 503", "hint": "later",
}  # fmt: skip


@dataclass
class Fake:
    """A pipeline of `one` and `two` for two clouds, and a mirror list before them."""

    directory: Path
    document: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    profiles: tuple[str, ...] = ("one", "two")
    has_mirror: bool = True
    ended: list[tuple[str, PhaseReport]] = field(default_factory=list)

    def __post_init__(self) -> None:
        version = {"datastore": "mysql", "version": "8.4"}
        publish = {"datastores": ["mysql"], "versions": [version], "retire": {"keep": 1}}
        self.document = {
            "name": "fake",
            "images": [{"profiles": ["one"]}],
            "publish": [{"cloud": c, **publish} for c in ("prod", "lab")],
            "verify": {"level": "static"},
            "retry": {"attempts": 3, "wait": "1s"},
        } | self.document

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline.model_validate(self.document)

    @property
    def cells(self) -> tuple[Cell, ...]:
        whole = self.pipeline
        step = {"list": "trove"}
        made: list[Cell] = []
        if self.has_mirror:
            mirrors = Pipeline.model_validate({**self.document, "mirrors": [step]}).mirrors
            made.append(MirrorCell("mirror-trove", mirrors[0]))
        for name in self.profiles:
            made.append(
                ImageCell(
                    id=f"{name}-amd64", profile=name, series=None, arch="amd64",  # type: ignore[arg-type]
                    verify=whole.verify, publish=whole.publish, gates=whole.gates,
                    after=("mirror-trove",) if self.has_mirror else (),
                )
            )  # fmt: skip
        return tuple(made)

    @property
    def places(self) -> Places:
        return Places(
            images=self.directory / "images", cache=self.directory / "cache",
            reports=self.directory / "reports", environ=dict(os.environ),
        )  # fmt: skip

    @property
    def program(self) -> tuple[str, ...]:
        (self.directory / "plan.json").write_text(json.dumps(self.plan))
        return (sys.executable, "-S", str(_PROGRAM), str(self.directory))

    def run(self, *ids: str, job: Job | None = None, **asked: Any) -> RunReport:  # noqa: ANN401
        """One run; `calls` has what it called."""
        (self.directory / "calls").unlink(missing_ok=True)
        cells = tuple(c for c in self.cells if not ids or c.id in ids)
        report, self.report_directory = engine.run(
            self.pipeline, Asked(cells, job.phases if job else (), **asked), self.places,
            self.watch, program=self.program,
        )  # fmt: skip
        return report

    @property
    def watch(self) -> Watch:
        def ended(cell: str, report: PhaseReport) -> None:
            self.ended.append((cell, report))

        return Watch(lambda *_: None, lambda *_: None, ended)

    @property
    def calls(self) -> list[str]:
        """The calls so far, without places."""
        try:
            lines = (self.directory / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [x.partition(" --images-dir")[0].removesuffix(" --json") for x in lines]

    def wait_for(self, call: str) -> None:
        """Until a call has begun."""
        deadline = time.monotonic() + 20
        while not any(call in c for c in self.calls):
            assert time.monotonic() < deadline, f"no {call}: {self.calls}"
            time.sleep(0.01)


def statuses(report: RunReport, cell_id: str) -> dict[str, str]:
    """Phase and target → status."""
    cell = report.cell(cell_id)
    assert cell
    return {f"{p.phase.value} {p.target}".strip(): p.status.value for p in cell.phases}


def one(report: RunReport, cell_id: str, phase: Phase) -> PhaseReport:
    """The first report of a phase that is not good, else the first."""
    cell = report.cell(cell_id)
    assert cell
    found = [p for p in cell.phases if p.phase is phase]
    return next((p for p in found if p.error), found[0])
