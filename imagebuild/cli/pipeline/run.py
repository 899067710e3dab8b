"""imagebuild pipeline run PIPELINE: one night."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from imagebuild.cli import complete
from imagebuild.cli.options import (
    absolute,
    cache_option,
    images_option,
    json_option,
    search_option,
    store_option,
    store_remote_option,
    store_size_option,
)
from imagebuild.cli.pipeline.options import cell_option, load, pipeline_argument, reports_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cli.pipeline.runview import View
    from imagebuild.pipeline.cells import Cell, Phase, Places
    from imagebuild.pipeline.loading import LoadedPipeline
    from imagebuild.pipeline.outcome import RunReport

_JOBS = ("mirror", "build", "verify", "publish")


@click.command(epilog="Example: imagebuild pipeline run nightly.yaml --skip-unchanged")
@pipeline_argument
@cell_option
@click.option(
    "--phase", "jobs_asked", type=click.Choice(_JOBS), multiple=True,
    envvar="IMAGEBUILD_PIPELINE_PHASE", show_envvar=True,
    help="Only this of each cell: what an engine runs as one job (repeatable).",
)  # fmt: skip
@click.option(
    "--artifact", type=click.Path(path_type=Path), metavar="DIR",
    envvar="IMAGEBUILD_PIPELINE_ARTIFACT", show_envvar=True, shell_complete=complete.artifact,
    help="Artifact of the one --cell, where --phase does not build it. [default: what was built "
    "last, as IMAGES_DIR/cells says]",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 32), metavar="N", default=1, show_default=True,
    envvar="IMAGEBUILD_PIPELINE_JOBS", show_envvar=True, help="Images at a time.",
)  # fmt: skip
@click.option(
    "--skip-unchanged", is_flag=True, envvar="IMAGEBUILD_PIPELINE_SKIP_UNCHANGED",
    show_envvar=True,
    help="Do nothing for images that are published as they would be built now.",
)  # fmt: skip
@click.option(
    "--no-retry", is_flag=True, envvar="IMAGEBUILD_PIPELINE_NO_RETRY", show_envvar=True,
    help="Try everything once, whatever the file says.",
)  # fmt: skip
@click.option(
    "--wait", is_flag=True, envvar="IMAGEBUILD_WAIT", show_envvar=True,
    help="Wait for another run of the same cells, instead of ending with 75.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Print the commands that would be run, as they are typed by hand.",
)  # fmt: skip
@reports_option
@images_option
@cache_option
@store_option
@store_size_option
@store_remote_option
@search_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    pipeline: str,
    cells: tuple[str, ...],
    jobs_asked: tuple[str, ...],
    artifact: Path | None,
    jobs: int,
    skip_unchanged: bool,
    no_retry: bool,
    wait: bool,
    dry_run: bool,
    reports: Path,
    images_dir: Path,
    cache_dir: Path,
    store: Path | None,
    store_size: int | None,
    store_remote: str | None,
    profiles_path: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Mirror, build, verify, upload, promote and retire, for every cell of a pipeline.

    PIPELINE is a file, `-` for one from a pipe, or a name: `nightly`. Run again, it takes up
    what is left. A cell that fails does not stop the others; what ends with 75 is tried again,
    nothing else is; nothing is published that did not verify. Ends with 0 when every cell is
    good, with the code that all that failed share, else with 1.
    """
    from imagebuild.cli.pipeline import dryrun
    from imagebuild.cli.pipeline.surroundings import for_children, unheard
    from imagebuild.pipeline.cells import Places, choose
    from imagebuild.pipeline.clouds import unknown

    loaded = load(pipeline, profiles_path)
    chosen = choose(loaded.cells, cells)
    phases = _phases(chosen, jobs_asked)
    _check_artifact(chosen, phases, artifact)
    places = Places(
        images=absolute(images_dir, "--images-dir"),
        cache=cache_dir,
        reports=absolute(reports, "--reports"),
        store=store,
        store_size=_size(context, store_size),
        store_remote=store_remote,
        environ=for_children(os.environ),
    )
    notes = [*loaded.notes, *(
        f"{name} is not heard by pipelines: the file says what is done"
        for name in unheard(os.environ)
    )]  # fmt: skip
    lacking = unknown(chosen, phases)
    notes += lacking
    if dry_run:
        found = dryrun.typed(chosen, phases, places)
        if as_json:
            terminal.json(dryrun.document(loaded.value.name, found))
        else:
            dryrun.show(terminal, found)
        for note in notes:
            terminal.info(f"note: {note}")
        return
    from imagebuild.cli.pipeline.runview import View
    from imagebuild.pipeline.engine import Asked

    for text in lacking:
        terminal.warning(text)
    if no_retry:
        loaded = _without_retry(loaded)
    asked = Asked(
        cells=chosen,
        phases=phases,
        jobs=jobs,
        skip_unchanged=skip_unchanged,
        artifact=str(absolute(artifact, "--artifact")) if artifact else "",
        wait=wait,
    )
    view = View(terminal, chosen, several=jobs > 1)
    report = _go(loaded, asked, places, view, notes, as_json=as_json)
    context.exit(int(report.exit_code))


