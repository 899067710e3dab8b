"""Whether datastore versions' guests would find their images by these configuration files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuild.guestconf.findings import Finding, Severity
from imagebuild.guestconf.guests import guests_of
from imagebuild.guestconf.imagechecks import image_host, images_of, login_host
from imagebuild.guestconf.online import Speech, is_listed, speech_of
from imagebuild.guestconf.reading import Configured
from imagebuild.mirror.answers import Answer, Seen, answer
from imagebuild.mirror.checking import Checker
from imagebuild.mirror.naming import DATASTORES, NEWEST
from imagebuild.mirror.wants import Need, Version, needs_of
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings


def check_versions(
    guest: Configured, control: Configured, versions: Iterable[Version], series: str = NEWEST
) -> tuple[Finding, ...]:
    """Ask the registries for what guests of these versions pull, as the guests would.

    Raises as the registry's client does when a registry cannot be asked.
    """
    images = images_of(guest)
    wanted = [v for v in versions if v.manager in DATASTORES]
    found = [_nothing(v, guest) for v in wanted if v.manager not in images]
    found += [_misnamed(v, guest) for v in wanted if v.datastore != v.manager]
    needs = needs_of([v for v in wanted if v.manager in images], images, series)
    with Client(_settings(guest, control)) as client, Checker(client) as checker:

        def look(reference: Reference) -> Seen:
            walk = checker.check(reference)
            return Seen(walk.digest, walk.problem)

        answers = answer(needs, look, client.wants_login, guests_of(guest, control))
    return (*found, *(_finding(a, guest) for a in answers if not a.ok))


def _settings(guest: Configured, control: Configured) -> Sequence[RegistrySettings]:
    """How guests speak to the registries of their images: without TLS only where trove.conf
    says so of one, else a login might go there that somebody listens for.
    """
    listed = control.get("DEFAULT", "docker_insecure_registries")
    login, user, password = (
        guest.get("guest_agent", f"container_registry{n}") for n in ("", "_username", "_password")
    )
    lines = [guest.get(m, o) for m in DATASTORES for o in ("docker_image", "backup_docker_image")]
    found = []
    for host in {image_host(line) for line in lines} - {""}:
        is_plain = is_listed(host, listed) and speech_of(host)[0] is Speech.PLAIN
        if login and user and password and login_host(login.value) == host:
            found.append(RegistrySettings(
                host, plain_http=is_plain, username=user.value, password=password.value
            ))  # fmt: skip
        else:
            found.append(RegistrySettings(host, plain_http=is_plain))
    return found


def _nothing(version: Version, guest: Configured) -> Finding:
    return Finding(
        Severity.MISTAKE, str(guest.sources[0].path) if guest.sources else "no file for guests",
        f"[{version.manager}]", f"there are no images for {version.label}",
        "its guests pull from Docker Hub, and make no backups",
        f"set docker_image and backup_docker_image in [{version.manager}]",
    )  # fmt: skip


def _misnamed(version: Version, guest: Configured) -> Finding:
    return Finding(
        Severity.WARNING, str(guest.sources[0].path) if guest.sources else "no file for guests",
        f"[{version.manager}]", f"{version.label}: after a rebuild, the agent does not start",
        f"Trove tells it the datastore's name, {version.datastore}, for the manager, which is "
        f"{version.manager} (taskmanager/models.py, RebuildAction)",
        "call the datastore as its manager is called",
    )  # fmt: skip


def _finding(said: Answer, guest: Configured) -> Finding:
    need = said.need
    option = _option(need)
    line = guest.get(need.version.manager, option) or guest.get(
        need.version.manager, "docker_image"
    )
    return Finding(
        Severity.MISTAKE, line.where if line else "", f"[{need.version.manager}] {option}",
        f"{need.version.label}: {said.reason}", need.when, said.hint,
    )  # fmt: skip


def _option(need: Need) -> str:
    return "backup_docker_image" if need.is_backup else "docker_image"
