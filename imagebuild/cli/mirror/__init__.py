"""imagebuild mirror: database and backup images into a private registry."""

from __future__ import annotations

import click

from imagebuild.cli.lazygroup import lazy_group
from imagebuild.cli.sockets import connections

COMMANDS = {
    "check": (
        "imagebuild.cli.mirror.check", "check",
        "Say whether the registry has all that the list and Trove want of it.",
    ),
    "export": (
        "imagebuild.cli.mirror.export", "export",
        "Write the images of a list to a directory or tar file, for a site without network.",
    ),
    "import": (
        "imagebuild.cli.mirror.import_", "import_",
        "Bring what was exported into a registry, every digest checked.",
    ),
    "list": (
        "imagebuild.cli.mirror.list_", "list_",
        "List the mirror lists that have a name.",
    ),
    "plan": (
        "imagebuild.cli.mirror.plan", "plan",
        "Say what a sync would do, and how many bytes it would move.",
    ),
    "prune": (
        "imagebuild.cli.mirror.prune", "prune",
        "Remove tags of ours that the list does not have any more.",
    ),
    "schema": (
        "imagebuild.cli.mirror.schema", "schema",
        "Print the JSON schema of mirror lists.",
    ),
    "serve": (
        "imagebuild.cli.mirror.serve", "serve",
        "Start a registry on this host.",
    ),
    "sync": (
        "imagebuild.cli.mirror.sync", "sync",
        "Copy what the registry does not have yet.",
    ),
}  # fmt: skip


@click.command("mirror", cls=lazy_group(COMMANDS, connections))
def mirror() -> None:
    """Copy database and backup images into a private registry, registry to registry.

    MIRROR is a list (YAML), or the name of one that comes with the tool: `trove`.
    """
