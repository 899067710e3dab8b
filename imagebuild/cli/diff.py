"""imagebuild diff A B: what differs between two artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import absolute, images_option, json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.compare import Comparison

SCHEMA_VERSION = 1
_STYLES = {
    "added": "green", "removed": "red", "upgraded": "green", "downgraded": "yellow",
}  # fmt: skip


@click.command(epilog="Example: imagebuild diff trove-guest-debian-bookworm-amd64-1a2b3c4d "
               "trove-guest-debian-bookworm-amd64")  # fmt: skip
@click.argument(
    "before", type=click.Path(path_type=Path), metavar="A", shell_complete=complete.artifact
)
@click.argument(
    "after", type=click.Path(path_type=Path), metavar="B", shell_complete=complete.artifact
)
@click.option(
    "--markdown", is_flag=True, envvar="IMAGEBUILD_MARKDOWN", show_envvar=True,
    help="Print Markdown, for a mail or a page.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, metavar="N",
    envvar="IMAGEBUILD_LIMIT", show_envvar=True,
    help="Rows of a table at most; 0 shows all. JSON has all in any case.",
)  # fmt: skip
@click.option(
    "--exit-code", is_flag=True, envvar="IMAGEBUILD_EXIT_CODE", show_envvar=True,
    help="End with status 1 when anything differs.",
)  # fmt: skip
@images_option
@json_option
@click.pass_context
def diff(
    context: click.Context,
    before: Path,
    after: Path,
    markdown: bool,
    limit: int,
    exit_code: bool,
    images_dir: Path,
    as_json: bool,
) -> None:
    """Say what differs between two artifacts: packages, agent, elements, units, users,
    profile, sizes, and every file of the root filesystems.

    A and B are directories of artifacts, their manifests or images, or names below
    IMAGES_DIR. Names and build ids are no difference: two builds that are reproducible have
    none.
    """
    from imagebuild import diffreport
    from imagebuild.compare import compare
    from imagebuild.errors import UsageError
    from imagebuild.manifest import open_artifact

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other")
    images = absolute(images_dir, "--images-dir")
    comparison = compare(open_artifact(before, images), open_artifact(after, images))
    if as_json:
        terminal.json({"schema_version": SCHEMA_VERSION, **comparison.to_json()})
    elif markdown:
        terminal.data(diffreport.markdown(comparison, limit))
    else:
        _show(comparison, limit)
    if exit_code and comparison.differences:
        context.exit(1)


def _show(comparison: Comparison, limit: int) -> None:
    from rich.text import Text

    from imagebuild import diffreport
    from imagebuild.cli.tables import Tables

    tables = Tables(terminal.out)
    style = "bold yellow" if comparison.differences else "bold green"
    tables.line(Text(diffreport.summary(comparison), style))
    tables.line(f"before: {comparison.before.name}")
    tables.line(f"after:  {comparison.after.name}")
    tables.line(diffreport.root_filesystems(comparison))
    if comparison.files:
        tables.line(diffreport.file_kinds(comparison))
    for text in comparison.skipped:
        tables.line(Text(f"not compared: {text}", "yellow"))
    for table in diffreport.tables(comparison):
        rows, more = table.cut(limit)
        styles = [_STYLES.get(row[1], "") for row in rows]
        tables.table(
            f"{table.title} ({len(table.rows)})", table.columns, rows, table.numeric, styles
        )
        if more:
            tables.line(Text(f"  … and {more} more", "dim"))
