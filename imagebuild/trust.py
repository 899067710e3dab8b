"""What the guest trusts and is trusted with: CA certificates, registry credentials, dev keys.

The part of `resolve.py` that reads secrets. None of them leaves `Inputs` but for the
image: plans and manifests carry digests.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from imagebuild import passwords
from imagebuild.config.profile import Profile
from imagebuild.config.profile import Registry as RegistryKey
from imagebuild.config.words import AgentMode
from imagebuild.digest import of_bytes, of_secret
from imagebuild.errors import ConfigError
from imagebuild.files import MIB, read_limited
from imagebuild.inputs import Certificate, Dev, DevKey, Registry


def resolve_certificates(profile: Profile) -> tuple[Certificate, ...]:
    """The profile's CA certificates, one value each. Raises ConfigError."""
    found = []
    for number, path in enumerate(profile.ca_certificates):
        # update-ca-certificates wants one certificate a file.
        for part, data in enumerate(_read_certificates(path, "ca_certificates")):
            found.append(Certificate(f"site-{number}-{part}.crt", data, of_bytes(data)))
    return tuple(found)


def resolve_registries(profile: Profile) -> tuple[Registry, ...]:
    """The profile's private registries with what their files hold. Raises ConfigError."""
    return tuple(
        _registry(entry, f"docker.registries[{number}]")
        for number, entry in enumerate(profile.docker.registries)
    )


def resolve_dev(profile: Profile, *, for_run: bool) -> Dev | None:
    """What a dev image gets; None for any other.

    The key is made here, and only for a run: it exists in the image and nowhere else.
    """
    if not profile.is_dev:
        return None
    password = None
    if profile.guest.root_password_file:
        password = passwords.read_file(profile.guest.root_password_file, "guest.root_password_file")
    if not for_run:
        return Dev(None, None, password)
    key = make_key() if profile.agent.mode is AgentMode.DEV else None
    return Dev(secrets.token_hex(16), key, password)


def make_key(comment: str = "imagebuild-dev-guest") -> DevKey:
    """A new ed25519 key pair (RFC 8709) in OpenSSH's formats."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return DevKey(private, f"{public.decode()} {comment}")


def _registry(entry: RegistryKey, where: str) -> Registry:
    ca = b""
    if entry.ca:
        ca = b"".join(_read_certificates(entry.ca, f"{where}.ca"))
    password = secret = ""
    if entry.password_file and entry.username:
        password = passwords.read_file(entry.password_file, f"{where}.password_file")
        salt = f"imagebuild registry {entry.host} {entry.username}".encode()
        secret = of_secret(password.encode(), salt, 16)
    return Registry(
        host=entry.host,
        ca=ca,
        ca_sha256=of_bytes(ca) if ca else "",
        username=entry.username or "",
        password=password,
        secret=secret,
    )


def _read(path: Path, what: str, key: str) -> bytes:
    try:
        return read_limited(path, MIB)
    except OSError as exc:
        raise ConfigError(
            f"cannot read {what}", where=str(path), detail=str(exc), hint=f"check the key {key}"
        ) from exc


def _read_certificates(path: Path, key: str) -> list[bytes]:
    """The certificates of a PEM file, each with its own end of line. Raises ConfigError."""
    pem = _read(path, "a CA certificate", key)
    if b"PRIVATE KEY" in pem:
        raise ConfigError(
            f"a file of {key} holds a private key",
            where=str(path),
            detail="it would be readable by everybody in every guest",
            hint="keep only the CERTIFICATE blocks in that file",
        )
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    found: list[bytes] = []
    for piece in pem.split(begin)[1:]:
        body, mark, _ = piece.partition(end)
        if not mark or not _is_base64(body):
            raise ConfigError(
                "a PEM certificate is damaged",
                where=str(path),
                detail=f"certificate {len(found) + 1} of the file is not whole",
                hint="copy the file anew; openssl x509 -in FILE -text shows what is in it",
            )
        found.append(begin + body + end + b"\n")
    if not found:
        raise ConfigError(
            "this is no PEM certificate",
            where=str(path),
            detail=f"no line {begin.decode()}",
            hint="convert it: openssl x509 -inform DER -in FILE -out FILE.pem",
        )
    return found


def _is_base64(body: bytes) -> bool:
    try:
        return bool(base64.b64decode(b"".join(body.split()), validate=True))
    except ValueError:
        return False
