"""Profiles as a kind of configuration file: their paths, and keys that clear others."""

from __future__ import annotations

from typing import Any

from imagebuild.config.kind import Kind, schema_of_files
from imagebuild.config.profile import Profile

PROFILE = Kind(
    model=Profile,
    noun="profile",
    shows="imagebuild profile schema",
    lists="imagebuild profile list",
    example="imagebuild profile show ubuntu jammy",
    path_keys=(
        ("mirror", "keyring"),
        ("mirror", "security", "keyring"),
        ("docker", "repository", "key"),
        ("docker", "registries", "*", "ca"),
        ("docker", "registries", "*", "password_file"),
        ("agent", "source"),
        ("guest", "root_password_file"),
        ("ca_certificates",),
        ("elements", "path"),
    ),
    # Another mirror has no separate archive for ports; docker.io has no repository.
    resets=(
        (("mirror", "url"), False, (("mirror", "arch_url"),)),
        (("docker", "source"), True, (("docker", "packages"), ("docker", "repository"))),
    ),
)


def file_schema() -> dict[str, Any]:
    """JSON schema of a profile's file."""
    extends = {
        "type": "string",
        "description": "Profile that this one builds on: a name, or a path from the file.",
    }
    return schema_of_files(PROFILE, {"extends": extends})
