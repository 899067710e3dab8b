"""imagebuild pipeline export ENGINE PIPELINE: job definitions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import json_option, search_option
from imagebuild.cli.pipeline.options import load, pipeline_argument
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.pipeline.loading import LoadedPipeline

SCHEMA_VERSION = 1
#: As imagebuild.pipeline.export.ENGINES, which is not imported for --help.
ENGINES = ("github", "gitlab", "zuul", "systemd", "cron")


@click.command(epilog="Example: imagebuild pipeline export github ci/nightly.yaml --output .")
@click.argument("engine", type=click.Choice(ENGINES))
@pipeline_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
    envvar="IMAGEBUILD_PIPELINE_EXPORT_OUTPUT", show_envvar=True,
    shell_complete=complete.place("dir"),
    help="The top of the repository, or / for systemd and cron. [default: to stdout]",
)  # fmt: skip
@click.option(
    "--file", metavar="PATH", envvar="IMAGEBUILD_PIPELINE_EXPORT_FILE", show_envvar=True,
    help="The pipeline's file as jobs find it. [default: its path from the top of the git "
    "checkout that it is in; for systemd and cron, its absolute path]",
)  # fmt: skip
@click.option(
    "--check", is_flag=True, envvar="IMAGEBUILD_PIPELINE_EXPORT_CHECK", show_envvar=True,
    help="Write nothing; exit with 1 and show what differs when files are not up to date.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Write nothing; show what would change.",
)  # fmt: skip
@search_option
@json_option
def export(
    engine: str,
    pipeline: str,
    output: Path | None,
    file: str | None,
    check: bool,
    dry_run: bool,
    profiles_path: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Write the pipeline as job definitions of ENGINE.

    Of each image, a job builds, one verifies (on runners with KVM), and one publishes; each is
    a `pipeline run --cell ID --phase JOB`. systemd and cron run all of it on one host. Where
    runners are, and when it starts, is in the pipeline's file: engines.
    """
    from imagebuild.errors import ExitCode, UsageError
    from imagebuild.pipeline.export import HOSTS
    from imagebuild.pipeline.export import export as write

    if output is None and (check or dry_run):
        raise UsageError(
            "what are the files to be compared with?", hint="--output DIR says where they are"
        )
    loaded = load(pipeline, profiles_path)
    for note in loaded.notes:
        terminal.warning(note)
    named = file or _file(loaded, pipeline, on_host=engine in HOSTS)
    texts = write(loaded, engine, file=named)
    before = {name: _read(output / name) if output else None for name in texts}
    changed = [name for name, text in texts.items() if before[name] != text]
    if output and not (check or dry_run):
        _write(output, {name: texts[name] for name in changed})
    if as_json:
        terminal.json(
            {
                "schema_version": SCHEMA_VERSION,
                "engine": engine,
                "pipeline": loaded.value.name,
                "file": named,
                "output": str(output) if output else None,
                "up_to_date": output is not None and not changed,
                "files": [
                    {"path": name, "changed": name in changed, "text": text}
                    for name, text in texts.items()
                ],
            }
        )
    elif output is None:
        _print(texts)
    else:
        _tell(output, texts, before, changed, is_dry=check or dry_run)
    return int(ExitCode.FAILED if check and changed else ExitCode.OK)


def _file(loaded: LoadedPipeline, given: str, *, on_host: bool) -> str:
    """How jobs name the file: by its name, its path below the checkout, or from the root."""
    from imagebuild.errors import UsageError

    if loaded.is_from_pipe:
        raise UsageError(
            "jobs cannot read the pipeline from this pipe",
            hint="--file PATH says where they find it",
        )
    path = loaded.path.absolute()
    if "/" not in given and not given.endswith((".yaml", ".yml")):
        return given  # a name: the jobs' tool knows it, too
    if on_host:
        return str(path)
    top = next((d for d in path.parents if (d / ".git").exists()), None)
    if top is None:
        raise UsageError(
            "the pipeline's file is in no git checkout",
            where=str(path),
            hint="--file PATH says where jobs find it, from the top of the repository",
        )
    return str(path.relative_to(top))


def _read(path: Path) -> str | None:
    from imagebuild.errors import PreflightError

    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as exc:
        raise PreflightError(
            "a file cannot be read that would be written",
            where=str(path),
            detail=(isinstance(exc, OSError) and exc.strerror) or str(exc),
        ) from exc


def _write(output: Path, texts: Mapping[str, str]) -> None:
    from imagebuild.errors import PreflightError
    from imagebuild.outfile import put

    for name, text in texts.items():
        try:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise PreflightError(
                "a directory cannot be made", where=str((output / name).parent),
                detail=exc.strerror or str(exc),
            ) from exc  # fmt: skip
        put(output / name, text)


def _print(texts: Mapping[str, str]) -> None:
    for number, (name, text) in enumerate(texts.items()):
        if len(texts) > 1:
            terminal.data(("\n" if number else "") + f"# ---- {name}")
        terminal.data(text)


def _tell(
    output: Path,
    texts: Mapping[str, str],
    before: Mapping[str, str | None],
    changed: list[str],
    *,
    is_dry: bool,
) -> None:
    for name in texts:
        state = "up to date"
        if name in changed:
            state = "missing" if before[name] is None else "not up to date"
            state = state if is_dry else "written"
        terminal.info(f"{output / name}: {state}")
    for name in changed if is_dry else ():
        old = before[name]
        lines = difflib.unified_diff(
            (old or "").splitlines(), texts[name].splitlines(),
            "/dev/null" if old is None else name, name, lineterm="",
        )  # fmt: skip
        terminal.data("\n".join(lines))
