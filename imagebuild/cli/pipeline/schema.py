"""imagebuild pipeline schema: every key of a pipeline."""

from __future__ import annotations

import click

from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

SCHEMA_VERSION = 1


@click.command(epilog="Example: imagebuild pipeline schema > pipeline.schema.json")
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001 - it is JSON in any case
    """Print the JSON schema of pipelines; editors use it for completion."""
    from imagebuild.config.pipeline import file_schema

    terminal.json({"schema_version": SCHEMA_VERSION} | file_schema())