def _go(
    loaded: LoadedPipeline,
    asked: object,
    places: Places,
    view: View,
    notes: Sequence[str],
    *,
    as_json: bool,
) -> RunReport:
    from imagebuild.pipeline.engine import Asked, RunInterrupted, UnwrittenError
    from imagebuild.pipeline.engine import run as run_pipeline

    assert isinstance(asked, Asked)  # noqa: S101 - its import waits for the verb's use
    try:
        with view.live():
            report, directory = run_pipeline(
                loaded.value, asked, places, view.watch, notes=notes, tell=view.say,
                begun=view.begun,
            )  # fmt: skip
    except (RunInterrupted, UnwrittenError) as exc:
        _tell(exc.report, exc.directory, view, as_json=as_json)
        raise
    _tell(report, directory, view, as_json=as_json)
    return report


def show(report: RunReport, directory: Path, view: View) -> None:
    """The summary; when nobody reads it, the document and the exit code are still wanted."""
    with contextlib.suppress(SystemExit):
        view.summary(report, directory)


def _tell(report: RunReport, directory: Path, view: View, *, as_json: bool) -> None:
    from imagebuild.pipeline.cleaning import cleaned

    show(report, directory, view)
    if as_json:
        terminal.json(cleaned(report).to_json() | {"directory": str(directory)})


def _phases(chosen: Sequence[Cell], jobs: Sequence[str]) -> tuple[Phase, ...]:
    """The phases that --phase means; all when it means none. Raises UsageError."""
    from imagebuild.errors import UsageError
    from imagebuild.pipeline.cells import Job

    phases = tuple(p for j in jobs for p in Job(j).phases)
    if phases and not any(set(phases) & set(c.phases) for c in chosen):
        raise UsageError(
            f"--phase {' --phase '.join(jobs)}: none of these cells has it",
            detail="\n".join(f"{c.id}: {', '.join(p.value for p in c.phases)}" for c in chosen),
        )
    return phases


def _check_artifact(chosen: Sequence[Cell], phases: Sequence[Phase], artifact: Path | None) -> None:
    from imagebuild.errors import UsageError
    from imagebuild.pipeline.cells import Phase

    if artifact is None:
        return
    if len(chosen) != 1:
        raise UsageError("--artifact is of one cell", hint="--cell ID says which")
    if not phases or Phase.BUILD in phases:
        raise UsageError(
            "--artifact is for jobs that do not build", hint="--phase verify, --phase publish"
        )


def _size(context: click.Context, size: int | None) -> str | None:
    """--store-size for the children, where somebody has said it."""
    if context.get_parameter_source("store_size") is ParameterSource.DEFAULT:
        return None
    from imagebuild.config.values import format_size

    return "none" if size is None else format_size(size)


def _without_retry(loaded: LoadedPipeline) -> LoadedPipeline:
    value = loaded.value
    once = value.retry.model_copy(update={"attempts": 1})
    return dataclasses.replace(loaded, value=value.model_copy(update={"retry": once}))
