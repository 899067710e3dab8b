"""imagebuild verify IMAGE: the image proves itself before anyone else sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from imagebuild.cli import complete
from imagebuild.cli.options import (
    absolute,
    cache_option,
    images_option,
    json_option,
    store_size,
)
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.verification import Target
    from imagebuild.verify.bootlevel import Booted

_LEVELS = ("static", "boot", "agent", "database")
_ISOLATION = {"isolation": True, "bridge": False}


@click.command(epilog="Example: imagebuild verify trove-guest-ubuntu-jammy-amd64 --level agent")
@click.argument(
    "image", type=click.Path(path_type=Path), required=False, shell_complete=complete.artifact
)
@click.option(
    "--level", type=click.Choice(_LEVELS), default="boot", show_default=True,
    envvar="IMAGEBUILD_VERIFY_LEVEL", show_envvar=True,
    help="How far to prove it; each level includes the ones before.",
)  # fmt: skip
@click.option(
    "--database", "databases", multiple=True, metavar="DATASTORE:VERSION[=IMAGE]",
    envvar="IMAGEBUILD_VERIFY_DATABASE", show_envvar=True,
    help="A database of the last level; IMAGE is the guest's docker_image. [default: the "
    "containers that the image brings] (repeatable)",
)  # fmt: skip
@click.option(
    "--backup-image", "backups", multiple=True, metavar="DATASTORE=IMAGE",
    envvar="IMAGEBUILD_VERIFY_BACKUP_IMAGE", show_envvar=True,
    help="The guest's backup_docker_image; with it a backup is made, too (repeatable).",
)  # fmt: skip
@click.option(
    "--network", "networks", type=click.Choice(tuple(_ISOLATION)), multiple=True,
    default=("isolation",), show_default=True, envvar="IMAGEBUILD_VERIFY_NETWORK",
    show_envvar=True,
    help="Trove's network mode: isolation is its default, bridge is network_isolation=false "
    "(repeatable).",
)  # fmt: skip
@click.option(
    "--registry", "registries", multiple=True, metavar="ADDRESS:PORT=LOCAL_PORT",
    envvar="IMAGEBUILD_VERIFY_REGISTRY", show_envvar=True,
    help="Where the guest finds a registry (as in IMAGE), and its port on this host's loopback "
    "(repeatable).",
)  # fmt: skip
@click.option(
    "--insecure-registry", is_flag=True, envvar="IMAGEBUILD_VERIFY_INSECURE_REGISTRY",
    show_envvar=True, help="The registries speak plain HTTP.",
)  # fmt: skip
@click.option(
    "--trove-series", "series", metavar="SERIES", envvar="IMAGEBUILD_VERIFY_SERIES",
    show_envvar=True, help="Series of the control plane, like 2025.2. [default: the image's]",
)  # fmt: skip
@click.option(
    "--firmware", "firmwares", type=click.Choice(("bios", "uefi")), multiple=True,
    envvar="IMAGEBUILD_VERIFY_FIRMWARE", show_envvar=True,
    help="Firmware to boot by. [default: one boot by each] (repeatable)",
)  # fmt: skip
@click.option(
    "--accelerator", type=click.Choice(("kvm", "tcg")), envvar="IMAGEBUILD_ACCEL", show_envvar=True,
    help="What runs the guest. [default: KVM where it is measured to work, else emulation]",
)  # fmt: skip
@click.option(
    "--max-size", metavar="SIZE", callback=store_size, envvar="IMAGEBUILD_VERIFY_MAX_SIZE",
    default="none", show_envvar=True, help="Size budget of the image file, like 700M.",
)  # fmt: skip
@click.option(
    "--timeout", "timeouts", multiple=True, metavar="MILESTONE=TIME",
    envvar="IMAGEBUILD_VERIFY_TIMEOUT", show_envvar=True,
    help="Limit of a milestone or step, since the machine's start, like docker=5m (repeatable).",
)  # fmt: skip
@click.option(
    "--keep-going", is_flag=True, envvar="IMAGEBUILD_VERIFY_KEEP_GOING", show_envvar=True,
    help="Try the next level although one failed.",
)  # fmt: skip
@click.option(
    "--keep", is_flag=True, envvar="IMAGEBUILD_VERIFY_KEEP", show_envvar=True,
    help="Leave the last machine running and say how to get in.",
)  # fmt: skip
@click.option("--attach", is_flag=True, help="Open a root shell in the machine that was kept last.")
@click.option("--stop", is_flag=True, help="End the machines that were kept.")
@click.option(
    "--shell", is_flag=True, envvar="IMAGEBUILD_VERIFY_SHELL", show_envvar=True,
    help="Open a root shell in the last machine before it is ended.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_VERIFY_REPORT", show_envvar=True,
    help="Directory of verify.json and junit.xml. [default: the artifact's]",
)  # fmt: skip
@click.option(
    "--offline", is_flag=True, envvar="IMAGEBUILD_OFFLINE", show_envvar=True,
    help="Use only what is in the cache.",
)  # fmt: skip
@images_option
@cache_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    image: Path | None,
    level: str,
    databases: tuple[str, ...],
    backups: tuple[str, ...],
    networks: tuple[str, ...],
    registries: tuple[str, ...],
    insecure_registry: bool,
    series: str | None,
    firmwares: tuple[str, ...],
    accelerator: str | None,
    max_size: int | None,
    timeouts: tuple[str, ...],
    keep_going: bool,
    keep: bool,
    attach: bool,
    stop: bool,
    shell: bool,
    report: Path | None,
    offline: bool,
    images_dir: Path,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Prove that an image works: look into it, boot it as Nova would, let its guest agent
    talk to a real Trove, run a database.

    IMAGE is an image file, an artifact's directory, or a name below IMAGES_DIR. verify.json
    and junit.xml go beside the artifact. Ends with 5 when the image is bad, and with 4 when
    this host cannot tell.
    """
    from imagebuild.cli import guestshell, verifyview
    from imagebuild.errors import UsageError
    from imagebuild.verification import Wanted, find_target
    from imagebuild.verification import verify as run_verify
    from imagebuild.verify import choice
    from imagebuild.verify.firmware import Firmware
    from imagebuild.verify.report import write
    from imagebuild.verify.results import Level
    from imagebuild.verify.static import Options

    if (shell or attach) and not terminal.is_interactive:
        raise UsageError(f"--{'attach' if attach else 'shell'} needs a terminal")
    if attach or stop:
        _kept(cache_dir / "scratch", attach=attach, given=image)
        return
    if image is None:
        raise UsageError("which image is to be verified?", hint="imagebuild verify IMAGE")
    target = find_target(image, absolute(images_dir, "--images-dir"))
    wanted_level = Level.of(level)
    wanted = Wanted(
        level=wanted_level,
        firmwares=tuple(Firmware(f) for f in firmwares),
        accelerator=accelerator,
        databases=choice.databases(
            target.name, target.content, wanted_level, specs=databases, backups=backups,
            registry_texts=registries, insecure=insecure_registry,
        ),
        isolation=tuple(_ISOLATION[n] for n in networks),
        static=Options(max_size=max_size, series=series),
        series=series,
        limits=choice.limits(timeouts),
        keep_going=keep_going,
        keep=keep,
        offline=offline,
    )  # fmt: skip
    directory = _report_directory(target, report)
    view = verifyview.View(terminal)

    def open_shell(booted: Booted) -> None:
        with view.paused():
            guestshell.attach(booted.machine.shell)

    with view.live():
        result = run_verify(target, wanted, cache_dir, view, also=open_shell if shell else None)
    if directory:
        write(result, directory)
    if as_json:
        terminal.json(result.to_json())
    else:
        view.summary(result, directory)
    if keep:
        source = context.get_parameter_source("cache_dir")
        given = "" if source is ParameterSource.DEFAULT else f" --cache-dir {cache_dir}"
        view.kept(cache_dir / "scratch", given)
    context.exit(int(result.exit_code))


