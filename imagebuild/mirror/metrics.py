"""A run as a file for Prometheus's node_exporter (its textfile collector).

Format: "Text-based format" of Prometheus's exposition formats; names and units go by
prometheus.io/docs/practices/naming. All are gauges of the last run:

    imagebuild_mirror_images{outcome}                      images by outcome; all six are there
    imagebuild_mirror_bytes{kind}                          copied, mounted, present
    imagebuild_mirror_requests{method}                     requests that were sent
    imagebuild_mirror_quota_remaining{registry}            pulls that a registry still grants us
    imagebuild_mirror_quota_limit{registry}                … of so many
    imagebuild_mirror_duration_seconds                     how long it took
    imagebuild_mirror_last_run_timestamp_seconds           when it ended
    imagebuild_mirror_last_success_timestamp_seconds       when one last ended with nothing missing

Each has the labels `list` and `target`. The last is kept from the old file when a run fails,
and is not there before one has succeeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from imagebuild.files import MIB, read_limited
from imagebuild.mirror.result import Report
from imagebuild.outfile import put
from imagebuild.prometheus import Sample, gauges

_SUCCESS = "imagebuild_mirror_last_success_timestamp_seconds"
_HELP = {
    "imagebuild_mirror_images": "Images of the mirror list by outcome of the last run.",
    "imagebuild_mirror_bytes": "Bytes of the last run: copied, mounted, or present before.",
    "imagebuild_mirror_requests": "Requests to registries in the last run, by method.",
    "imagebuild_mirror_quota_remaining": "Pulls that a registry still grants.",
    "imagebuild_mirror_quota_limit": "Pulls that a registry grants in its time window.",
    "imagebuild_mirror_duration_seconds": "Duration of the last run.",
    "imagebuild_mirror_last_run_timestamp_seconds": "End of the last run.",
    _SUCCESS: "End of the last run after which nothing was missing.",
}


def render(report: Report, labels: Mapping[str, str], now: float, success: float | None) -> str:
    """The file's text; `now` and `success` (of the last good run before) are in seconds."""
    found = _samples(report, now, now if not report.failed else success)
    return gauges(_HELP, found, labels)


def _samples(report: Report, now: float, success: float | None) -> Iterator[Sample]:
    for outcome, count in report.outcomes.items():
        yield "imagebuild_mirror_images", {"outcome": outcome.value}, count
    for kind in ("copied", "mounted", "present"):
        total = sum(getattr(r, f"bytes_{kind}") for r in report.results)
        yield "imagebuild_mirror_bytes", {"kind": kind}, total
    for method, count in sorted(report.requests.items()):
        yield "imagebuild_mirror_requests", {"method": method}, count
    for host, remaining, limit in report.quotas:
        yield "imagebuild_mirror_quota_remaining", {"registry": host}, remaining
        yield "imagebuild_mirror_quota_limit", {"registry": host}, limit
    yield "imagebuild_mirror_duration_seconds", {}, report.seconds
    yield "imagebuild_mirror_last_run_timestamp_seconds", {}, now
    if success is not None:
        yield _SUCCESS, {}, success


def write(path: Path, report: Report, labels: Mapping[str, str], now: float) -> None:
    """Put the file in the place of the old one. Raises PreflightError."""
    put(path, render(report, labels, now, _last_success(path)))


def _last_success(path: Path) -> float | None:
    try:
        text = read_limited(path, MIB).decode(errors="replace")
    except OSError:
        return None  # none yet, or nothing that we could read
    found = re.search(rf"^{_SUCCESS}(?:{{.*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None
