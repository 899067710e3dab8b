"""Options that verbs of `pipeline` share."""

from __future__ import annotations

from pathlib import Path

import click

#: --reports; the parameter is `reports`, as given.
reports_option = click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    default="~/reports", show_default=True, envvar="IMAGEBUILD_REPORTS", show_envvar=True,
    help="Directory of reports: NAME/RUN for each run, NAME/latest for the last.",
)  # fmt: skip
