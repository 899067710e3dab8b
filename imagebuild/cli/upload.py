"""imagebuild upload ARTIFACT: an artifact becomes an image of one or several clouds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from imagebuild.cli import complete
from imagebuild.cli.options import (
    KeyValue,
    absolute,
    cache_option,
    images_option,
    json_option,
)
from imagebuild.cli.sockets import connections
from imagebuild.cli.terminal import terminal

SCHEMA_VERSION = 1
_VISIBILITIES = ("private", "shared", "community", "public")


def _visibility_options(function: Any) -> Any:  # noqa: ANN401 - click's decorators
    texts = {
        "private": "Only its own project sees it (the default for a new image).",
        "shared": "Its own project, and those that it is shared with.",
        "community": "Everybody can use it, nobody has it in the list.",
        "public": "Everybody has it; Glance lets only administrators do that.",
    }
    for name in reversed(_VISIBILITIES):
        function = click.option(
            f"--{name}", f"is_{name}", is_flag=True, envvar=f"IMAGEBUILD_{name.upper()}",
            show_envvar=True, help=texts[name],
        )(function)  # fmt: skip
    return function


@click.command(
    epilog="Example: imagebuild upload trove-guest-ubuntu-jammy-amd64 --cloud prod "
    "--datastore mysql"
)
@click.argument("artifact", type=click.Path(path_type=Path), shell_complete=complete.artifact)
@click.option(
    "--cloud", "clouds", multiple=True, metavar="NAME", envvar="IMAGEBUILD_CLOUD", show_envvar=True,
    help="A cloud of clouds.yaml. [default: as OS_CLOUD or the other OS_* variables say] "
    "(repeatable)",
)  # fmt: skip
@click.option(
    "--parallel", is_flag=True, envvar="IMAGEBUILD_PARALLEL", show_envvar=True,
    help="Upload to all clouds at the same time, not one after the other.",
)  # fmt: skip
@click.option(
    "--name", envvar="IMAGEBUILD_IMAGE_NAME", show_envvar=True,
    help="The image's name. [default: the artifact's]",
)  # fmt: skip
@click.option(
    "--datastore", "datastores", multiple=True, metavar="NAME", envvar="IMAGEBUILD_DATASTORE",
    show_envvar=True,
    help="A datastore that the image is for, like mysql: its name becomes a tag beside trove "
    "(repeatable).",
)  # fmt: skip
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", envvar="IMAGEBUILD_TAG", show_envvar=True,
    help="A tag, instead of trove and the datastores' names (repeatable).",
)  # fmt: skip
@click.option(
    "--candidate", is_flag=True, envvar="IMAGEBUILD_CANDIDATE", show_envvar=True,
    help="No tags yet: `datastore promote` gives them.",
)  # fmt: skip
@click.option(
    "--property", "properties", multiple=True, type=KeyValue(), envvar="IMAGEBUILD_PROPERTY",
    show_envvar=True,
    help="A property, beside or instead of those that the artifact gives; KEY= leaves one out "
    "(repeatable; in the environment, ';' stands between several).",
)  # fmt: skip
@_visibility_options
@click.option(
    "--protected", is_flag=True, envvar="IMAGEBUILD_PROTECTED", show_envvar=True,
    help="Glance refuses to delete it.",
)  # fmt: skip
@click.option(
    "--min-disk", type=click.IntRange(min=0), metavar="GIB", envvar="IMAGEBUILD_MIN_DISK",
    show_envvar=True, help="Disk that a flavor must have. [default: the image's virtual size]",
)  # fmt: skip
@click.option(
    "--min-ram", type=click.IntRange(min=0), metavar="MIB", envvar="IMAGEBUILD_MIN_RAM",
    show_envvar=True, help="Memory that a flavor must have. [default: 1024]",
)  # fmt: skip
@click.option(
    "--format", "fmt", type=click.Choice(("qcow2", "raw", "vmdk", "vhd")),
    envvar="IMAGEBUILD_UPLOAD_FORMAT", show_envvar=True,
    help="Which of the artifact's images. [default: the first of these that it has]",
)  # fmt: skip
@click.option(
    "--convert", is_flag=True, envvar="IMAGEBUILD_CONVERT", show_envvar=True,
    help="A raw image, for clouds whose store wants that (Ceph); made here unless the artifact "
    "has a verified one.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(("direct", "glance-direct", "web-download")),
    envvar="IMAGEBUILD_UPLOAD_METHOD", show_envvar=True,
    help="How the bytes get there: by an upload, by a staged import, or by the cloud's own "
    "download of --url. [default: direct; web-download with --url]",
)  # fmt: skip
@click.option(
    "--url", metavar="URL", envvar="IMAGEBUILD_UPLOAD_URL", show_envvar=True,
    help="Where the cloud can fetch the very file.",
)  # fmt: skip
@click.option(
    "--timeout", metavar="TIME", default="30m", show_default=True,
    envvar="IMAGEBUILD_UPLOAD_TIMEOUT", show_envvar=True,
    help="Limit of an import, and of a cloud's silence.",
)  # fmt: skip
@click.option(
    "--unverified", is_flag=True, envvar="IMAGEBUILD_UNVERIFIED", show_envvar=True,
    help="Publish although `verify` has not said that the image is good.",
)  # fmt: skip
@click.option(
    "--control-plane-series", metavar="SERIES", envvar="IMAGEBUILD_CONTROL_PLANE_SERIES",
    show_envvar=True, shell_complete=complete.word("Series"),
    help="Series of the Trove that the image is for, like 2025.2: one whose guest agent is of "
    "another is refused.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Ask the clouds, say what would be done, change nothing.",
)  # fmt: skip
@images_option
@cache_option
@json_option
@click.pass_context
def upload(
    context: click.Context,
    /,
    artifact: Path,
    clouds: tuple[str, ...],
    parallel: bool,
    name: str | None,
    datastores: tuple[str, ...],
    tags: tuple[str, ...],
    candidate: bool,
    properties: tuple[str, ...],
    protected: bool,
    min_disk: int | None,
    min_ram: int | None,
    fmt: str | None,
    convert: bool,
    method: str | None,
    url: str | None,
    timeout: str,
    unverified: bool,
    control_plane_series: str | None,
    dry_run: bool,
    images_dir: Path,
    cache_dir: Path,
    as_json: bool,
    **visibilities: bool,
) -> None:
    """Upload an artifact's image to Glance, once.

    ARTIFACT is its directory, its manifest.json, one of its images, or a name below
    IMAGES_DIR. What the cloud has of this build is not uploaded again; only what differs in
    its record is changed. A new image gets its tags and its visibility when its data are
    proven to be right, so that Trove never finds a half one.
    """
    from imagebuild.cli.uploadview import View
    from imagebuild.manifest import open_artifact
    from imagebuild.publish import clouds as engine
    from imagebuild.publish.describe import Choice
    from imagebuild.publish.job import Way, prepare

    choice = Choice(
        name=name,
        tags=tags,
        datastores=datastores,
        properties=_properties(properties),
        visibility=_visibility(context, visibilities),
        min_disk=min_disk,
        min_ram=min_ram,
        candidate=candidate,
        protected=protected,
    )
    way = Way(cache_dir, _method(method, url, convert=convert), url, _seconds(timeout), dry_run)
    view = open_artifact(artifact, absolute(images_dir, "--images-dir"))
    fmt = fmt or (None if convert else _format_of(artifact))
    _check_format(fmt, convert=convert)
    job = prepare(
        view, choice, way, fmt=fmt, convert=convert, unverified=unverified,
        control_plane=control_plane_series,
    )  # fmt: skip
    shown = View(terminal, is_several=len(clouds) > 1)
    shown.plan(job)
    if job.warning:
        terminal.warning(job.warning)
    with connections(), shown.live():
        results = engine.publish(
            clouds or (None,), job, shown, parallel=parallel and not dry_run, done=shown.done
        )
    shown.summary(results)
    if as_json:
        terminal.json(
            {
                "schema_version": SCHEMA_VERSION,
                "dry_run": dry_run,
                "artifact": view.name,
                "build_id": view.build_id,
                "file": job.source.image.path.name,
                "image": job.description.to_json(),
                "warning": job.warning,
                "clouds": [r.to_json() for r in results],
            }
        )
    context.exit(int(engine.exit_code(results)))


def _properties(texts: Sequence[str]) -> dict[str, str | None]:
    from imagebuild.errors import UsageError

    found: dict[str, str | None] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--property {text}: KEY=VALUE is expected")
        found[name] = value or None
    return found


def _visibility(context: click.Context, flags: dict[str, bool]) -> str | None:
    """The one that was asked for; the command line's word stands above the environment's."""
    from imagebuild.errors import UsageError

    given = [n for n in _VISIBILITIES if flags[f"is_{n}"]]
    here = ParameterSource.COMMANDLINE
    spoken = [n for n in given if context.get_parameter_source(f"is_{n}") is here]
    given = spoken or given
    if len(given) > 1:
        raise UsageError("an image has one visibility", detail=" ".join(f"--{n}" for n in given))
    return given[0] if given else None


def _method(method: str | None, url: str | None, *, convert: bool) -> str:
    from imagebuild.errors import UsageError

    chosen = method or ("web-download" if url else "direct")
    if (chosen == "web-download") != bool(url):
        raise UsageError("--method web-download and --url belong together")
    if url and convert:
        raise UsageError("--convert and --url exclude each other: what --url has is taken as it is")
    return chosen


def _seconds(text: str) -> float:
    from imagebuild.config.values import parse_duration
    from imagebuild.errors import UsageError

    try:
        return float(parse_duration(text))
    except ValueError as exc:
        raise UsageError(f"--timeout {text}: {exc}") from exc


def _format_of(artifact: Path) -> str | None:
    """The format that somebody means who names an image file."""
    suffix = artifact.suffix.removeprefix(".")
    return suffix if suffix in ("qcow2", "raw", "vmdk", "vhd") and artifact.is_file() else None


def _check_format(fmt: str | None, *, convert: bool) -> None:
    from imagebuild.errors import UsageError

    if convert and fmt not in (None, "raw"):
        raise UsageError("--convert makes raw images; --format names another one")
