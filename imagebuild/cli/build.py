"""imagebuild build OS RELEASE: make a guest image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import (
    ProfileRequest,
    absolute,
    cache_option,
    image_options,
    images_option,
    json_option,
    profile_options,
    store_option,
    store_remote_option,
    store_size_option,
)
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.build import Artifact
    from imagebuild.config.profile import Profile
    from imagebuild.forecast import Forecast
    from imagebuild.inputs import Inputs
    from imagebuild.plan import Plan
    from imagebuild.store.remote.address import RemoteAddress
    from imagebuild.store.store import Stores


#: So many logs of earlier builds are kept.
KEPT_LOGS = 30


@dataclass(frozen=True)
class _Places:
    """Where the user wants things."""

    cache: Path
    images: Path
    artifacts: Path | None
    files: tuple[Path, ...]
    store: Path | None
    store_size: int | None
    store_remote: str | None

    @property
    def stores(self) -> Stores:
        """Where what stages made is kept."""
        from imagebuild.store.store import open_stores

        return open_stores(self.cache, self.store, self.store_size)

    @property
    def remote(self) -> RemoteAddress | None:
        """Where other machines get it from."""
        from imagebuild.store.remote.address import RemoteAddress

        return RemoteAddress.parse(self.store_remote) if self.store_remote else None


@click.command(epilog="Example: imagebuild build ubuntu jammy -o trove-guest.qcow2")
@click.argument("target", nargs=-1, metavar="OS RELEASE | PROFILE", shell_complete=complete.target)
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False), envvar="IMAGEBUILD_OUTPUT", show_envvar=True,
    help="Place the image here too; .qcow2, .raw, .vmdk or .vhd chooses the format (repeatable).",
)  # fmt: skip
@click.option(
    "--artifacts", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_ARTIFACTS", show_envvar=True,
    help="Directory of the artifact, instead of IMAGES_DIR/NAME.",
)  # fmt: skip
@images_option
@cache_option
@store_option
@store_size_option
@store_remote_option
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Print the plan; nothing but the cache is changed.",
)  # fmt: skip
@click.option(
    "--offline", is_flag=True, envvar="IMAGEBUILD_OFFLINE", show_envvar=True,
    help="Ask nothing of the network: use what it said before and what is in the cache.",
)  # fmt: skip
@click.option(
    "--wait", is_flag=True, envvar="IMAGEBUILD_WAIT", show_envvar=True,
    help="Wait for another build that is writing the same output, instead of ending with 75.",
)  # fmt: skip
@json_option
@image_options
@profile_options
def build(
    target: tuple[str, ...],
    outputs: tuple[Path, ...],
    artifacts: Path | None,
    images_dir: Path,
    cache_dir: Path,
    store: Path | None,
    store_size: int | None,
    store_remote: str | None,
    dry_run: bool,
    offline: bool,
    wait: bool,
    as_json: bool,
    request: ProfileRequest,
) -> None:
    """Build a guest image of OpenStack Trove: an artifact directory with the image, its
    manifest and checksums.
    """
    from imagebuild.host import versions
    from imagebuild.memory import Memory

    # They answer while this process imports what it needs.
    versions.prefetch(Memory(cache_dir / "resolved", offline=True))
    places = _Places(
        cache=cache_dir,
        images=absolute(images_dir, "--images-dir"),
        artifacts=absolute(artifacts, "--artifacts") if artifacts else None,
        files=tuple(absolute(o, "-o") for o in outputs),
        store=store,
        store_size=store_size,
        store_remote=store_remote,
    )
    profile = _with_formats(request.load(target).profile, places.files)
    if not dry_run:
        _preflight(places, profile)
    plan, inputs = _plan(profile, places, offline=offline, for_run=not dry_run)
    if not dry_run:
        _check_times(inputs)
    from imagebuild.cli.planview import as_of, show

    if dry_run:
        show(plan, inputs, _forecast(plan, inputs, places), as_json=as_json)
        return
    for fact in inputs.remembered:
        terminal.info(as_of(fact))
    artifact = _run(plan, inputs, places, wait=wait)
    if as_json:
        terminal.json(
            {
                "schema_version": 1,
                "artifact": str(artifact.directory),
                "unchanged": artifact.unchanged,
                "manifest": dict(artifact.manifest),
            }
        )


def _with_formats(profile: Profile, files: Sequence[Path]) -> Profile:
    """The profile with the formats that the files of -o need."""
    from imagebuild.config.words import Format
    from imagebuild.errors import UsageError

    formats = list(profile.formats)
    for file in files:
        try:
            wanted = Format(file.suffix[1:])
        except ValueError as exc:
            raise UsageError(
                f"cannot tell the format of {file.name}",
                where=f"-o {file}",
                hint="end its name with " + " or ".join(f".{f}" for f in Format),
            ) from exc
        if wanted not in formats:
            formats.append(wanted)
    return profile.model_copy(update={"formats": tuple(formats)})


def _preflight(places: _Places, profile: Profile) -> None:
    """Stop, with everything that stands in the way, before anything is changed."""
    from imagebuild import artifact
    from imagebuild.doctor.check import Level, Need, Subject
    from imagebuild.doctor.examine import CHECKS, examine, refusal
    from imagebuild.doctor.host import Host
    from imagebuild.doctor.places import places_of

    if places.artifacts:
        artifact.check_vacant(places.artifacts)
    host = Host()
    subject = Subject(
        needs=frozenset({Need.BUILD}),
        cache=places.cache,
        profile=profile,
        places=places_of(profile, places.images, places.artifacts, places.files),
    )
    # Resolving asks the same servers a moment later.
    local = [c for c in CHECKS if not c.network]
    report = examine(host, subject, ask_network=False, checks=local)
    if error := refusal(host, report):
        raise error
    for finding in report.findings(Level.WARNING):
        terminal.warning(": ".join(filter(None, [finding.what, finding.where, finding.detail])))


def _check_times(inputs: Inputs) -> None:
    """Stop when apt would refuse the Release files that were just resolved."""
    from imagebuild.doctor.check import Level
    from imagebuild.doctor.examine import refuse
    from imagebuild.doctor.host import Host
    from imagebuild.doctor.mirror import judge

    findings = list(judge(inputs.archives, time.time()))
    if error := refuse(Host(), [f for f in findings if f.level is Level.MISSING]):
        raise error
    for finding in findings:
        terminal.warning(": ".join(filter(None, [finding.what, finding.where])))


def _plan(
    profile: Profile, places: _Places, *, offline: bool, for_run: bool
) -> tuple[Plan, Inputs]:
    from imagebuild.plan import make_plan
    from imagebuild.resolve import resolve

    inputs = resolve(
        profile,
        workdir=places.cache / "sources",
        memory=places.cache / "resolved",
        containers=places.cache / "containers",
        offline=offline,
        for_run=for_run,
    )
    directory = places.artifacts or places.images / "{name}"
    return make_plan(inputs, directory, places.files), inputs


def _forecast(plan: Plan, inputs: Inputs, places: _Places) -> list[Forecast]:
    from imagebuild.forecast import forecast
    from imagebuild.store.remote.view import RemoteView

    if places.remote is None or inputs.offline or inputs.registry_secrets:
        return forecast(plan, places.stores)
    with RemoteView(places.remote) as remote:
        found = forecast(plan, places.stores, remote)
    if remote.failure:
        terminal.warning(remote.failure)
    return found


def _run(plan: Plan, inputs: Inputs, places: _Places, *, wait: bool) -> Artifact:
    from imagebuild.build import Paths
    from imagebuild.build import build as run_build
    from imagebuild.cli.render import Renderer
    from imagebuild.errors import ImagebuildError
    from imagebuild.explain.failure import explained
    from imagebuild.host.run import network_env
    from imagebuild.stages.base import secrets
    from imagebuild.units import duration

    logs = places.cache / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.iterdir(), key=lambda p: p.stat().st_mtime)[:-KEPT_LOGS]:
        old.unlink()
    log = logs / f"{plan.name}-{time.strftime('%Y%m%dT%H%M%S')}.log"
    paths = Paths(
        cache=places.cache,
        artifact=Path(str(plan.outputs["artifact"])),
        places=places.files,
        link=places.artifacts is None,
    )
    started = time.monotonic()
    terminal.info(f"building {plan.name} (build id {plan.build_id[:16]})", "bold")
    renderer = Renderer(terminal, log, secrets(network_env()))
    try:
        with renderer.live():
            stores = places.stores
            artifact = run_build(
                plan, inputs, paths, renderer, log,
                stores=stores, remote=places.remote, wait=wait,
            )  # fmt: skip
    except ImagebuildError as exc:
        exc.detail = renderer.clean(exc.detail)
        error = explained(exc, log)
        error.hint = (error.hint + "; " if error.hint else "") + f"the whole log: {log}"
        raise error from exc.__cause__
    finally:
        renderer.close()
    took = duration(time.monotonic() - started)
    done = f"nothing has changed ({took})" if artifact.unchanged else f"built in {took}"
    terminal.info(f"{done}: {artifact.directory}", "bold green")
    for output in artifact.manifest["outputs"]:
        terminal.info(f"  {output['file']}  {output['size'] / 1e6:.0f} MB")
    for file in places.files:
        terminal.info(f"  also at {file}")
    if artifact.manifest["dev"]:
        _say_dev(artifact)
    return artifact


def _say_dev(artifact: Artifact) -> None:
    """What a dev image still needs, and what must not be done with it."""
    import shlex

    from imagebuild.stages import devmode

    dev = artifact.manifest["dev"]
    if dev["controller"]:
        user, path = dev["controller"]["username"], dev["controller"]["path"]
        terminal.info(f"its agent fetches {path} from the controller; let it, there, as {user}:")
        file = shlex.quote(str(artifact.directory / devmode.AUTHORIZED_KEYS))
        terminal.info(f"  cat {file} >> ~/.ssh/authorized_keys")
    held = ("a private key", "root's known password")
    what = " and ".join(
        w for w, is_so in zip(held, (dev["controller"], dev["root_password"]), strict=True) if is_so
    )
    terminal.warning(f"this is a dev image, it holds {what}: it must not be published")
