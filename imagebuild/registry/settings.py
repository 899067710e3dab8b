"""How a registry is spoken to: TLS or not, whose certificates, which login."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RegistrySettings:
    """What the caller says of one registry; of those that it says nothing of, the host knows.

    `host` is as image names have it. `ca` is a PEM file, trusted besides the host's own CAs.
    """

    host: str
    ca: Path | None = None
    plain_http: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
