"""junit.xml: each stage and each check a case."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import RunReport


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text. Pure."""
    raise NotImplementedError
