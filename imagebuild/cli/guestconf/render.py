"""imagebuild config render."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imagebuild.cli import complete
from imagebuild.cli.mirror.options import target_option
from imagebuild.cli.options import KeyValue, json_option
from imagebuild.cli.terminal import one_line, terminal
from imagebuild.cli.troveversions import series_option

if TYPE_CHECKING:
    from imagebuild.guestconf.layouts import Layout, RenderedFile
    from imagebuild.guestconf.mirrored import Mirrored
    from imagebuild.guestconf.settings import Login, Secret
    from imagebuild.guestconf.writing import Written
    from imagebuild.mirror.wants import ImageNames

_F = TypeVar("_F", bound=Callable[..., Any])

SCHEMA_VERSION = 1
_LAYOUTS = ("plain", "kolla-ansible", "openstack-ansible")


class _Hosts(click.types.StringParamType):
    """A name. In the environment, blanks and commas stand between several."""

    name = "NAME"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return rv.replace(",", " ").split()


def _file_option(name: str, envvar: str, help_text: str) -> Callable[[_F], _F]:
    return click.option(
        name, type=click.Path(path_type=Path), metavar="FILE", envvar=envvar, show_envvar=True,
        shell_complete=complete.place("file"), help=help_text,
    )  # fmt: skip


@click.command(
    "render",
    epilog="Example: imagebuild config render --mirror trove --target 10.0.0.5:4000/trove "
    "--layout kolla-ansible --output /etc/kolla/config",
)
@click.option(
    "--mirror", "mirror_list", metavar="LIST", envvar="IMAGEBUILD_MIRROR_LIST",
    show_envvar=True, shell_complete=complete.mirror_list,
    help="The mirror list whose images guests are to use: a file, or a shipped list's name.",
)  # fmt: skip
@target_option
@click.option(
    "--image", "images", multiple=True, type=KeyValue(), metavar="DATASTORE=NAME",
    envvar="IMAGEBUILD_CONFIG_IMAGE", show_envvar=True,
    help="The database's image of mysql, mariadb or postgresql, without a tag (repeatable).",
)  # fmt: skip
@click.option(
    "--backup-image", "backup_images", multiple=True, type=KeyValue(), metavar="DATASTORE=NAME",
    envvar="IMAGEBUILD_CONFIG_BACKUP_IMAGE", show_envvar=True,
    help="The image that makes backups, without a tag (repeatable).",
)  # fmt: skip
@click.option(
    "--insecure-registry", "insecure", multiple=True, type=_Hosts(), metavar="HOST[:PORT]",
    envvar="IMAGEBUILD_CONFIG_INSECURE_REGISTRY", show_envvar=True,
    help="A registry without TLS, or whose certificate is not to be checked (repeatable); the "
    "list's own target when the list says so.",
)  # fmt: skip
@click.option(
    "--registry-username", metavar="NAME", envvar="IMAGEBUILD_CONFIG_REGISTRY_USERNAME",
    show_envvar=True, help="Whom guests log in to the registry as; only where it wants a login.",
)  # fmt: skip
@_file_option(
    "--registry-password-file", "IMAGEBUILD_CONFIG_REGISTRY_PASSWORD_FILE",
    "File with that user's password in its one line.",
)  # fmt: skip
@click.option(
    "--registry-password-env", metavar="VARIABLE",
    envvar="IMAGEBUILD_CONFIG_REGISTRY_PASSWORD_ENV", show_envvar=True,
    help="Environment variable with that user's password.",
)  # fmt: skip
@_file_option(
    "--transport-url-file", "IMAGEBUILD_CONFIG_TRANSPORT_URL_FILE",
    "File with the message bus's URL as guests reach it (it has a password, so it is no option).",
)  # fmt: skip
@click.option(
    "--transport-url-env", metavar="VARIABLE", envvar="IMAGEBUILD_CONFIG_TRANSPORT_URL_ENV",
    show_envvar=True, help="Environment variable with that URL.",
)  # fmt: skip
@click.option(
    "--quorum-queues/--no-quorum-queues", "quorum_queues", default=None,
    envvar="IMAGEBUILD_CONFIG_QUORUM_QUEUES", show_envvar=True,
    help="Whether the broker's queues are quorum queues; the same for guests and control plane.",
)  # fmt: skip
@click.option(
    "--management-network", "networks", multiple=True, type=_Hosts(), metavar="ID",
    envvar="IMAGEBUILD_CONFIG_MANAGEMENT_NETWORK", show_envvar=True,
    help="The management network's id.",
)  # fmt: skip
@click.option(
    "--security-group", "groups", multiple=True, type=_Hosts(), metavar="ID",
    envvar="IMAGEBUILD_CONFIG_SECURITY_GROUP", show_envvar=True,
    help="A security group of the management port (repeatable).",
)  # fmt: skip
@click.option(
    "--keypair", metavar="NAME", default="", envvar="IMAGEBUILD_CONFIG_KEYPAIR", show_envvar=True,
    help="Nova's key pair for the guests.",
)  # fmt: skip
@click.option(
    "--guest-username", metavar="NAME", default="ubuntu", show_default=True,
    envvar="IMAGEBUILD_GUEST_USERNAME", show_envvar=True,
    help="The guest's user in the image, who is to own what Trove puts into it.",
)  # fmt: skip
@click.option(
    "--guest-group", metavar="NAME", default="", envvar="IMAGEBUILD_CONFIG_GUEST_GROUP",
    show_envvar=True, help="The group of it. [default: Trove's, root]",
)  # fmt: skip
@click.option(
    "--network-isolation/--no-network-isolation", "isolation", default=None,
    envvar="IMAGEBUILD_NETWORK_ISOLATION", show_envvar=True,
    help="Whether users' networks are plugged into the database's container alone. [default: "
    "nothing is said, and Trove isolates]",
)  # fmt: skip
@click.option(
    "--docker-bridge", metavar="ADDRESS/LENGTH", default="",
    envvar="IMAGEBUILD_CONFIG_DOCKER_BRIDGE", show_envvar=True,
    help="Address of docker's bridge in guests without network isolation.",
)  # fmt: skip
@series_option("Series of Trove whose options are to be used, like 2026.1.")
@click.option(
    "--layout", type=click.Choice(_LAYOUTS), default="plain", show_default=True,
    envvar="IMAGEBUILD_CONFIG_LAYOUT", show_envvar=True, help="How the control plane is deployed.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_CONFIG_OUTPUT", show_envvar=True, shell_complete=complete.place("dir"),
    help="Write the files below this directory. [default: print them]",
)  # fmt: skip
@click.option(
    "--with-secrets", is_flag=True, envvar="IMAGEBUILD_CONFIG_WITH_SECRETS", show_envvar=True,
    help="Write passwords down, not the names of what is to be put there.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Say which files --output would change, change nothing.",
)  # fmt: skip
@json_option
def render(
    mirror_list: str | None,
    target: str | None,
    images: tuple[str, ...],
    backup_images: tuple[str, ...],
    insecure: tuple[str, ...],
    registry_username: str | None,
    registry_password_file: Path | None,
    registry_password_env: str | None,
    transport_url_file: Path | None,
    transport_url_env: str | None,
    quorum_queues: bool | None,
    networks: tuple[str, ...],
    groups: tuple[str, ...],
    keypair: str,
    guest_username: str,
    guest_group: str,
    isolation: bool | None,
    docker_bridge: str,
    series: str | None,
    layout: str,
    output: Path | None,
    with_secrets: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the fragments of trove.conf and trove-guestagent.conf for a mirror.

    They have what differs from Trove's defaults, to be merged with what a deployment has.
    Passwords come from files or the environment; without --with-secrets, names stand in their
    place: variables for Ansible, @NAME@ else.
    """
    from imagebuild.cli.options import absolute
    from imagebuild.guestconf import layouts
    from imagebuild.guestconf.settings import Settings, fragments
    from imagebuild.guestconf.writing import plan_writing, write
    from imagebuild.mirror.naming import NEWEST

    mirrored = _mirrored(mirror_list, target)
    settings = Settings(
        images=_images(mirrored, images, backup_images),
        series=series or NEWEST,
        insecure_registries=tuple(dict.fromkeys((*mirrored.insecure_registries, *insecure))),
        login=_login(registry_username, registry_password_file, registry_password_env),
        management_networks=networks,
        security_groups=groups,
        keypair=keypair,
        transport_url=_transport(transport_url_file, transport_url_env),
        quorum_queues=quorum_queues,
        guest_username=guest_username,
        guest_group=guest_group,
        network_isolation=isolation,
        docker_bridge=docker_bridge,
    )
    wanted = fragments(settings)
    chosen = layouts.Layout(layout)
    files = layouts.render(wanted, chosen, with_secrets=with_secrets)
    written: Sequence[Written] = ()
    if output:
        place = absolute(output, "--output")
        written = plan_writing(files, place) if dry_run else write(files, place)
    notes = (*mirrored.notes, *wanted.notes)
    if as_json:
        terminal.json(_document(chosen, settings.series, files, written, notes, dry_run))
        return
    _show(chosen, files, written, dry_run)
    for note in notes:
        terminal.info(f"note: {note}")


