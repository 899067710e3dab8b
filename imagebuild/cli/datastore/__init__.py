"""imagebuild datastore: Trove's datastore versions and the images behind them."""

from __future__ import annotations

import importlib

import click

from imagebuild.cli.sockets import connections

#: command -> (module, its name there, one-line help). The module is imported on use.
COMMANDS: dict[str, tuple[str, str, str]] = {
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


class _Group(click.Group):
    """A click group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _help = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - a slip of ours, not of the user
        return command

    def invoke(self, ctx: click.Context) -> object:
        with connections():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, _, told) in sorted(COMMANDS.items())])


@click.command("datastore", cls=_Group)
def datastore() -> None:
    """Give Trove's datastore versions their images, and see what is behind each.

    All of it needs an administrator's credentials, as Trove does.
    """
