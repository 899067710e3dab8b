"""How a registry is spoken to: TLS or not, whose certificates, which login."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.errors import PreflightError

#: Where docker looks for the CAs of registries (docs.docker.com/engine/security/certificates).
CERTS_D = Path("/etc/docker/certs.d")


@dataclass(frozen=True)
class RegistrySettings:
    """What the caller says of one registry; of those that it says nothing of, the host knows.

    `host` is as image names have it. `ca` is a PEM file, trusted besides the host's own CAs.
    TLS is verified unless `plain_http` says that there is none. A registry on this very host
    (`is_loopback`) that has no CA of its own may speak either; docker has it so, too, yet
    takes any certificate there, and we do not. `insecure` is TLS with any certificate: only a
    list that says it of one registry has it. `client_certificate` is a PEM file that is shown
    to this registry alone, `client_key` its key if that is not in the same file.
    `concurrency`: downloads at a time, and uploads; `requests_per_second` 0: no limit of ours.
    """

    host: str
    ca: Path | None = None
    plain_http: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    insecure: bool = False
    client_certificate: Path | None = None
    client_key: Path | None = None
    concurrency: int = 6
    requests_per_second: float = 0.0


def is_loopback(host: str) -> bool:
    """Whether HOST or HOST:PORT is this machine: localhost, 127.0.0.0/8 or ::1."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def certificates(settings: RegistrySettings, certs_d: Path = CERTS_D) -> list[Path]:
    """PEM files that are trusted for this registry, besides the host's own.

    Raises PreflightError for a directory of docker's that cannot be read.
    """
    directory = certs_d / settings.host
    try:
        found = sorted(p for p in directory.iterdir() if p.suffix == ".crt")
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as exc:
        raise PreflightError(
            "docker's certificates for a registry cannot be read",
            where=str(directory),
            detail=exc.strerror or "",
            hint="let others read the directory: certificates are no secret",
        ) from exc
    return [settings.ca, *found] if settings.ca else found


def client_certificate(
    settings: RegistrySettings, certs_d: Path = CERTS_D
) -> tuple[Path, Path | None] | None:
    """The certificate that we show this registry, and its key (None: in the same file).

    docker's are pairs NAME.cert and NAME.key (docs.docker.com/engine/security/certificates);
    the first that has both counts.
    """
    if settings.client_certificate:
        return settings.client_certificate, settings.client_key
    directory = certs_d / settings.host
    try:
        found = sorted(p for p in directory.iterdir() if p.suffix == ".cert")
    except OSError:  # `certificates` says what is wrong
        return None
    pairs = ((path, path.with_suffix(".key")) for path in found)
    return next(((path, key) for path, key in pairs if key.exists()), None)
