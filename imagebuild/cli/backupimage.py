"""imagebuild backup-image: Trove's backup container images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.options import absolute, cache_option, json_option
from imagebuild.cli.sockets import connections
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.backupimage.job import Prepared, Request, Result
    from imagebuild.backupimage.redirects import Redirects
    from imagebuild.registry.reference import Reference

SCHEMA_VERSION = 1


@click.group("backup-image")
def backup_image() -> None:
    """Build the container images that a guest makes backups with."""


def _source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is built, and of what."""
    for option in reversed(
        (
            click.option(
                "--trove-source", metavar="SOURCE", envvar="IMAGEBUILD_TROVE_SOURCE",
                show_envvar=True, shell_complete=complete.place("dir"),
                help="Trove's source: pypi:trove==VERSION, git+URL@REF or a path. "
                "[default: the release of --trove-series]",
            ),
            click.option(
                "--trove-series", metavar="SERIES", envvar="IMAGEBUILD_TROVE_SERIES",
                show_envvar=True, shell_complete=complete.word("Series"),
                help="OpenStack series whose release of Trove is taken, like 2025.2. "
                "[default: the newest]",
            ),
            click.option(
                "--base-image", metavar="REF", default="", envvar="IMAGEBUILD_BASE_IMAGE",
                show_envvar=True,
                help="Image to build on, of Ubuntu or Debian. [default: the Dockerfile's]",
            ),
            click.option(
                "--packages-from", type=click.Choice(("upstream", "distribution")),
                default="upstream", show_default=True, envvar="IMAGEBUILD_PACKAGES_FROM",
                show_envvar=True,
                help="Where the database's tools come from: as Trove's install.sh has it (Percona, "
                "MariaDB, PGDG), or the base image's own distribution.",
            ),
            click.option(
                "--platform", metavar="[linux/]ARCH", default="", envvar="IMAGEBUILD_PLATFORM",
                show_envvar=True,
                help="Architecture, amd64 or arm64; another one than the host's needs an emulator "
                "(qemu-user-static). [default: the host's]",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _network_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the build fetches from."""
    for option in reversed(
        (
            click.option(
                "--apt-mirror", metavar="URL", default="", envvar="IMAGEBUILD_APT_MIRROR",
                show_envvar=True,
                help="Archive to install from, instead of Ubuntu's or Debian's own. A login in it "
                "gets into no image and no log; on the command line, others see it: use the "
                "environment.",
            ),
            click.option(
                "--pip-index", metavar="URL", default="", envvar="IMAGEBUILD_PIP_INDEX",
                show_envvar=True,
                help="Package index for Python's packages; as to a login, see --apt-mirror. "
                "[default: PIP_INDEX_URL, else PyPI]",
            ),
            click.option(
                "--redirect", "redirects", multiple=True, metavar="URL=URL",
                envvar="IMAGEBUILD_REDIRECT", show_envvar=True,
                help="Fetch what begins with the first from the second: a mirror of "
                "https://repo.percona.com, say (repeatable).",
            ),
            click.option(
                "--ca", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                envvar="IMAGEBUILD_CA", show_envvar=True, shell_complete=complete.place("file"),
                help="PEM file with CAs that downloads of the build trust, too; the image does not "
                "get it.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the image goes."""
    for option in reversed(
        (
            click.option(
                "--target", metavar="REF", default="", envvar="IMAGEBUILD_BACKUP_TARGET",
                show_envvar=True,
                help="What it is called in which registry; the tag is VERSION when it has none. "
                "http:// before it: the registry has no TLS.",
            ),
            click.option(
                "--mirror", "mirror_list", metavar="LIST", default="",
                envvar="IMAGEBUILD_MIRROR_LIST", show_envvar=True,
                shell_complete=complete.mirror_list,
                help="Mirror list whose target it goes to, under the name that the list has for "
                "it; --target, or else IMAGEBUILD_MIRROR_TARGET, then takes REGISTRY[/PREFIX].",
            ),
            click.option(
                "--tag", "tags", multiple=True, metavar="TAG", envvar="IMAGEBUILD_BACKUP_TAG",
                show_envvar=True,
                help="A further tag: guests of MySQL ask for the exact version (repeatable).",
            ),
            click.option(
                "--no-push", is_flag=True, envvar="IMAGEBUILD_NO_PUSH", show_envvar=True,
                help="Leave registries alone; see --output.",
            ),
            click.option(
                "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                envvar="IMAGEBUILD_BACKUP_OUTPUT", show_envvar=True,
                shell_complete=complete.place("file"),
                help="Write the image there, too: a tar archive of an OCI layout.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@backup_image.command(
    epilog="Example: imagebuild backup-image build mysql 8.4 --tag 8.4.6 "
    "--target registry.example.org:5000/trove-datastores/db-backup-mysql"
)
@click.argument("datastore")
@click.argument("version")
@_source_options
@_network_options
@click.option(
    "--builder", type=click.Choice(("auto", "docker", "buildah")), default="auto",
    show_default=True, envvar="IMAGEBUILD_BUILDER", show_envvar=True,
    help="What builds: a docker engine, or buildah, which needs none. auto takes what is there.",
)  # fmt: skip
@_target_options
@click.option(
    "--timeout", metavar="TIME", default="1h", show_default=True,
    envvar="IMAGEBUILD_BACKUP_TIMEOUT", show_envvar=True, help="Limit of the build.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say what would be built, with the Dockerfile; build and push nothing.",
)  # fmt: skip
@cache_option
@json_option
def build(
    datastore: str,
    version: str,
    target: str,
    mirror_list: str,
    tags: tuple[str, ...],
    no_push: bool,
    dry_run: bool,
    cache_dir: Path,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click's values, each named in `_request`
) -> None:
    """Build Trove's backup image for DATASTORE and VERSION, and push it.

    DATASTORE is mysql, mariadb or postgresql. When the image is built, the tools that its backups
    need are run in it: one that cannot do its work is not pushed.
    """
    from imagebuild.backupimage import job
    from imagebuild.cli.backuptarget import find_targets
    from imagebuild.cli.backupview import View, show_plan
    from imagebuild.registry.client import Client

    targets, settings = find_targets(datastore, version, target, mirror_list, tags)
    targets = () if no_push else targets
    request = _request(datastore, version, targets, options)
    if not (targets or request.output or dry_run):
        raise _nowhere(no_push=no_push)
    view = View(terminal)
    with connections(), view.live(), Client(settings, emit=view) as client, \
         job.workplace(cache_dir, os.environ) as directory:  # fmt: skip
        prepared = job.prepare(client, request, cache_dir, directory, os.environ)
        if prepared.note:
            terminal.warning(prepared.note)
        if dry_run:
            result = None
        else:
            view.plan(prepared)
            result = job.build(client, prepared, cache_dir, directory, os.environ, view)
    if result:
        view.summary(prepared, result)
    if as_json:
        terminal.json(_document(prepared, result))
    elif not result:
        show_plan(prepared)


def _document(prepared: Prepared, result: Result | None) -> dict[str, Any]:
    from imagebuild.cli.backupview import dockerfile

    return {
        "schema_version": SCHEMA_VERSION,
        "dry_run": result is None,
        **prepared.to_json(),
        "dockerfile": dockerfile(prepared),
        "result": result.to_json() if result else None,
    }


def _nowhere(*, no_push: bool) -> Exception:
    from imagebuild.errors import UsageError

    if no_push:
        return UsageError("with --no-push, --output FILE says what becomes of the image")
    return UsageError(
        "where is the image to go?",
        hint="--target REGISTRY/NAME, or --mirror LIST, or --no-push --output FILE",
    )


def _request(
    datastore: str, version: str, targets: tuple[Reference, ...], options: dict[str, Any]
) -> Request:
    from imagebuild.backupimage.job import BuilderName, Packages, Request
    from imagebuild.config.values import parse_duration
    from imagebuild.errors import UsageError

    try:
        seconds = parse_duration(options["timeout"])
    except ValueError as exc:
        raise UsageError(f"--timeout {options['timeout']}: {exc}") from exc
    output = absolute(options["output"], "--output") if options["output"] else None
    if output and not output.parent.is_dir():
        raise UsageError("the directory of --output is not there", where=str(output.parent))
    return Request(
        datastore=datastore,
        version=version,
        source=options["trove_source"],
        series=options["trove_series"],
        base=options["base_image"],
        packages=Packages(options["packages_from"]),
        builder=BuilderName(options["builder"]),
        arch=_arch(options["platform"]),
        redirects=_redirects(options),
        targets=targets,
        output=output,
        seconds=float(seconds),
        epoch=_epoch(),
    )


def _redirects(options: dict[str, Any]) -> Redirects:
    from imagebuild.backupimage.redirects import Redirects
    from imagebuild.errors import UsageError

    pairs = []
    for text in options["redirects"]:
        old, sign, new = text.partition("=")
        if not sign:
            raise UsageError(f"--redirect {text}: URL=URL is expected")
        pairs.append((old, new))
    return Redirects(
        apt_mirror=options["apt_mirror"],
        pip_index=options["pip_index"] or _pip_index(),
        ca=absolute(options["ca"], "--ca") if options["ca"] else None,
        urls=tuple(pairs),
        environ=os.environ,
    )


def _pip_index() -> str:
    """pip's own variable, unless it means a directory of this host."""
    url = os.environ.get("PIP_INDEX_URL", "")
    return url if url.startswith(("http://", "https://")) else ""


def _epoch() -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch)."""
    from imagebuild.errors import UsageError

    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise UsageError("SOURCE_DATE_EPOCH is no number of seconds since 1970", where=text[:40])
    return int(text)


def _arch(platform: str) -> str:
    from imagebuild.errors import UsageError
    from imagebuild.host.preflight import MACHINES

    arch = platform.removeprefix("linux/")
    arch = next((a for a, machine in MACHINES.items() if machine == arch), arch)
    if arch and arch not in MACHINES:
        raise UsageError(f"--platform {platform}: one of {', '.join(MACHINES)} is expected")
    return arch
