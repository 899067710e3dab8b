"""What only the registries can tell about configuration files: TLS, and logins."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterator

from imagebuild.errors import ImagebuildError, Interrupted
from imagebuild.guestconf.findings import Finding, Severity
from imagebuild.guestconf.imagechecks import image_host, is_isolated, login_host
from imagebuild.guestconf.inifile import Line
from imagebuild.guestconf.reading import Configured
from imagebuild.mirror.naming import DATASTORES
from imagebuild.registry.settings import RegistrySettings, is_loopback


class Speech(enum.Enum):
    """How a registry speaks."""

    TLS = "TLS, with a certificate that this host trusts"
    UNTRUSTED = "TLS, with a certificate that this host does not trust"
    PLAIN = "http without TLS"
    SILENT = "it does not answer"


#: Asks a registry (HOST[:PORT]) how it speaks, and why it does not.
Probe = Callable[[str], tuple[Speech, str]]
#: Asks whether a registry refuses who has no login.
WantsLogin = Callable[[str, Speech], bool]


def check_online(
    guest: Configured,
    control: Configured,
    *,
    probe: Probe | None = None,
    wants_login: WantsLogin | None = None,
) -> tuple[Finding, ...]:
    """What is found by asking the registries of the guests' images.

    What cannot be asked is a warning. Raises Interrupted.
    """
    hosts: dict[str, Line] = {}
    for manager in DATASTORES:
        for name in ("docker_image", "backup_docker_image"):
            line = guest.get(manager, name)
            if line and (host := image_host(line)):
                hosts.setdefault(host, line)
    found: list[Finding] = []
    for host, line in hosts.items():
        speech, why = (probe or speech_of)(host)
        found += _speech(host, line, speech, why, control)
        if speech is not Speech.SILENT:
            found += _login(host, line, guest, control, speech, wants_login or asks_for_login)
    return tuple(found)


def speech_of(host: str) -> tuple[Speech, str]:
    """Ask with TLS first, then without."""
    from imagebuild.registry.settings import certificates
    from imagebuild.registry.transport import Kind, NoAnswerError, Transport

    transport = Transport(certificates(RegistrySettings(host)), host=host)
    api = "registry-1.docker.io" if host == "docker.io" else host
    why = ""
    try:
        for scheme in ("https", "http"):
            try:
                with transport.send("GET", f"{scheme}://{api}/v2/", headers={}) as answer:
                    if answer.status_code in (200, 401):
                        return (Speech.TLS if scheme == "https" else Speech.PLAIN), ""
                    why = why or f"HTTP {answer.status_code}"
            except NoAnswerError as exc:
                if exc.kind in (Kind.CERTIFICATE, Kind.CLIENT_CERTIFICATE):
                    return Speech.UNTRUSTED, str(exc)
                why = why or str(exc)
    finally:
        transport.close()
    return Speech.SILENT, why


def asks_for_login(host: str, speech: Speech) -> bool:
    """Whether the registry refuses who has no login. Raises as the registry's client does."""
    from imagebuild.registry.client import Client

    settings = RegistrySettings(
        host, plain_http=speech is Speech.PLAIN, insecure=speech is Speech.UNTRUSTED
    )
    with Client([settings]) as client:
        return client.wants_login(host)


def _speech(
    host: str, line: Line, speech: Speech, why: str, control: Configured
) -> Iterator[Finding]:
    option = f"[{line.group}] {line.name}"
    if speech is Speech.SILENT:
        yield Finding(
            Severity.WARNING, line.where, option, f"{host} could not be asked", why,
            "ask again from where the guests' management network can be reached",
        )  # fmt: skip
        return
    if is_loopback(host):
        return  # docker takes anything there, and `check_images` has a word on it
    listed = control.get("DEFAULT", "docker_insecure_registries")
    if speech is Speech.TLS or is_listed(host, listed):
        return
    hint = f"set docker_insecure_registries = {host} in trove.conf, [DEFAULT]"
    if speech is Speech.UNTRUSTED:
        yield Finding(
            Severity.WARNING, line.where, option,
            f"guests must trust the certificate of {host}", why,
            f"put its CA into the guest image: /etc/docker/certs.d/{host}/ca.crt",
        )  # fmt: skip
    else:
        yield Finding(
            Severity.MISTAKE if control.sources else Severity.WARNING,
            listed.where if listed else line.where, option,
            f"{host} speaks {speech.value}, and docker_insecure_registries does not have it",
            "docker in the guest asks with TLS" if control.sources
            else "docker in the guest asks with TLS; trove.conf was not looked at", hint,
        )  # fmt: skip


def is_listed(host: str, line: Line | None) -> bool:
    """Whether docker's list has the registry: by its name, or by a network around it."""
    for entry in line.value.split(",") if line else ():
        if entry.strip() == host:
            return True
        if "/" not in entry:  # docker: a name without its port is another registry
            continue
        try:
            network = ipaddress.ip_network(entry.strip(), strict=False)
            if ipaddress.ip_address(host.rpartition(":")[0] or host) in network:
                return True
        except ValueError:
            continue
    return False


def _login(
    host: str,
    line: Line,
    guest: Configured,
    control: Configured,
    speech: Speech,
    wants_login: WantsLogin,
) -> Iterator[Finding]:
    login, option = guest.get("guest_agent", "container_registry"), f"[{line.group}] {line.name}"
    ours = bool(login and login.value and login_host(login.value) == host)
    try:
        wanted = wants_login(host, speech)
    except Interrupted:
        raise
    except ImagebuildError as exc:
        yield Finding(
            Severity.WARNING, line.where, option, f"{host} could not be asked", str(exc), exc.hint
        )
        return
    if not wanted and ours and login:
        yield Finding(
            Severity.WARNING, login.where, "[guest_agent] container_registry",
            f"{host} wants no login", "guests need none, and an agent whose login fails does "
            "not start", "take container_registry away",
        )  # fmt: skip
    if wanted and not ours:
        yield Finding(
            Severity.MISTAKE, line.where, option,
            f"{host} wants a login, and guests have none",
            "under network_isolation they could not even use it for the database's image"
            if is_isolated(control) else "",
            f"let it be read without a login, or set container_registry = {host} with its "
            "username and password in [guest_agent]",
        )  # fmt: skip
