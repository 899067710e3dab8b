"""imagebuild datastore rollback DATASTORE [VERSION]."""

from __future__ import annotations

import click

from imagebuild.cli.datastore.options import (
    cloud_option,
    control_of,
    control_series_option,
    dry_run_option,
    region_option,
)
from imagebuild.cli.options import json_option


@click.command(epilog="Example: imagebuild datastore rollback mysql 8.4")
@click.argument("datastore")
@click.argument("version", required=False)
@click.option(
    "--force", is_flag=True, envvar="IMAGEBUILD_DATASTORE_FORCE", show_envvar=True,
    help="Go on although the image, or a newer one in its way, belongs to another project, or "
    "somebody has deactivated it.",
)  # fmt: skip
@control_series_option
@cloud_option
@region_option
@dry_run_option
@json_option
def rollback(
    datastore: str,
    version: str | None,
    force: bool,
    control_plane_series: str | None,
    cloud: str | None,
    region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let new instances get the image before the present one: what it replaced when it was
    promoted; where that is not known, the next older one with the version's tags.

    A second rollback changes nothing: it says which image is further back, for `promote`.
    """
    from imagebuild.cli.datastore import rotationview
    from imagebuild.cloud.connection import connect
    from imagebuild.datastore.rotation import Gates, propose_rollback

    gates = Gates(force=force, control=control_of(control_plane_series, None))
    connected = connect(cloud, region)
    proposal = propose_rollback(connected, datastore, version, gates)
    rotationview.run(connected, proposal, dry_run=dry_run, as_json=as_json)
