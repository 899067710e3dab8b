"""Where reports lie, and who writes them.

    REPORTS/NAME/RUN/   report.json report.md junit.xml metrics.prom report.html cells/ID/*.log
    REPORTS/NAME/latest → RUN

`report.json` is written after every phase, the rest and `latest` at the end. Each file is put
in its place whole or not at all: a run that is killed leaves a report.json with `complete`
false, and `latest` where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from imagebuild.config.values import check_profile_name
from imagebuild.errors import ConfigError, PreflightError
from imagebuild.files import MIB, read_limited
from imagebuild.outfile import put
from imagebuild.pipeline import junit, markdown, metrics, page
from imagebuild.pipeline.cleaning import cleaned
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import RunReport

JSON, MARKDOWN, JUNIT = "report.json", "report.md", "junit.xml"
METRICS, PAGE, LATEST = "metrics.prom", "report.html", "latest"

#: Names of runs: the time, and a number where two began in one second.
_RUN = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
#: No report is larger.
_LIMIT = 256 * MIB
#: Seconds after which nobody is about to rename a link any more.
_OLD = 3600.0
#: And after which no phase can be going on: reports are saved after each.
_STALE = 86_400.0
#: Longest name that a log gets, but for its end.
_LONGEST = 120


def run_name(started: float) -> str:
    """The name of a run that began at that time (seconds since 1970): 20261122T233600Z."""
    return datetime.fromtimestamp(started, timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def new_directory(reports: Path, pipeline: str, run: str) -> Path:
    """Make the directory of a run: its name is the run's name from now on, which gets a number
    where another one began in the same second. Raises PreflightError.
    """
    number = 1
    while True:
        directory = reports / pipeline / (run if number == 1 else f"{run}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError as exc:
            if not directory.is_dir():
                raise _unwritable(directory, exc) from exc
            number += 1
        except OSError as exc:
            raise _unwritable(directory, exc) from exc
        else:
            return directory


def directory_of(reports: Path, pipeline: str, run: str) -> Path:
    """Where a run's report is. Raises ConfigError for what cannot be the name of a pipeline or
    a run: such a report was not written by us.
    """
    try:
        check_profile_name(pipeline)
        if not _RUN.fullmatch(run):
            raise ValueError(f"{run!r} is not the name of a run")
    except ValueError as exc:
        raise ConfigError("a report has a name that cannot be", detail=str(exc)) from exc
    return reports / pipeline / run


def log_path(directory: Path, cell_id: str, phase: str, target: str = "") -> Path:
    """The log of a phase: `cells/ID/PHASE[-TARGET].log`, of safe letters; another one for
    every target.
    """
    name = phase + (f"-{_safe(target)}" if target else "")
    return directory / "cells" / _safe(cell_id) / f"{name}.log"


def _safe(text: str) -> str:
    plain = re.sub(r"[^\w.+-]", "_", text.replace("/", "+"), flags=re.ASCII).lstrip(".")
    if plain == text.replace("/", "+") and "+" not in text and 0 < len(plain) <= _LONGEST:
        return plain
    return f"{plain[:_LONGEST]}_{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def save(report: RunReport, directory: Path) -> None:
    """Write report.json alone, whole or not at all. Raises PreflightError."""
    _put_json(cleaned(report), directory)


def read(path: Path) -> RunReport:
    """A report by its file or directory (`latest` too). Raises ConfigError."""
    file = path / JSON if path.is_dir() else path
    try:
        report = RunReport.from_json(json.loads(read_limited(file, _LIMIT)))
        for image in filter(None, (c.image for c in report.cells)):
            ImageFacts.from_json(image)
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(
            "cannot read a report",
            where=str(file),
            detail=str(exc),
            hint="name a directory that `pipeline run` or `pipeline collect` has written",
        ) from exc
    except ConfigError as exc:
        exc.where = exc.where or str(file)
        raise
    return report


def history(reports: Path, pipeline: str, *, before: str = "", limit: int = 30) -> list[RunReport]:
    """The last `limit` reports before the run `before` (all when ""), oldest first; what cannot
    be read is left out, and so is a part of a report that has been collected.
    """
    found: list[RunReport] = []
    for directory in sorted(_runs(reports / pipeline), key=lambda p: _order(p.name), reverse=True):
        if before and _order(directory.name) >= _order(before):
            continue
        try:
            found.append(read(directory))
        except ConfigError:
            continue
        if len(found) == limit:
            break
    return without_parts(found[::-1])


def without_parts(reports: Iterable[RunReport]) -> list[RunReport]:
    """The reports, but for those that went into another of them (`pipeline collect`)."""
    known = list(reports)
    return [r for r in known if not any(_is_part(r, of) for of in known if of is not r)]


def _is_part(one: RunReport, of: RunReport) -> bool:
    if one.parts:
        return set(one.parts) <= set(of.parts) and (len(of.parts), of.run) > (
            len(one.parts),
            one.run,
        )
    return one.label in of.parts


def write(report: RunReport, directory: Path, earlier: Sequence[RunReport]) -> None:
    """Write everything, and point `latest` at it. Raises PreflightError.

    Everything is made before the first file is written.
    """
    report = cleaned(report)
    texts = {
        MARKDOWN: markdown.render(report, earlier),
        JUNIT: junit.render(report, earlier),
        METRICS: metrics.render(report, earlier, _successes(directory)),
        PAGE: page.render(report, earlier),
    }
    for name, text in texts.items():
        put(directory / name, text)
    _put_json(report, directory)
    _point(directory.parent / LATEST, directory)


def _successes(directory: Path) -> dict[str, float]:
    """What the metrics of the run before knew: reports older than those that are kept."""
    try:
        text = read_limited(directory.parent / LATEST / METRICS, MIB).decode(errors="replace")
    except OSError:
        return {}  # none yet, or nothing that we could read
    return metrics.successes(text)


def _put_json(report: RunReport, directory: Path) -> None:
    put(directory / JSON, json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")


def _point(link: Path, directory: Path) -> None:
    """Let `latest` lead to the directory, in one step."""
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    try:
        if not link.is_symlink() and (link / JSON).is_file():
            # A copy of it: archives of some engines have no links.
            _remove(link)
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(directory.name)
        fresh.replace(link)
    except OSError as exc:
        raise _unwritable(link, exc) from exc
    finally:
        fresh.unlink(missing_ok=True)


def prune(reports: Path, pipeline: str, keep: int) -> list[Path]:
    """Remove the oldest reports but `keep`; what `latest` points at stays, and what may still be
    written: other jobs share the place. Returns what went.

    Raises PreflightError for one that cannot be removed.
    """
    place = reports / pipeline
    latest = (place / LATEST).resolve()
    runs = sorted(_runs(place), key=lambda p: _order(p.name))
    old = runs[: max(0, len(runs) - keep)]
    gone = [r for r in old if r.resolve() != latest and not _is_under_way(r)]
    for path in (*gone, *_leftovers(place)):
        try:
            path.unlink() if path.is_symlink() else _remove(path)
        except FileNotFoundError:
            continue  # another run was faster
        except OSError as exc:
            raise _unwritable(path, exc) from exc
    return gone


def _is_under_way(directory: Path) -> bool:
    """Whether a run may still be writing there: it has not come to its end, not long ago."""
    try:
        age = time.time() - (directory / JSON).stat().st_mtime
        return age < _STALE and not read(directory).complete
    except (OSError, ConfigError):
        return False


def _remove(directory: Path) -> None:
    """Remove a report; one that is cut off leaves nothing that looks like a report."""
    hidden = directory
    if not directory.name.startswith("."):
        hidden = directory.with_name(f".{directory.name}.removed")
        if hidden.exists():
            shutil.rmtree(hidden)
        directory.rename(hidden)
    shutil.rmtree(hidden)


def _leftovers(place: Path) -> list[Path]:
    """What a run that was killed has left half done; of now is only what another one does."""
    old = time.time() - _OLD
    links = (p for p in place.glob(f".{LATEST}-*") if p.is_symlink() and p.lstat().st_mtime < old)
    return [*(p for p in place.glob(".*.removed") if p.is_dir()), *links]


def _runs(place: Path) -> Iterator[Path]:
    try:
        for path in place.iterdir():
            if _RUN.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield path
    except OSError:
        return


def _order(run: str) -> tuple[str, int]:
    """Runs by time; the tenth of one second after the ninth."""
    when, _, number = run.partition("-")
    return when, int(number) if number.isdecimal() else 1


def _unwritable(path: Path, exc: OSError) -> PreflightError:
    return PreflightError(
        "a report cannot be written there",
        where=str(path),
        detail=exc.strerror or str(exc),
        hint="--reports DIR chooses another directory",
    )
