"""What a mirror means for Trove's configuration, as sections of its two files.

trove.conf is the control plane's; trove-guestagent.conf is put into each guest when it is made
(`guest_config`, trove/common/cfg.py). Options, groups and defaults are those of cfg.py and
oslo.messaging; where each is read stands beside it here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from imagebuild.errors import ConfigError, UsageError
from imagebuild.guestconf.optiontable import option_table
from imagebuild.mirror.naming import DATASTORES, NEWEST, image_problem, registry_of, suggestion
from imagebuild.mirror.wants import ImageNames

#: Trove's default of `injected_config_owner`.
UBUNTU = "ubuntu"
#: Stands for a secret inside a text: no configuration has it.
HOLE = "\0"
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]+)?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Secret:
    """A text with a secret in it: `shown` with HOLE in its place. `name` is what a person
    calls the secret, and the variable that deployment tools look it up by.
    """

    name: str
    shown: str = HOLE
    value: str | None = field(default=None, repr=False)

    def reveal(self) -> str:
        """The whole text. Raises UsageError when the secret is not known."""
        if self.value is None:
            raise UsageError(
                f"the secret {self.name} is to be written, and is not known",
                where="--with-secrets",
                hint="name the file or variable that it is in",
            )
        return self.shown.replace(HOLE, self.value)

    def hidden(self, placeholder: str) -> str:
        """The text with a placeholder for the secret; `%s` in that is the name."""
        return self.shown.replace(HOLE, placeholder % self.name)


Value = str | Secret
Sections = dict[str, dict[str, Value]]


@dataclass(frozen=True)
class Login:
    """How guests log in to the registry: only for one that wants it."""

    username: str
    password: Secret


@dataclass(frozen=True)
class Settings:
    """What is wanted. What is None or empty is not rendered: Trove's default holds.

    `images` are by manager. `insecure_registries` are HOST[:PORT] without TLS, or with a
    certificate that nobody checks. `quorum_queues` must be the same for all who share a broker.
    """

    images: Mapping[str, ImageNames]
    series: str = NEWEST
    insecure_registries: tuple[str, ...] = ()
    login: Login | None = None
    management_networks: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    keypair: str = ""
    transport_url: Secret | None = None
    quorum_queues: bool | None = None
    guest_username: str = UBUNTU
    guest_group: str = ""
    network_isolation: bool | None = None
    docker_bridge: str = ""


@dataclass(frozen=True)
class Fragments:
    """Sections of trove.conf (`control`) and trove-guestagent.conf (`guest`), and what a
    person should know (`notes`).
    """

    control: Sections
    guest: Sections
    notes: tuple[str, ...] = ()


def transport_secret(url: str) -> Secret:
    """A message bus's URL with its password taken out: transport://USER:PASSWORD@HOST…/VHOST.

    Where it is not sure what the password is, all of the URL is the secret. Raises UsageError
    for what is no URL, without its text.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    hosts = parts.netloc.split(",")
    if not parts.scheme or not all(_HOST.fullmatch(h.rpartition("@")[2]) for h in hosts):
        raise _no_transport_url()
    if any("@" in part for part in parts[2:]):
        raise _no_transport_url()  # a password with a bare '/', say
    logins = [h.rpartition("@")[0] for h in hosts if "@" in h]
    if not logins and "password" not in parts.query:
        return Secret("trove_transport_url", text, "")
    # Several hosts have a login each; they share the user that Trove has.
    passwords = {login.partition(":")[2] for login in logins}
    if len(passwords) != 1 or "" in passwords or "password" in parts.query:
        return Secret("trove_guest_transport_url", HOLE, text)
    (password,) = passwords
    shown = ",".join(h.replace(f":{password}@", f":{HOLE}@", 1) for h in hosts)
    whole = urlunsplit(parts._replace(netloc=shown))
    return Secret("trove_guest_transport_password", whole, quote(unquote(password), safe=""))


def _no_transport_url() -> UsageError:
    return UsageError(
        "this is no URL of a message bus",
        where="the transport URL",
        hint="it is like rabbit://USER:PASSWORD@HOST:5672/VHOST; in a password, write %2F for /, "
        "%40 for @, and so on",
    )


def fragments(settings: Settings) -> Fragments:
    """What the two files must say. Raises ConfigError for what Trove, or docker, cannot use."""
    notes: list[str] = []
    guest = _guest(settings, notes)
    control = _control(settings, notes)
    table = option_table(settings.series)
    for sections in (control, guest):
        for group, options in sections.items():
            for name in options:
                table.require(group, name)
    return Fragments(control, guest, tuple(notes))


