"""Where the store's remote is: oci://REGISTRY/REPOSITORY, as the option --store-remote has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from imagebuild.errors import ConfigError, UsageError
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings

_SCHEMES = {"oci": False, "oci+http": True}
_OPTION = "--store-remote"
_HINT = "write oci://HOST[:PORT]/REPOSITORY, with ?ro behind it to read only"


@dataclass(frozen=True)
class RemoteAddress:
    """A repository of a registry. `read_only`: what is made here is not sent there.

    `plain_http` is for a registry without TLS; one on this very host may speak either.
    `ca` is a PEM file that is trusted besides the host's own and docker's certs.d.
    """

    reference: Reference
    read_only: bool = False
    plain_http: bool = False
    ca: Path | None = None

    @classmethod
    def parse(cls, text: str) -> RemoteAddress:
        """Read `oci://HOST[:PORT]/REPOSITORY[?ro][&ca=FILE]`; `oci+http://` is without TLS.

        Raises UsageError.
        """
        scheme, colon, rest = text.partition("://")
        authority = rest.partition("/")[0]
        if "@" in authority:
            # What is on a command line can be read by all users of the machine.
            raise UsageError(
                "a login does not belong into the address of the store's remote",
                where=f"{_OPTION} {scheme}://…@{authority.rpartition('@')[2]}/…",
                hint="log in with: docker login HOST (or podman, skopeo, a credential helper)",
            )
        if not colon or scheme.lower() not in _SCHEMES:
            raise _bad(text, "it does not begin with oci:// or oci+http://")
        try:
            parts = urlsplit(text)
            queries = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=False)
        except ValueError as exc:
            raise _bad(text, str(exc)) from None
        if parts.fragment or not parts.netloc or parts.path in ("", "/"):
            raise _bad(text, "it names no repository of a registry")
        name = f"{parts.netloc}{parts.path}"
        try:
            reference = Reference.parse(name)
        except ConfigError as exc:
            raise _bad(text, exc.detail) from None
        last = name.rpartition("/")[2]
        if reference.registry != parts.netloc or ":" in last:
            # `oci://store/x` would be docker.io/store/x to docker; here it is no host.
            raise _bad(
                text,
                "the tags are the store's own"
                if ":" in last
                else f"{parts.netloc!r} is no host: with a dot, or a port, or localhost",
            )
        settings: dict[str, str] = {}
        for key, value in queries:
            if key not in ("ro", "ca") or key in settings or (key == "ca") != bool(value):
                raise _bad(text, f"behind the '?' may stand ro and ca=FILE, not {key!r}")
            settings[key] = value
        return cls(
            reference=Reference(reference.registry, reference.repository),
            read_only="ro" in settings,
            plain_http=_SCHEMES[scheme.lower()],
            ca=Path(settings["ca"]).expanduser().absolute() if "ca" in settings else None,
        )

    @property
    def settings(self) -> RegistrySettings:
        """What the registry's client is told of it."""
        return RegistrySettings(self.reference.registry, ca=self.ca, plain_http=self.plain_http)

    def __str__(self) -> str:
        """Its name for people."""
        return f"oci{'+http' if self.plain_http else ''}://{self.reference.name}"


def _bad(text: str, detail: str) -> UsageError:
    return UsageError(
        "this is no address of a store's remote",
        where=f"{_OPTION} {text[:300]}",
        detail=detail,
        hint=_HINT,
    )
