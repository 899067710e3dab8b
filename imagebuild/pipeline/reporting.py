"""Where reports lie, and who writes them.

    REPORTS/NAME/RUN/   report.json report.md junit.xml metrics.prom report.html cells/ID/*.log
    REPORTS/NAME/latest → RUN

`report.json` is written after every phase, the rest and `latest` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagebuild.pipeline.outcome import RunReport

JSON, MARKDOWN, JUNIT = "report.json", "report.md", "junit.xml"
METRICS, PAGE, LATEST = "metrics.prom", "report.html", "latest"


def new_directory(reports: Path, pipeline: str, run: str) -> Path:
    """Make the directory of a run. Raises PreflightError."""
    raise NotImplementedError


def log_path(directory: Path, cell_id: str, phase: str, target: str = "") -> Path:
    """The log of a phase: `cells/ID/PHASE[-TARGET].log`, of safe letters."""
    raise NotImplementedError


def save(report: RunReport, directory: Path) -> None:
    """Write report.json alone, whole or not at all."""
    raise NotImplementedError


def read(path: Path) -> RunReport:
    """A report by its file or directory (`latest` too). Raises ConfigError."""
    raise NotImplementedError


def history(reports: Path, pipeline: str, *, before: str = "", limit: int = 30) -> list[RunReport]:
    """Earlier reports, oldest first; what cannot be read is left out."""
    raise NotImplementedError


def write(report: RunReport, directory: Path, earlier: Sequence[RunReport]) -> None:
    """Write everything, and point `latest` at it. Raises PreflightError."""
    raise NotImplementedError


def prune(reports: Path, pipeline: str, keep: int) -> list[Path]:
    """Remove the oldest reports but `keep`; what `latest` points at stays."""
    raise NotImplementedError
