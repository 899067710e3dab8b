"""imagebuild pipeline plan PIPELINE: what a run would do."""

from __future__ import annotations

from pathlib import Path

import click

from imagebuild.cli.options import (
    absolute,
    cache_option,
    images_option,
    json_option,
    search_option,
    store_option,
)
from imagebuild.cli.pipeline.options import cell_option, load, pipeline_argument
from imagebuild.cli.terminal import terminal


@click.command(epilog="Example: imagebuild pipeline plan nightly")
@pipeline_argument
@cell_option
@click.option(
    "--no-clouds", is_flag=True, envvar="IMAGEBUILD_PIPELINE_NO_CLOUDS", show_envvar=True,
    help="Do not ask the clouds: only what is on this host counts.",
)  # fmt: skip
@click.option(
    "--offline", is_flag=True, envvar="IMAGEBUILD_OFFLINE", show_envvar=True,
    help="Ask nothing of the network: use what it said before and what is in the cache.",
)  # fmt: skip
@images_option
@cache_option
@store_option
@search_option
@json_option
@click.pass_context
def plan(
    context: click.Context,
    pipeline: str,
    cells: tuple[str, ...],
    no_clouds: bool,
    offline: bool,
    images_dir: Path,
    cache_dir: Path,
    store: Path | None,
    profiles_path: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say what a run would do: its cells, what machines their jobs need, and which have nothing
    to do since nothing has changed.

    PIPELINE is a file, `-` for one from a pipe, or a name: `nightly`. Mirrors, package indexes
    and clouds are asked, nothing but the cache is changed. A cell that cannot be looked at does
    not hinder the others; the exit code is that of its error.
    """
    from imagebuild.cli.pipeline import planview
    from imagebuild.pipeline.cells import Places, choose
    from imagebuild.pipeline.unchanged import Look

    loaded = load(pipeline, profiles_path)
    places = Places(
        images=absolute(images_dir, "--images-dir"),
        cache=cache_dir,
        reports=Path(),
        store=store,
    )
    chosen = choose(loaded.cells, cells)
    look = Look(places, ask_clouds=not no_clouds, offline=offline)
    rows = [planview.row(look, cell) for cell in chosen]
    if as_json:
        terminal.json(planview.document(loaded, rows))
    else:
        planview.show(terminal, loaded, rows)
    context.exit(int(planview.exit_code(rows)))
