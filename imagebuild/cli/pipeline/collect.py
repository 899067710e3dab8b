"""imagebuild pipeline collect DIR…: the reports of several machines as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import absolute, json_option, search_option
from imagebuild.cli.pipeline.options import load, reports_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagebuild.config.pipeline import Pipeline
    from imagebuild.pipeline.cells import Cell
    from imagebuild.pipeline.collecting import Collected, Search
    from imagebuild.pipeline.outcome import RunReport

_STYLES = {
    "passed": "green", "unchanged": "green", "skipped": "dim", "held": "yellow",
    "failed": "bold red", "interrupted": "bold red",
}  # fmt: skip


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    if context.resilient_parsing:
        return 0.0
    from imagebuild.config.values import parse_duration

    try:
        return float(parse_duration(value))
    except ValueError as exc:
        raise click.BadParameter(str(exc), param=parameter) from exc


@click.command(
    epilog="Example: imagebuild pipeline collect jobs/ --pipeline nightly.yaml --reports reports"
)
@click.argument(
    "directories", nargs=-1, required=True, metavar="DIR...",
    type=click.Path(path_type=Path), shell_complete=complete.place("dir"),
)  # fmt: skip
@click.option(
    "--pipeline", "pipeline_file", metavar="PIPELINE", envvar="IMAGEBUILD_PIPELINE",
    show_envvar=True, shell_complete=complete.place("file"),
    help="The pipeline's file, or its name: a cell or phase of it that no report has is a "
    "failure.",
)  # fmt: skip
@reports_option
@click.option(
    "--previous", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", multiple=True,
    envvar="IMAGEBUILD_PIPELINE_PREVIOUS", show_envvar=True,
    help="Directory with the reports of earlier nights, beside those in --reports; one that is "
    "not there has none. May be given several times.",
)  # fmt: skip
@click.option(
    "--within", metavar="TIME", default="12h", show_default=True, callback=_seconds,
    envvar="IMAGEBUILD_PIPELINE_WITHIN", show_envvar=True,
    help="Reports below a DIR are of one night when they began within this time; older ones are "
    "earlier nights.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what the merged report would be, write nothing.",
)  # fmt: skip
@search_option
@json_option
@click.pass_context
def collect(
    context: click.Context,
    directories: tuple[Path, ...],
    pipeline_file: str | None,
    reports: Path,
    previous: tuple[Path, ...],
    within: float,
    dry_run: bool,
    profiles_path: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Merge the reports of several machines into one.

    DIR is the report of a run, or a directory above several. Of a phase that several have, the
    last one that did something counts. The logs are copied; the merged report goes to
    REPORTS/NAME/RUN. Ends with the exit code of the whole: 0 when every cell is good, the code
    that all that failed share, else 1.
    """
    from imagebuild.pipeline import collecting, reporting

    pipeline, cells = _expected(pipeline_file, profiles_path)
    place = absolute(reports, "--reports")
    found = _search(directories, may_be_absent=pipeline is not None)
    name = pipeline.name if pipeline else ""
    names = [name] if name else sorted({f.report.pipeline for f in found.reports})
    earlier = [r for n in names for r in reporting.history(place, n)]
    earlier += _previous(previous)
    collected = collecting.collect(found, within=within, name=name, cells=cells, earlier=earlier)
    directory = None
    report = collecting.shown(collected)
    if not dry_run:
        directory = collecting.place(collected, place)
        report = reporting.read(directory)
        if pipeline:
            reporting.prune(place, pipeline.name, pipeline.retention.reports)
    _show(collected, report, directory)
    if as_json:
        terminal.json(
            report.to_json()
            | {
                "dry_run": dry_run,
                "directory": str(directory) if directory else None,
                "merged": [str(f.directory) for f in collected.sources],
                "missing": list(collected.missing),
            }
        )
    elif directory:
        terminal.data(str(directory))
    context.exit(int(report.exit_code))


def _expected(
    name_or_path: str | None, profiles_path: Sequence[Path]
) -> tuple[Pipeline | None, Sequence[Cell]]:
    if name_or_path is None:
        return None, ()
    loaded = load(name_or_path, profiles_path)
    for note in loaded.notes:
        terminal.warning(note)
    return loaded.value, loaded.cells


def _search(directories: Sequence[Path], *, may_be_absent: bool) -> Search:
    """The reports; of jobs that never ran there may be no directory at all, which the
    pipeline's file tells.
    """
    from imagebuild.pipeline import collecting

    places = [absolute(d, "DIR") for d in directories]
    if may_be_absent:
        for absent in (p for p in places if not p.exists()):
            terminal.warning(f"there is no {absent}")
        places = [p for p in places if p.exists()]
    return collecting.search(places)


def _previous(directories: Sequence[Path]) -> list[RunReport]:
    """Earlier nights; the first one has none, and what cannot be read is no reason to fail."""
    from imagebuild.pipeline import collecting

    places = [absolute(d, "--previous") for d in directories]
    found = collecting.search([p for p in places if p.is_dir()])
    for sentence in found.unreadable:
        terminal.warning(sentence)
    return [f.report for f in found.reports]


def _show(collected: Collected, report: RunReport, directory: Path | None) -> None:
    from imagebuild.cli.tables import Tables
    from imagebuild.pipeline.verdict import headline

    sources = len(collected.sources)
    terminal.info(f"merged: {sources} report{'s' if sources != 1 else ''}")
    if terminal.verbosity >= 0 and report.cells:
        rows = [(c.id, c.status.value, _what(c.id, report)) for c in report.cells]
        Tables(terminal.console).table(
            f"pipeline {report.pipeline}, run {report.run}", ("cell", "result", "what"), rows,
            styles=[_STYLES[r[1]] for r in rows],
        )  # fmt: skip
    for sentence in (*collected.missing, *report.notes):
        terminal.warning(sentence)
    terminal.info(headline(report), "bold red" if report.exit_code else "bold green")
    if directory is None:
        terminal.info("nothing was written")


def _what(cell_id: str, report: RunReport) -> str:
    """Why a cell is not good, in some words."""
    cell = report.cell(cell_id)
    for phase in cell.phases if cell else ():
        if phase.error and phase.exit_code:
            return f"{phase.phase.value} {phase.target}".rstrip() + f": {phase.error['what']}"
        if phase.why and phase.status.value != "skipped":
            return phase.why
    return ""
