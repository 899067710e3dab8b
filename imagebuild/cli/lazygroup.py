"""Groups of commands whose modules are imported on use, so that `--help` stays fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import click

#: command -> (module, its name there, one-line help)
Commands = Mapping[str, tuple[str, str, str]]


def lazy_group(
    commands: Commands, around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> type[click.Group]:
    """A class of click groups with these commands; `around` is entered for each call of one."""

    class _Group(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
            return sorted(commands)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
            if cmd_name not in commands:
                return None
            module, attribute, _help = commands[cmd_name]
            command = getattr(importlib.import_module(module), attribute)
            assert isinstance(command, click.Command)  # noqa: S101 - a slip of ours, not of the user
            return command

        def invoke(self, ctx: click.Context) -> object:
            with around():
                return super().invoke(ctx)

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
            with formatter.section("Commands"):
                formatter.write_dl([(n, told) for n, (_, _, told) in sorted(commands.items())])

    return _Group
