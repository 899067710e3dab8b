"""imagebuild clean: remove what dead builds left, or the whole cache."""

from __future__ import annotations

import os
from pathlib import Path

import click

from imagebuild.cli.options import cache_option, json_option
from imagebuild.cli.terminal import terminal


@click.command()
@click.option(
    "--all", "everything", is_flag=True, envvar="IMAGEBUILD_ALL", show_envvar=True,
    help="Remove the store, downloads and logs, too; what a build is using stays.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what would be removed, change nothing.",
)  # fmt: skip
@cache_option
@json_option
def clean(everything: bool, dry_run: bool, cache_dir: Path, as_json: bool) -> None:
    """Remove the scratch space of builds that were killed, and what they left in docker.

    The next build does that, too. Finished images are never touched.
    """
    from imagebuild import cleaning
    from imagebuild.backupimage import dockerengine

    found = cleaning.find(cache_dir, everything=everything)
    if found and not dry_run:
        found = cleaning.remove(cache_dir, found, everything=everything)
    builds = dockerengine.leftovers(os.environ)
    if not dry_run:
        dockerengine.remove(os.environ, builds)
    removed = [*map(str, found), *(f"docker: images of {Path(b).stem}" for b in builds)]
    if as_json:
        document = {"schema_version": 1, "dry_run": dry_run, "removed": removed}
        terminal.json(document)
        return
    for what in removed:
        terminal.info(f"{'would remove' if dry_run else 'removed'} {what}")
    if not removed:
        terminal.info("nothing to remove")
