"""What a mirror list says of guests: their images, and how its target is to be spoken to."""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.config.mirrorlist import MirrorList, Tls
from imagebuild.mirror.naming import DATASTORES
from imagebuild.mirror.wants import ImageNames, names_of_list
from imagebuild.registry.settings import is_loopback


@dataclass(frozen=True)
class Mirrored:
    """Images by manager, hosts for docker_insecure_registries, and what a person should know."""

    images: dict[str, ImageNames]
    insecure_registries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def of_list(value: MirrorList) -> Mirrored:
    """What guests need to know of the list's target. Raises UsageError as `names_of_list`."""
    host = value.target.registry
    names = {m: n for m, n in names_of_list(value).items() if m in DATASTORES}
    insecure: tuple[str, ...] = ()
    notes = []
    for registry in value.registries:
        if registry.host != host:
            continue
        if registry.tls is not Tls.VERIFY:
            insecure = (host,)
        elif registry.ca:
            notes.append(
                f"guests must trust the CA of {host}: Trove has no option for it; the guest image "
                f"needs /etc/docker/certs.d/{host}/ca.crt"
            )
        if registry.username:
            notes.append(
                f"the list logs in to {host} to push; when guests must log in to pull, say as "
                "whom: --registry-username"
            )
    if is_loopback(host):
        notes.append(f"{host} is this machine's own address: no guest reaches the mirror by it")
    return Mirrored(names, insecure, tuple(notes))
