"""What a mirror list is: the schema, with every key described.

A `MirrorList` is a frozen value, as a `Profile` is; imagebuild/mirror/loading.py reads files.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from imagebuild.config import mirrorvalues as checks
from imagebuild.config.kind import Kind, schema_of_files
from imagebuild.config.problems import nearest_hint
from imagebuild.config.profile import AbsolutePath
from imagebuild.config.values import check_registry_user, shown
from imagebuild.config.words import Word


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    checks.check_unique(items, "the word")
    return items


#: To whoever reads YAML as others do, 8.4 is a number; here it is text (see yamlmarks.py).
_LIST = {"type": ["array", "string", "number"], "items": {"type": ["string", "number"]}}

RegistryHost = Annotated[str, AfterValidator(checks.check_registry)]
Tag = Annotated[str, AfterValidator(checks.check_tag)]
Tags = Annotated[
    tuple[Tag, ...],
    BeforeValidator(checks.words),
    AfterValidator(_unique),
    WithJsonSchema(_LIST | {"examples": [["8.0", "8.4"], 17]}),
]
Platforms = Annotated[
    tuple[Annotated[str, AfterValidator(checks.check_platform)], ...],
    BeforeValidator(checks.words),
    AfterValidator(_unique),
    WithJsonSchema(_LIST | {"examples": [["linux/amd64", "linux/arm64"]]}),
]
Backup = Annotated[str, AfterValidator(checks.check_backup)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Tls(Word):
    """How a registry is spoken to."""

    VERIFY = "verify"
    INSECURE = "insecure"
    PLAIN_HTTP = "plain-http"


class Role(Word):
    """What a guest does with an image."""

    DATABASE = "database"
    BACKUP = "backup"


class Datastore(Word):
    """Trove's datastore managers, which are what its options have their groups for."""

    MYSQL = "mysql"
    MARIADB = "mariadb"
    POSTGRESQL = "postgresql"


