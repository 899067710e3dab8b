"""imagebuild pipeline: what is done every night."""

from __future__ import annotations

import click

from imagebuild.cli.lazygroup import lazy_group
from imagebuild.cli.sockets import connections

COMMANDS = {
    "collect": (
        "imagebuild.cli.pipeline.collect", "collect",
        "Merge the reports of several machines into one.",
    ),
    "export": (
        "imagebuild.cli.pipeline.export", "export",
        "Write job definitions for GitHub, GitLab, Zuul, systemd or cron.",
    ),
    "list": (
        "imagebuild.cli.pipeline.list_", "list_",
        "List the pipelines that have a name.",
    ),
    "plan": (
        "imagebuild.cli.pipeline.plan", "plan",
        "Say what a run would do: cells, needs, and what has not changed.",
    ),
    "run": (
        "imagebuild.cli.pipeline.run", "run",
        "Mirror, build, verify, upload, promote, retire.",
    ),
    "schema": (
        "imagebuild.cli.pipeline.schema", "schema",
        "Print the JSON schema of pipelines.",
    ),
}  # fmt: skip


@click.command("pipeline", cls=lazy_group(COMMANDS, connections))
def pipeline() -> None:
    """Do every night what an image's life is: mirror, build, verify, upload, promote, retire.

    PIPELINE is a file (YAML), or the name of one.
    """
