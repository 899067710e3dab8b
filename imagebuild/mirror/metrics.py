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

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.files import MIB, read_limited
from imagebuild.mirror.result import Report

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

_Sample = tuple[str, Mapping[str, str], float]


def render(report: Report, labels: Mapping[str, str], now: float, success: float | None) -> str:
    """The file's text; `now` and `success` (of the last good run before) are in seconds."""
    found = list(_samples(report, now, now if not report.failed else success))
    lines: list[str] = []
    for name, text in _HELP.items():
        samples = [s for s in found if s[0] == name]
        if samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        for _, own, value in samples:
            shown = ",".join(f'{k}="{_escaped(v)}"' for k, v in {**labels, **own}.items())
            lines.append(f"{name}{{{shown}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _samples(report: Report, now: float, success: float | None) -> Iterator[_Sample]:
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


def put(path: Path, text: str) -> None:
    """Write a file that others read, whole or not at all. Raises PreflightError."""
    try:
        place = path.resolve()
        with tempfile.NamedTemporaryFile(
            "w", dir=place.parent, prefix=f".{place.name}-", delete=False, encoding="utf-8"
        ) as file:
            try:
                file.write(text)
                # node_exporter is another user.
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                Path(file.name).replace(place)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise _unwritable(path, exc.strerror or str(exc)) from exc


def check_place(path: Path, hint: str = "") -> None:
    """Raise PreflightError for a file that could not be written, before anything is done."""
    detail = ""
    directory = path.resolve().parent
    if path.is_dir():
        detail = "it is a directory"
    elif not directory.is_dir():
        detail = f"there is no directory {directory}"
    elif not os.access(directory, os.W_OK | os.X_OK):
        detail = f"{directory} is not ours to write to"
    if detail:
        raise _unwritable(path, detail, hint)


def _unwritable(path: Path, detail: str, hint: str = "") -> PreflightError:
    return PreflightError(
        "a file cannot be written",
        where=str(path),
        detail=detail,
        hint=hint or "its directory must be there, and ours to write to",
    )


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


def _number(value: float) -> str:
    """Without the noise of binary fractions."""
    return str(value if isinstance(value, int) else round(value, 3))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
