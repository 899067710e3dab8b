"""report.md: what a person wants to know first; fits a mail or a merge comment."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import RunReport


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text. Pure."""
    raise NotImplementedError