class ListedRegistry(_Model):
    """How this host speaks to one registry. Of others, docker's and podman's files tell."""

    host: RegistryHost = Field(description="HOST or HOST:PORT, as names of images have it.")
    tls: Tls = Field(
        default=Tls.VERIFY,
        description="verify, insecure (TLS with any certificate) or plain-http.",
    )
    ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file with the CA, beside those of this host; relative to the file.",
    )
    client_certificate: AbsolutePath | None = Field(
        default=None, description="PEM file with the certificate that we show."
    )
    client_key: AbsolutePath | None = Field(
        default=None, description="PEM file with its key; the certificate's file when not set."
    )
    username: Annotated[str, AfterValidator(check_registry_user)] | None = Field(
        default=None, description="User name; without one, docker's and podman's logins are used."
    )
    password_file: AbsolutePath | None = Field(
        default=None, description="File with the user's password or token in its one line."
    )
    password_env: Annotated[str, AfterValidator(checks.check_environment)] | None = Field(
        default=None, description="Environment variable with the user's password or token."
    )
    concurrency: int = Field(default=6, ge=1, le=64, description="Transfers at a time.")
    requests_per_second: float = Field(
        default=0, ge=0, le=10_000, allow_inf_nan=False,
        description="Requests that we send in a second at most; 0: no limit of ours.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _fit_together(self) -> ListedRegistry:
        if self.password_file and self.password_env:
            raise ValueError("password_file and password_env are two places for one password")
        password = "password_file" if self.password_file else "password_env"
        if (self.password_file or self.password_env) and not self.username:
            raise ValueError(f"{password} needs the key username")
        if self.username and not (self.password_file or self.password_env):
            raise ValueError("username needs password_file or password_env")
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key needs the key client_certificate")
        if self.tls is not Tls.VERIFY and self.ca:
            raise ValueError(f"ca is of no use with tls: {self.tls}, which checks no certificate")
        if self.tls is Tls.PLAIN_HTTP and self.client_certificate:
            raise ValueError("client_certificate is of no use with tls: plain-http")
        return self


class Target(_Model):
    """Where copies go."""

    registry: RegistryHost = Field(description="HOST or HOST:PORT of the registry.")
    prefix: Annotated[str, AfterValidator(checks.check_prefix)] = Field(
        default="", description="Repositories' first part, such as trove."
    )

    @property
    def name(self) -> str:
        """REGISTRY/PREFIX, or the registry alone."""
        return "/".join(filter(None, (self.registry, self.prefix)))


class TagRule(_Model):
    """Which tags; all that is said must hold, but that `names` come besides what is found.

    In a file it may also be a list of tags, or one.
    """

    model_config = ConfigDict(json_schema_extra={"type": ["object", "array", "string", "number"]})

    names: Tags = Field(default=(), description="These tags; each must be there.")
    regex: Annotated[str, AfterValidator(checks.check_regex)] | None = Field(
        default=None, description="Tags that this regular expression matches as a whole."
    )
    versions: Annotated[str, AfterValidator(checks.check_versions)] | None = Field(
        default=None,
        description="Tags that are versions in this range (PEP 440): >=8.0,<9. 8.4-oracle is none.",
    )
    newest: int | None = Field(
        default=None, ge=1, description="Of those, only so many: the highest versions."
    )

    @property
    def asks(self) -> bool:
        """Whether the registry must be asked for its tags."""
        return self.regex is not None or self.versions is not None or self.newest is not None


def _tag_rule(value: object) -> object:
    """A list of tags is short for `names`."""
    found = checks.words(value)
    return {"names": found} if isinstance(found, list) else value


def _aliases(value: object) -> object:
    """One alias may stand without a list."""
    if isinstance(value, dict):
        return {key: checks.words(below) for key, below in value.items()}
    return value


class Defaults(_Model):
    """What images have that do not say otherwise."""

    platforms: Platforms = Field(
        default=(), description="OS/ARCH[/VARIANT] of indexes to keep; empty: all, and all else."
    )
    referrers: bool = Field(
        default=True, description="Copy signatures, SBOMs and attestations of the image, too."
    )
    backup: Backup = Field(
        default="", description="Tag that a replaced image gets, such as {tag}-previous."
    )


class ListedImage(_Model):
    """A repository, which of its tags, and what they are called in the target."""

    source: Annotated[str, AfterValidator(checks.check_source)] = Field(
        description="Name as docker has it, without a tag: quay.io/org/mysql."
    )
    target: Annotated[str, AfterValidator(checks.check_repository)] | None = Field(
        default=None, description="Repository below the prefix; the source's last part if not set."
    )
    tags: Annotated[
        TagRule,
        BeforeValidator(_tag_rule),
    ] = Field(description="Tags: a list, or rules.")
    digest: Annotated[str, AfterValidator(checks.check_digest)] | None = Field(
        default=None, description="What the one tag of the list must be: sha256:…"
    )
    platforms: Platforms | None = Field(default=None, description="As in defaults.")
    referrers: bool | None = Field(default=None, description="As in defaults.")
    backup: Backup | None = Field(default=None, description="As in defaults.")
    aliases: Annotated[dict[Tag, Tags], BeforeValidator(_aliases)] = Field(
        default={},
        description="Further tags in the target, by tag. A tag that has some is wanted even if "
        "no rule finds it.",
    )
    datastore: Datastore | None = Field(
        default=None, description="Trove's datastore manager that uses it: mysql, mariadb, …"
    )
    role: Role = Field(default=Role.DATABASE, description="database or backup.")

    @property
    def repository(self) -> str:
        """The repository in the target, without its prefix."""
        return self.target or self.source.rpartition("/")[2]

    @model_validator(mode="before")
    @classmethod
    def _name_datastore(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file says
        # The option group is `postgresql` (trove/common/cfg.py), whatever the images are called.
        if isinstance(data, dict) and data.get("datastore") == "postgres":
            raise ValueError("the datastore 'postgres' is called 'postgresql' by Trove")
        return data

    @model_validator(mode="after")
    def _fit_together(self) -> ListedImage:
        rule = self.tags
        if not rule.asks and not rule.names:
            raise ValueError("no tag is wanted: list them in tags, or give it rules")
        if self.digest and (rule.asks or len(rule.names) != 1):
            raise ValueError("digest pins one tag: tags must list exactly one, and no rules")
        for tag in self.aliases:
            if not rule.asks and tag not in rule.names:
                hint = nearest_hint(tag, rule.names)
                raise ValueError(
                    f"aliases: {shown(tag)} is none of the tags: {', '.join(rule.names)}"
                    + (f" ({hint})" if hint else "")
                )
        checks.check_unique(
            [*rule.names, *(alias for found in self.aliases.values() for alias in found)],
            "the tag or alias",
        )
        return self


class MirrorList(_Model):
    """One file: where from, where to, and how the registries are spoken to."""

    target: Target = Field(description="Where copies go.")
    defaults: Defaults = Field(default=Defaults(), description="For images that do not say it.")
    registries: tuple[ListedRegistry, ...] = Field(
        default=(), description="How registries are spoken to."
    )
    images: tuple[ListedImage, ...] = Field(description="What is copied.")

    @model_validator(mode="after")
    def _fit_together(self) -> MirrorList:
        if not self.images:
            raise ValueError("images: the list is empty; at least one image is needed")
        checks.check_unique((r.host for r in self.registries), "registries: the host")
        return self


MIRROR_LIST = Kind(
    model=MirrorList,
    noun="mirror list",
    shows="imagebuild mirror schema",
    lists="imagebuild mirror list",
    example="imagebuild mirror list",
    path_keys=tuple(
        ("registries", "*", key)
        for key in ("ca", "client_certificate", "client_key", "password_file")
    ),
    appended=(("extra_images", "images"),),
)


def file_schema() -> dict[str, Any]:
    """JSON schema of a mirror list's file: nothing is required, for it may extend another."""
    return schema_of_files(
        MIRROR_LIST,
        {
            "extends": {
                "type": "string",
                "description": "List that this one builds on: a name, or a path from the file.",
            }
        },
        {
            "extra_images": {
                "type": "array",
                "items": {"$ref": "#/$defs/ListedImage"},
                "description": "Images behind those of the list that this one extends.",
            }
        },
    )
