"""imagebuild mirror list: the mirror lists that have a name."""

from __future__ import annotations

import click

from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import one_line, terminal

SCHEMA_VERSION = 1


@click.command("list", epilog="Example: imagebuild mirror list")
@json_option
def list_(as_json: bool) -> None:
    """List the mirror lists that have a name: yours in ~/.config/imagebuild/mirror, and ours."""
    from imagebuild.mirror.loading import list_lists

    found = list_lists()
    if as_json:
        rows = [
            {"name": n.name, "images": n.images, "error": n.error, "path": str(n.path)}
            for n in found
        ]
        terminal.json({"schema_version": SCHEMA_VERSION, "lists": rows})
        return
    table = [["NAME", "IMAGES", "FILE"]]
    table += [[n.name, "invalid" if n.error else str(n.images), str(n.path)] for n in found]
    width = max(len(row[0]) for row in table)
    for name, images, path in table:
        terminal.data(f"{one_line(name).ljust(width)}  {images.ljust(7)}  {one_line(path)}")
    for broken in (n for n in found if n.error):
        terminal.info(f"{broken.name} is not valid: {broken.error}")
