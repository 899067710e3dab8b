"""imagebuild datastore promote IMAGE DATASTORE [VERSION]."""

from __future__ import annotations

from pathlib import Path

import click

from imagebuild.cli import complete
from imagebuild.cli.datastore.options import (
    cloud_option,
    control_of,
    control_series_option,
    dry_run_option,
    region_option,
    trove_manage_of,
    trove_manage_option,
    trove_manage_timeout_option,
)
from imagebuild.cli.options import images_option, json_option


@click.command(
    epilog="Example: imagebuild datastore promote trove-guest-ubuntu-noble-amd64-1a2b3c4d mysql 8.4"
)
@click.argument("image", shell_complete=complete.artifact)
@click.argument("datastore")
@click.argument("version", required=False)
@click.option(
    "--dev", is_flag=True, envvar="IMAGEBUILD_DATASTORE_DEV", show_envvar=True,
    help="Let a dev image be promoted.",
)  # fmt: skip
@click.option(
    "--force", is_flag=True, envvar="IMAGEBUILD_DATASTORE_FORCE", show_envvar=True,
    help="Go on although the image, or a newer one in its way, belongs to another project, or "
    "somebody has deactivated it.",
)  # fmt: skip
@click.option(
    "--unless-rolled-back", is_flag=True, envvar="IMAGEBUILD_DATASTORE_UNLESS_ROLLED_BACK",
    show_envvar=True,
    help="Leave VERSION as it is when somebody has led it away from IMAGE: by `rollback`, or by "
    "promoting an older one. For what runs every night.",
)  # fmt: skip
@control_series_option
@trove_manage_option
@trove_manage_timeout_option
@images_option
@cloud_option
@region_option
@dry_run_option
@json_option
def promote(
    image: str,
    datastore: str,
    version: str | None,
    dev: bool,
    force: bool,
    unless_rolled_back: bool,
    control_plane_series: str | None,
    trove_manage: str | None,
    trove_manage_timeout: float,
    images_dir: Path,
    cloud: str | None,
    region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let new instances of a datastore version get IMAGE: Glance's id, a build id, an artifact
    or a name. VERSION may be left out where there is one.

    There is an image to be had at every moment. A version that has an image's id gets another
    by one request. For a version that goes by tags, IMAGE gets all of them at once; newer
    images with these tags then lose one. What will change is said first, other versions with
    the same tags included. Run again, it changes nothing; `rollback` takes it back.
    """
    from imagebuild.cli.datastore import rotationview
    from imagebuild.cloud.connection import connect
    from imagebuild.datastore.rotation import Gates, propose_promotion

    via = trove_manage_of(trove_manage, trove_manage_timeout)
    gates = Gates(
        force=force, dev=dev, control=control_of(control_plane_series, via),
        unless_taken_back=unless_rolled_back,
    )  # fmt: skip
    connected = connect(cloud, region)
    proposal = propose_promotion(connected, datastore, version, image, gates, images_dir)
    rotationview.run(connected, proposal, dry_run=dry_run, as_json=as_json)
