"""imagebuild pipeline schema: every key of a pipeline, or of a report."""

from __future__ import annotations

import click

from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

SCHEMA_VERSION = 1


@click.command(epilog="Example: imagebuild pipeline schema > pipeline.schema.json")
@click.option(
    "--report", is_flag=True, envvar="IMAGEBUILD_PIPELINE_SCHEMA_REPORT", show_envvar=True,
    help="Of report.json, which runs leave, in place of the pipeline's file.",
)  # fmt: skip
@json_option
def schema(report: bool, as_json: bool) -> None:  # noqa: ARG001 - it is JSON in any case
    """Print the JSON schema of pipelines; editors use it for completion."""
    if report:
        from imagebuild.pipeline.reportschema import report_schema

        terminal.json({"schema_version": SCHEMA_VERSION} | report_schema())
        return
    from imagebuild.config.pipeline import file_schema

    terminal.json({"schema_version": SCHEMA_VERSION} | file_schema())
