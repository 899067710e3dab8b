"""imagebuild datastore: Trove's datastore versions and the images behind them."""

from __future__ import annotations

import click

from imagebuild.cli.lazygroup import lazy_group
from imagebuild.cli.sockets import connections

#: command -> (module, its name there, one-line help). The module is imported on use.
COMMANDS = {
    "create": (
        "imagebuild.cli.datastore.create", "create",
        "Make a datastore version, or what it should be of one that is there.",
    ),
    "list": (
        "imagebuild.cli.datastore.list", "list_",
        "List datastore versions with the image behind each.",
    ),
    "load-parameters": (
        "imagebuild.cli.datastore.load_parameters", "load_parameters",
        "Load the configuration parameters of a release into a version.",
    ),
    "promote": (
        "imagebuild.cli.datastore.promote", "promote",
        "Let new instances get another image, with no moment without one.",
    ),
    "retire": (
        "imagebuild.cli.datastore.retire", "retire",
        "Deactivate, later delete older images that nothing uses any more.",
    ),
    "rollback": (
        "imagebuild.cli.datastore.rollback", "rollback",
        "Let new instances get the image before the present one.",
    ),
}  # fmt: skip


@click.command("datastore", cls=lazy_group(COMMANDS, connections))
def datastore() -> None:
    """Give Trove's datastore versions their images, and see what is behind each.

    All of it needs an administrator's credentials, as Trove does.
    """
