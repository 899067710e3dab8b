"""report.html: one self-contained page for people who would rather look."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import RunReport


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text: works without network. Pure."""
    raise NotImplementedError
