"""The `imagebuild` command: finds the verb, runs it, turns errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from imagebuild import __version__
from imagebuild.cli import errorfile
from imagebuild.cli.terminal import terminal
from imagebuild.errors import ExitCode, ImagebuildError, Interrupted, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: verb -> (module, one-line help). The module is imported when the verb is used, so
#: that `--help` and shell completion stay fast.
VERBS: dict[str, tuple[str, str]] = {
    "backup-image": ("imagebuild.cli.backupimage", "Build Trove's backup container images."),
    "build": ("imagebuild.cli.build", "Build a guest image."),
    "cache": ("imagebuild.cli.cache", "List, prune and check what earlier builds left to reuse."),
    "clean": ("imagebuild.cli.clean", "Remove what killed builds left, or the whole cache."),
    "config": ("imagebuild.cli.guestconf", "Write and check Trove's configuration of images."),
    "datastore": ("imagebuild.cli.datastore", "Give Trove's datastore versions their images."),
    "diff": ("imagebuild.cli.diff", "Say what differs between two artifacts."),
    "doctor": ("imagebuild.cli.doctor", "Say whether this host is ready, and what mends it."),
    "explain": ("imagebuild.cli.explain", "Say what a log means, and what to do."),
    "inspect": ("imagebuild.cli.inspect", "Say what is in an artifact."),
    "mirror": ("imagebuild.cli.mirror", "Copy container images into a private registry."),
    "pipeline": ("imagebuild.cli.pipeline", "Do all of it every night, for many images."),
    "upload": ("imagebuild.cli.upload", "Upload an image to one or several clouds."),
    "verify": ("imagebuild.cli.verify", "Prove that an image works before anyone uses it."),
    "profile": ("imagebuild.cli.profile", "List, show and check profiles."),
}


class _LibraryLog(logging.Handler):
    """Shows log records of libraries when verbose."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.detail(f"{record.name}: {record.getMessage()}")


class LazyGroup(click.Group):
    """A click group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(VERBS[cmd_name][0])
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101 - a slip of ours, not of the user
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs, without the import of their modules that click would do; and options."""
        from click.shell_completion import CompletionItem

        options = click.Command.shell_complete(self, ctx, incomplete)
        verbs = [(v, text) for v, (_, text) in sorted(VERBS.items()) if v.startswith(incomplete)]
        return [*(CompletionItem(verb, help=text) for verb, text in verbs), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in sorted(VERBS.items())])


@click.command(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "IMAGEBUILD",
        "max_content_width": 100,
    },
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 preflight, 5 verify, "
    "6 publish, 7 policy, 75 try again later, 130/143 interrupted.",
)
@click.version_option(
    __version__, "-V", "--version", message="imagebuild %(version)s",
    allow_from_autoenv=False,  # a pipeline's IMAGEBUILD_VERSION=1.2 is not meant as this flag
)  # fmt: skip
@click.option(
    "-v", "--verbose", is_flag=True, show_envvar=True, help="Say more; show DIB's own output."
)
@click.option("-q", "--quiet", is_flag=True, show_envvar=True, help="Say only warnings and errors.")
@click.option("--no-color", is_flag=True, show_envvar=True, help="No colour (NO_COLOR works too).")
@click.option("--debug", is_flag=True, show_envvar=True, help="Show a traceback with an error.")
def cli(verbose: bool, quiet: bool, no_color: bool, debug: bool) -> None:
    """Make, prove, publish and feed the guest images of OpenStack Trove."""
    _check_directory()
    verbosity = 1 if verbose else -1 if quiet else 0
    terminal.configure(verbosity=verbosity, no_color=no_color, debug=debug)
    # What libraries log is for who asked for more: our own errors say what matters.
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryLog()], force=True)


def _check_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - the question is whether there is one
    except OSError as exc:
        raise UsageError(
            "the current directory is not there any more",
            detail=exc.strerror or str(exc),
            hint="change to another directory",
        ) from exc


#: The signal that has asked us to end; empty: none has.
_signals: list[int] = []


def raise_interrupted(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # One exception for both signals, so that every `finally` runs.
    _signals[:] = [signum]
    raise Interrupted(signum)


def run(argv: list[str]) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code.

    What goes wrong is said on the terminal, and in $IMAGEBUILD_ERROR_FILE (cli/errorfile.py).
    """
    errorfile.clear()
    try:
        # Without standalone mode click hands back the code of an Exit, else what a verb returns.
        code = cli.main(args=argv, prog_name="imagebuild", standalone_mode=False)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        terminal.usage(exc)
        errorfile.write(UsageError(exc.format_message(), hint="--help shows the options"))
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        errorfile.write(Interrupted(signal.SIGINT))
        return int(ExitCode.INTERRUPTED)
    except ImagebuildError as exc:
        if terminal.debug:
            terminal.traceback()
        # The signal may come inside a library that makes an error of its own of every exception.
        error = Interrupted(_signals[0]) if _signals else exc
        errorfile.write(error)
        terminal.error(error)
        return int(error.exit_code)
    except OSError as exc:
        # What no part of the tool foresaw: a disk that is full, a file that is closed to us.
        if terminal.debug:
            terminal.console.print_exception()
        error = _of_system(exc)
        errorfile.write(error)
        terminal.error(error)
        return int(ExitCode.FAILED)
    return code if isinstance(code, int) else 0


def _of_system(exc: OSError) -> ImagebuildError:
    return ImagebuildError(
        exc.strerror or str(exc) or type(exc).__name__,
        where=str(exc.filename or ""),
        hint="--debug shows where it happened",
    )


def main() -> NoReturn:
    """Entry point of the console script."""
    # Of the collector's passes over a thousand new modules none finds anything, and they are a
    # quarter of the time that importing openstacksdk takes.
    gc.set_threshold(50_000, 20, 100)
    # The reader of our output may go away (`imagebuild … | head`): end quietly, as others do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, raise_interrupted)
    signal.signal(signal.SIGTERM, raise_interrupted)
    sys.exit(run(sys.argv[1:]))