def _mirrored(mirror_list: str | None, target: str | None) -> Mirrored:
    from imagebuild.errors import UsageError
    from imagebuild.guestconf.mirrored import Mirrored, of_list

    if mirror_list:
        from imagebuild.mirror.loading import load_list

        return of_list(load_list(mirror_list, target=target or None).value)
    context = click.get_current_context()
    said = context.get_parameter_source("target")
    if target and said is click.core.ParameterSource.COMMANDLINE:
        raise UsageError(
            "--target belongs to --mirror", where=f"--target {target}",
            hint="name the list, --mirror trove say, or the images: --image mysql=HOST/NAME",
        )  # fmt: skip
    return Mirrored({})


def _images(
    mirrored: Mirrored, images: Sequence[str], backups: Sequence[str]
) -> dict[str, ImageNames]:
    """What the list says, the options' words before it."""
    from imagebuild.errors import UsageError
    from imagebuild.mirror.naming import DEFAULT_IMAGES
    from imagebuild.mirror.wants import ImageNames

    database = _pairs(images, "--image")
    backup = _pairs(backups, "--backup-image")
    if not mirrored.images and not database and not backup:
        raise UsageError(
            "no image is named",
            hint="--mirror LIST takes those of a mirror list that say their `datastore`; --image "
            "mysql=HOST/NAME names one",
        )
    found = {}
    for manager, default in DEFAULT_IMAGES.items():
        old = mirrored.images.get(manager)
        if old or manager in database or manager in backup:
            known = old or ImageNames(default)
            found[manager] = ImageNames(
                database.get(manager, known.database), backup.get(manager, known.backup)
            )
    return found


