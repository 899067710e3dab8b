"""What the verbs of `pipeline` share: which pipeline, which of its cells, and where it works."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import absolute, environment_request

if TYPE_CHECKING:
    from imagebuild.pipeline.loading import LoadedPipeline

#: The pipeline; the parameter is `pipeline`.
pipeline_argument = click.argument("pipeline", metavar="PIPELINE", shell_complete=complete.pipeline)

#: --cell; the parameter `cells` has ids.
cell_option = click.option(
    "--cell", "cells", multiple=True, metavar="ID", envvar="IMAGEBUILD_PIPELINE_CELL",
    show_envvar=True, shell_complete=complete.cell,
    help="Only this cell, as `pipeline plan` calls it (repeatable).",
)  # fmt: skip

#: --reports; the parameter is `reports`, as given.
reports_option = click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    default="~/images/reports", show_default=True, envvar="IMAGEBUILD_REPORTS", show_envvar=True,
    help="Directory of reports: NAME/RUN for each run, NAME/latest for the last.",
)  # fmt: skip


def load(pipeline: str, profiles_path: Sequence[Path] = ()) -> LoadedPipeline:
    """The pipeline, with what IMAGEBUILD_* say of profiles and of mirror lists.

    `profiles_path` as the option of that name. Raises ConfigError.
    """
    from imagebuild.pipeline.loading import TARGET_VARIABLE, load_pipeline

    search = tuple(absolute(path, "--profiles-path") for path in profiles_path)
    return load_pipeline(
        pipeline,
        search,
        environment=environment_request().overrides,
        target=os.environ.get(TARGET_VARIABLE) or None,
    )
