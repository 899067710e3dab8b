"""metrics.prom: a run for Prometheus's node_exporter (its textfile collector)."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import RunReport


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text; the time of a cell's last success may come from an earlier run. Pure."""
    raise NotImplementedError
