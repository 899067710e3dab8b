"""imagebuild pipeline list: the pipelines that have a name."""

from __future__ import annotations

from pathlib import Path

import click

from imagebuild.cli.options import absolute, json_option, search_option
from imagebuild.cli.terminal import one_line, terminal

SCHEMA_VERSION = 1


@click.command("list", epilog="Example: imagebuild pipeline list")
@search_option
@json_option
def list_(profiles_path: tuple[Path, ...], as_json: bool) -> None:
    """List the pipelines that have a name: yours in ~/.config/imagebuild/pipeline, and ours."""
    from imagebuild.pipeline.loading import list_pipelines

    found = list_pipelines([absolute(p, "--profiles-path") for p in profiles_path])
    if as_json:
        rows = [
            {"name": n.name, "cells": n.cells, "error": n.error, "path": str(n.path)} for n in found
        ]
        terminal.json({"schema_version": SCHEMA_VERSION, "pipelines": rows})
        return
    table = [["NAME", "CELLS", "FILE"]]
    table += [[n.name, "invalid" if n.error else str(n.cells), str(n.path)] for n in found]
    width = max(len(one_line(row[0])) for row in table)
    for name, cells, path in table:
        terminal.data(f"{one_line(name).ljust(width)}  {cells.ljust(7)}  {one_line(path)}")
    for broken in (n for n in found if n.error):
        terminal.info(f"{broken.name} is not valid: {broken.error}")