def _pairs(values: Sequence[str], option: str) -> dict[str, str]:
    from imagebuild.errors import UsageError
    from imagebuild.mirror.naming import DATASTORES, WRONG_DATASTORES

    found = {}
    for value in values:
        name, equals, image = value.partition("=")
        manager = WRONG_DATASTORES.get(name, name)
        if not equals or manager not in DATASTORES:
            raise UsageError(
                "a datastore and its image are expected", where=f"{option} {value}",
                detail=f"datastores: {', '.join(DATASTORES)}",
                hint=f"for example {option} mysql=10.0.0.5:4000/trove/mysql",
            )  # fmt: skip
        found[manager] = image
    return found


def _login(username: str | None, file: Path | None, variable: str | None) -> Login | None:
    from imagebuild.errors import UsageError
    from imagebuild.guestconf.settings import Login, Secret

    value = _secret(file, variable, "--registry-password")
    if username:
        return Login(username, Secret("trove_registry_password", value=value))
    if value is not None:
        raise UsageError(
            "there is a password for the registry, and nobody to use it",
            hint="say whose it is: --registry-username",
        )
    return None


def _transport(file: Path | None, variable: str | None) -> Secret | None:
    from imagebuild.guestconf.settings import transport_secret

    value = _secret(file, variable, "--transport-url")
    return None if value is None else transport_secret(value)


def _secret(file: Path | None, variable: str | None, option: str) -> str | None:
    """From the file, else from the variable. Raises ConfigError, UsageError for both."""
    from imagebuild import passwords
    from imagebuild.cli.options import absolute
    from imagebuild.errors import ConfigError, UsageError

    if file and variable:
        raise UsageError(
            "one place for a secret is enough",
            where=f"{option}-file and {option}-env",
            hint="give one of them",
        )
    if file:
        return passwords.read_file(absolute(file, f"{option}-file"), f"{option}-file")
    if not variable:
        return None
    if variable not in os.environ:
        raise ConfigError(
            f"the environment variable {variable} is not set", where=f"{option}-env {variable}",
            hint=f"set it, or name a file: {option}-file",
        )  # fmt: skip
    return passwords.read_environment(variable, os.environ, f"{option}-env")


def _show(
    layout: Layout, files: Sequence[RenderedFile], written: Sequence[Written], dry_run: bool
) -> None:
    from imagebuild.guestconf.layouts import PLACES
    from imagebuild.guestconf.writing import Change

    if not written:
        for number, file in enumerate(files):
            lead = "\n" if number else ""
            terminal.data(f"{lead}# ---- {PLACES[layout]}/{file.path}\n{file.text}")
    for one in written:
        verb = {Change.NEW: "new", Change.REPLACED: "changed", Change.UNCHANGED: "as it was"}
        terminal.data(f"{one_line(str(one.path))}: {verb[one.change]}")
    if written and dry_run:
        terminal.info("nothing was written (--dry-run)")
    if not files:
        terminal.info("nothing differs from Trove's defaults: there is nothing to write")


def _document(
    layout: Layout,
    series: str,
    files: Sequence[RenderedFile],
    written: Sequence[Written],
    notes: Sequence[str],
    dry_run: bool,
) -> dict[str, Any]:
    changes = [w.change.value for w in written] or [""] * len(files)
    paths = [str(w.path) for w in written] or [str(f.path) for f in files]
    return {
        "schema_version": SCHEMA_VERSION,
        "layout": layout.value,
        "series": series,
        "dry_run": dry_run,
        "files": [
            {"path": p, "change": c or None, "secret": f.secret, "text": f.text}
            for f, p, c in zip(files, paths, changes, strict=True)
        ],
        "notes": list(notes),
    }
