"""imagebuild mirror plan MIRROR: what a sync would do."""

from __future__ import annotations

from pathlib import Path

import click

from imagebuild.cli.mirror.options import (
    engine_option,
    list_argument,
    load,
    lock_option,
    lock_place,
    locked_option,
    only_option,
    target_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal


@click.command(
    epilog="Example: imagebuild mirror plan trove --target registry.example.org:5000/trove"
)
@list_argument
@target_option
@only_option
@locked_option
@lock_option
@engine_option
@json_option
@click.pass_context
def plan(
    context: click.Context,
    /,
    mirror_list: str,
    target: str | None,
    only: tuple[str, ...],
    locked: bool,
    lock: Path | None,
    engine: str,
    as_json: bool,
) -> None:
    """Say what a sync would do, and how many bytes it would move.

    MIRROR is a file, `-` for one from a pipe, or the name of a list: `trove`. Both registries
    are asked, nothing is changed. Ends with 6 when a source does not have what the list asks
    for.
    """
    from imagebuild.cli.mirror import planview

    loaded = load(mirror_list, target)
    made = planview.make(loaded, only, lock_place(loaded, lock), engine, locked=locked)
    if as_json:
        terminal.json(planview.document(loaded, made, locked=locked, engine=engine))
    else:
        planview.show(terminal, loaded, made)
    context.exit(int(planview.exit_code(made)))
