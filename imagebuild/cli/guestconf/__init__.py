"""imagebuild config: what Trove's own configuration must say of images and registries."""

from __future__ import annotations

import click

from imagebuild.cli.lazygroup import lazy_group

COMMANDS = {
    "check": (
        "imagebuild.cli.guestconf.check", "check",
        "Find the known mistakes in Trove's configuration files.",
    ),
    "render": (
        "imagebuild.cli.guestconf.render", "render",
        "Write the fragments of trove.conf and trove-guestagent.conf for a mirror.",
    ),
}  # fmt: skip


@click.command("config", cls=lazy_group(COMMANDS))
def config() -> None:
    """Write and check the fragments of trove.conf and trove-guestagent.conf for a mirror."""