def _control(settings: Settings, notes: list[str]) -> Sections:
    default: dict[str, Value] = {}
    for host in settings.insecure_registries:
        _check_host(host)
    # instance/models.py, get_injected_files: into the guest's /etc/docker/daemon.json.
    _put(default, "docker_insecure_registries", ",".join(settings.insecure_registries))
    if settings.docker_bridge:
        _check_bridge(settings.docker_bridge)
        default["docker_bridge_network_ip"] = settings.docker_bridge
        if settings.network_isolation is not False:
            notes.append(
                "docker_bridge_network_ip is for instances without network isolation: with it, "
                "docker has no bridge"
            )
    _put(default, "management_networks", ",".join(settings.management_networks))
    if len(settings.management_networks) > 1:
        raise ConfigError(
            "Trove takes one management network",
            where="management_networks",
            detail=", ".join(settings.management_networks),
            hint="name one of them",
        )
    _put(default, "management_security_groups", ",".join(settings.security_groups))
    _put(default, "nova_keypair", settings.keypair)
    for user in filter(None, (settings.guest_username, settings.guest_group)):
        if not _USER.fullmatch(user):
            raise ConfigError(
                f"{user!r} is no name of a user or group",
                where="the guest's user",
                hint="take the one of the image's profile: guest.username",
            )
    if settings.guest_username != UBUNTU:
        # instance/models.py, prepare_cloud_config: owner of what is put into the guest.
        default["injected_config_owner"] = settings.guest_username
    _put(default, "injected_config_group", settings.guest_group)
    sections: Sections = {"DEFAULT": default} if default else {}
    if settings.network_isolation is not None:
        sections["network"] = {"network_isolation": str(settings.network_isolation).lower()}
    _quorum(settings, sections)
    return sections


def _guest(settings: Settings, notes: list[str]) -> Sections:
    sections: Sections = {}
    if settings.transport_url:
        sections["DEFAULT"] = {"transport_url": settings.transport_url}
    registries = set()
    for manager in DATASTORES:
        images = settings.images.get(manager)
        if images is None:
            continue
        where = f"[{manager}]"
        _check_image(images.database, f"{where} docker_image")
        section: dict[str, Value] = {"docker_image": images.database}
        registries.add(registry_of(images.database))
        if images.backup:
            _check_image(images.backup, f"{where} backup_docker_image")
            section["backup_docker_image"] = images.backup
            registries.add(registry_of(images.backup))
        else:
            notes.append(
                f"{manager} has no image for backups: they fail with 'Backup image was not defined'"
            )
        sections[manager] = section
    if settings.login:
        sections["guest_agent"] = _login(settings, settings.login, registries, notes)
    _quorum(settings, sections)
    return sections


def _login(
    settings: Settings, login: Login, registries: set[str], notes: list[str]
) -> dict[str, Value]:
    if len(registries) != 1:
        raise ConfigError(
            "guests can log in to one registry, and the images are in several",
            where="[guest_agent] container_registry",
            detail=", ".join(sorted(registries)) or "there is no image",
            hint="mirror all of them into one registry",
        )
    (registry,) = registries
    if settings.network_isolation is not False:
        notes.append(
            f"under network_isolation, which is Trove's default, guests pull the database's "
            f"image without this login: let {registry} be read without one on the management "
            "network, or put root's .docker/config.json into the guest image"
        )
    # guestagent/datastore/manager.py: docker login when the agent starts. docker finds the
    # login again by the host of the image's name.
    return {
        "container_registry": registry,
        "container_registry_username": login.username,
        "container_registry_password": login.password,
    }


def _quorum(settings: Settings, sections: Sections) -> None:
    if settings.quorum_queues is not None:
        # Whoever declares a queue as another kind is refused by the broker (PRECONDITION_FAILED).
        value = str(settings.quorum_queues).lower()
        sections["oslo_messaging_rabbit"] = {"rabbit_quorum_queue": value}


def _put(section: dict[str, Value], name: str, value: str) -> None:
    if not value:
        return
    if "\n" in value or "\r" in value:
        raise ConfigError("a value may not have several lines", where=name, detail=repr(value))
    section[name] = value


def _check_image(image: str, where: str) -> None:
    problem = image_problem(image)
    if problem:
        raise ConfigError(
            "this name of an image cannot be used", where=where, detail=f"{image!r}: {problem}",
            hint=f"write {suggestion(image) or 'it as [HOST[:PORT]/]NAME, without a tag'}",
        )  # fmt: skip


def _check_host(host: str) -> None:
    problem = host_problem(host)
    if problem:
        raise ConfigError(
            "this is no registry for docker's list of insecure ones",
            where="docker_insecure_registries",
            detail=f"{host!r}: {problem}",
            hint="write HOST:PORT as images have it, or a network like 10.0.0.0/24",
        )


def host_problem(host: str) -> str:
    """Why docker's daemon refuses an entry of `insecure-registries`, or "" (docker,
    registry/config.go: ValidateIndexName and loadInsecureRegistries).
    """
    if "://" in host:
        return "it has a scheme"
    if "/" in host:
        try:
            ipaddress.ip_network(host, strict=False)
        except ValueError:
            return "it has a path, and is no network"
        return ""
    if not re.fullmatch(
        r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:\d+)?", host
    ):
        return "it is not HOST or HOST:PORT"
    return ""


def _check_bridge(address: str) -> None:
    problem = bridge_problem(address)
    if problem:
        raise ConfigError(
            "this is no address for docker's bridge",
            where="docker_bridge_network_ip",
            detail=f"{address!r}: {problem}",
            hint="write the bridge's own address with its network: 172.24.0.1/24",
        )


def bridge_problem(address: str) -> str:
    """Why docker refuses it as `bip`, or "": an address with the length of its network."""
    if "/" not in address:
        return "the length of the network is missing"
    try:
        found = ipaddress.ip_interface(address)
    except ValueError as exc:
        return str(exc)
    if found.ip == found.network.network_address:
        return "it is the network's address, not one in it"
    return ""