def _kept(root: Path, *, attach: bool, given: Path | None) -> None:
    """--attach and --stop: get into the machine that was kept last, or end all of them."""
    from imagebuild.cli import guestshell
    from imagebuild.errors import UsageError
    from imagebuild.verify import keep

    if given is not None:
        raise UsageError("--attach and --stop are about machines that run; they take no IMAGE")
    machines = keep.kept(root)
    if not machines:
        raise UsageError("no machine was kept", where=str(root), hint="imagebuild verify --keep")
    if attach:
        last = max(machines, key=lambda m: int(m.started))
        guestshell.attach(Path(last.shell))
        return
    for machine in machines:
        keep.stop(machine)
        terminal.info(f"ended: {machine.name} of {machine.image}")


def _report_directory(target: Target, wanted: Path | None) -> Path | None:
    """Where the report goes; None for an image that belongs to no artifact."""
    import os

    from imagebuild.errors import PreflightError

    if wanted is None:
        if target.artifact is None:
            terminal.info("the image belongs to no artifact: --report DIR keeps the report")
            return None
        directory = target.artifact.directory
    else:
        directory = absolute(wanted, "--report")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        writable = os.access(directory, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise PreflightError(
            "the report cannot be written there", where=str(directory),
            hint="--report DIR chooses another directory",
        )  # fmt: skip
    return directory
