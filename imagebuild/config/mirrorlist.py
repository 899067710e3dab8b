"""What a mirror list is: the schema, with every key described.

A `MirrorList` is a frozen value, as a `Profile` is; imagebuild/mirror/loading.py reads files.
"""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from imagebuild.config.profile import AbsolutePath


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Tls(enum.Enum):
    """How a registry is spoken to."""

    VERIFY = "verify"
    INSECURE = "insecure"
    PLAIN_HTTP = "plain-http"


class Role(enum.Enum):
    """What a guest does with an image."""

    DATABASE = "database"
    BACKUP = "backup"


class ListedRegistry(_Model):
    """How this host speaks to one registry. Of others, docker's and podman's files tell."""

    host: str = Field(description="HOST or HOST:PORT, as names of images have it.")
    tls: Tls = Field(
        default=Tls.VERIFY,
        description="verify, insecure (TLS with any certificate) or plain-http.",
    )
    ca: AbsolutePath | None = Field(default=None, description="PEM file with the CA.")
    client_certificate: AbsolutePath | None = Field(
        default=None, description="PEM file with the certificate that we show."
    )
    client_key: AbsolutePath | None = Field(
        default=None, description="PEM file with its key; the certificate's file when not set."
    )
    username: str | None = Field(default=None, description="User name.")
    password_file: AbsolutePath | None = Field(
        default=None, description="File with the password in its one line."
    )
    password_env: str | None = Field(
        default=None, description="Environment variable with the password."
    )
    concurrency: int = Field(default=6, ge=1, le=64, description="Transfers at a time.")
    requests_per_second: float = Field(default=0, ge=0, description="0: no limit of ours.")


class Target(_Model):
    """Where copies go."""

    registry: str = Field(description="HOST or HOST:PORT of the registry.")
    prefix: str = Field(default="", description="Repositories' first part, such as trove.")


class TagRule(_Model):
    """Which tags; all that is said must hold, but that `names` come besides what is found."""

    names: tuple[str, ...] = Field(default=(), description="These tags; each must be there.")
    regex: str | None = Field(default=None, description="Tags that this matches as a whole.")
    versions: str | None = Field(
        default=None, description="Tags that are versions in this range (PEP 440): >=8.0,<9."
    )
    newest: int | None = Field(default=None, ge=1, description="Only so many, by version.")


def _tag_rule(value: object) -> object:
    """A list of tags is short for `names`."""
    return {"names": value} if isinstance(value, list | tuple) else value


class Defaults(_Model):
    """What images have that do not say otherwise."""

    platforms: tuple[str, ...] = Field(
        default=(), description="OS/ARCH[/VARIANT] of indexes to keep; empty: all, and all else."
    )
    referrers: bool = Field(
        default=True, description="Copy signatures, SBOMs and attestations of the image, too."
    )
    backup: str = Field(
        default="", description="Tag that a replaced image gets, such as {tag}-previous."
    )


class ListedImage(_Model):
    """A repository, which of its tags, and what they are called in the target."""

    source: str = Field(description="Name as docker has it, without a tag: quay.io/org/mysql.")
    target: str | None = Field(
        default=None, description="Repository below the prefix; the source's last part if not set."
    )
    tags: Annotated[TagRule, BeforeValidator(_tag_rule)] = Field(
        default=TagRule(), description="Tags: a list, or rules."
    )
    digest: str | None = Field(
        default=None, description="What the one tag of the list must be: sha256:…"
    )
    platforms: tuple[str, ...] | None = Field(default=None, description="As in defaults.")
    referrers: bool | None = Field(default=None, description="As in defaults.")
    backup: str | None = Field(default=None, description="As in defaults.")
    aliases: dict[str, tuple[str, ...]] = Field(
        default={}, description="Further tags in the target, by tag."
    )
    datastore: str | None = Field(
        default=None, description="Trove's datastore (manager) that uses it: mysql, mariadb, …"
    )
    role: Role = Field(default=Role.DATABASE, description="database or backup.")


class MirrorList(_Model):
    """One file: where from, where to, and how the registries are spoken to."""

    target: Target = Field(description="Where copies go.")
    defaults: Defaults = Field(default=Defaults(), description="For images that do not say it.")
    registries: tuple[ListedRegistry, ...] = Field(default=(), description="Registries.")
    images: tuple[ListedImage, ...] = Field(description="What is copied.")
