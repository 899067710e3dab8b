"""The known mistakes in what guests are told of images, and of logging in for them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuild.errors import ConfigError
from imagebuild.guestconf.findings import Finding, Severity
from imagebuild.guestconf.inifile import Line
from imagebuild.guestconf.reading import Configured
from imagebuild.mirror.naming import (
    DATASTORES,
    DEFAULT_IMAGES,
    WRONG_DATASTORES,
    End,
    backup_chain,
    has_tag,
    image_problem,
    registry_of,
    suggestion,
)
from imagebuild.mirror.wants import ImageNames
from imagebuild.registry.settings import is_loopback

_FALSE = ("false", "0", "off", "no")
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")


def images_of(guest: Configured) -> dict[str, ImageNames]:
    """The images that guests have by these files, by manager; only those that are configured."""
    found = {}
    for manager in DATASTORES:
        database = guest.get(manager, "docker_image")
        backup = guest.get(manager, "backup_docker_image")
        if database or backup:
            found[manager] = ImageNames(
                database.value if database else DEFAULT_IMAGES[manager],
                backup.value if backup else None,
            )
    return found


def check_images(guest: Configured, series: str) -> Iterator[Finding]:
    images = images_of(guest)
    for manager in images:
        yield from _image(guest, manager)
        yield from _backup(guest, manager, series)
    yield from _loopback(guest)
    wrong = {g.name for s in guest.sources for g in s.content.groups} & set(WRONG_DATASTORES)
    if not images and not wrong:
        yield Finding(
            Severity.WARNING, str(guest.sources[0].path), "", "no image is configured",
            "guests pull mysql, mariadb and postgres from Docker Hub, and make no backups",
            "imagebuild config render writes what a mirror needs",
        )  # fmt: skip


def _loopback(guest: Configured) -> Iterator[Finding]:
    """Registries that are the guest itself, each told once."""
    told = set()
    for manager in DATASTORES:
        for name in ("docker_image", "backup_docker_image"):
            line = guest.get(manager, name)
            host = image_host(line)
            if line and host and is_loopback(host) and host not in told:
                told.add(host)
                yield Finding(
                    Severity.WARNING, line.where, f"[{manager}] {name}",
                    f"{host} is the guest's own address: it asks itself", "",
                    "give the images the registry's address on the management network",
                )  # fmt: skip


def _image(guest: Configured, manager: str) -> Iterator[Finding]:
    line = guest.get(manager, "docker_image")
    if line and not line.is_template and (problem := image_problem(line.value)):
        bare = suggestion(line.value)
        yield Finding(
            Severity.MISTAKE, line.where, f"[{manager}] docker_image",
            f"{line.value!r} cannot be used: {problem}", "",
            f"write {bare}" if bare else "write it as [HOST[:PORT]/]NAME",
        )  # fmt: skip


def _backup(guest: Configured, manager: str, series: str) -> Iterator[Finding]:
    line, option = guest.get(manager, "backup_docker_image"), f"[{manager}] backup_docker_image"
    if line is None or not line.value:
        beside = line or guest.get(manager, "docker_image")
        if beside:
            yield Finding(
                Severity.MISTAKE, beside.where, option, "the image for backups is not defined",
                "Trove has no default for it: backups fail with 'Backup image was not defined'",
                f"set backup_docker_image in [{manager}]",
            )  # fmt: skip
        return
    if line.is_template:
        return
    problem = image_problem(line.value, tag_allowed=True)
    if problem:
        bare = suggestion(line.value)
        yield Finding(
            Severity.MISTAKE, line.where, option, f"{line.value!r} cannot be used: {problem}", "",
            f"write {bare}" if bare else "write it as [HOST[:PORT]/]NAME",
        )  # fmt: skip
    elif has_tag(line.value):
        chain = backup_chain(manager, line.value, "8.4.3", series)
        why = "every version takes the same image"
        if manager == "mysql":
            why = f"for MySQL 8.4.3 the guest makes {chain.images[0]} of it"
        elif chain.end is End.LOOPS:
            why += f"; should it be missing: {chain.end.value}"
        yield Finding(
            Severity.WARNING, line.where, option, "the image for backups has a tag", why,
            f"write {suggestion(line.value)}, and have a tag for each version",
        )  # fmt: skip


def check_login(guest: Configured, control: Configured) -> Iterator[Finding]:
    line = guest.get("guest_agent", "container_registry")
    option = "[guest_agent] container_registry"
    others = [guest.get("guest_agent", f"container_registry_{n}") for n in ("username", "password")]
    if line is None or not line.value:
        for alone in filter(None, others):
            yield Finding(
                Severity.MISTAKE, alone.where, f"[guest_agent] {alone.name}",
                "nobody logs in: container_registry is not set", "",
                "set container_registry to the images' HOST[:PORT]",
            )  # fmt: skip
        return
    if line.is_template:
        return
    for name, other in zip(("username", "password"), others, strict=True):
        if other is None or not other.value:
            yield Finding(
                Severity.MISTAKE, line.where, option,
                f"container_registry_{name} is missing, and the guest logs in without it",
                "a registry that wants a login refuses it, and the agent does not start; any "
                "other needs no container_registry",
                f"set container_registry_{name}, or take container_registry away",
            )  # fmt: skip
    yield from _other_registries(guest, line, option)
    isolation = control.get("network", "network_isolation")
    if is_isolated(control):
        said = f"({isolation.where})" if isolation else "by default"
        yield Finding(
            Severity.MISTAKE if control.sources else Severity.WARNING, line.where, option,
            "guests log in to the registry, and under network_isolation they pull the "
            "database's image without a login",
            f"network_isolation is true {said}; Trove "
            "pulls with another client (guestagent/utils/docker.py)",
            "let the registry be read without a login on the management network, or put root's "
            ".docker/config.json into the guest image",
        )  # fmt: skip


def _other_registries(guest: Configured, line: Line, option: str) -> Iterator[Finding]:
    """Images that the login is not for: docker finds it by the host in the image's name."""
    ours = login_host(line.value)
    for manager in DATASTORES:
        for name in ("docker_image", "backup_docker_image"):
            image = guest.get(manager, name)
            host = image_host(image)
            if image and host and host != ours:
                yield Finding(
                    Severity.MISTAKE, line.where, option,
                    f"the login is for {ours}, and [{manager}] {name} is of {host}",
                    f"{image.where}; docker looks a login up by the host in the image's name",
                    f"write container_registry = {host}",
                )  # fmt: skip


def is_isolated(control: Configured) -> bool:
    """Whether instances have network isolation: Trove's default."""
    told = control.get("network", "network_isolation")
    return told is None or told.value.strip().lower() not in _FALSE


def login_host(registry: str) -> str:
    """The HOST[:PORT] that docker keeps a login under: http://HOST/v2/ is HOST."""
    host = re.sub(r"^https?://", "", registry.strip()).partition("/")[0]
    return "docker.io" if host in _HUB else host


def image_host(line: Line | None) -> str:
    """The registry of a configured image, "" when it cannot be told."""
    if line is None or line.is_template:
        return ""
    try:
        return registry_of(line.value)
    except ConfigError:
        return ""


def check_bridge(control: Configured) -> Iterator[Finding]:
    bridge = control.get("DEFAULT", "docker_bridge_network_ip")
    isolation = control.get("network", "network_isolation")
    if bridge and bridge.value and is_isolated(control):
        yield Finding(
            Severity.WARNING, bridge.where, "[DEFAULT] docker_bridge_network_ip",
            "under network_isolation docker has no bridge: this is for other instances alone",
            isolation.where if isolation else "network_isolation is true by default", "",
        )  # fmt: skip
