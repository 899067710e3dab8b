"""What a pipeline is: the schema, with every key described.

A `Pipeline` is a frozen value, as a `Profile` is; imagebuild/pipeline/loading.py reads files.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from imagebuild.config import pipelinevalues as checks
from imagebuild.config.kind import Kind, schema_of_files
from imagebuild.config.mirrorvalues import words
from imagebuild.config.profile import AbsolutePath, Duration
from imagebuild.config.values import check_profile_name
from imagebuild.config.words import Arch, Series, Word


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Level(Word):
    """How far an image is proven (imagebuild.verify.results.Level)."""

    STATIC = "static"
    BOOT = "boot"
    AGENT = "agent"
    DATABASE = "database"


class Visibility(Word):
    """Who may use an image in Glance."""

    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"
    PUBLIC = "public"


class Network(Word):
    """Trove's network_isolation, as `verify --network` has it."""

    ISOLATION = "isolation"
    BRIDGE = "bridge"


class OnMirrorFailure(Word):
    """What a mirror list that is not whole means for the images."""

    HOLD = "hold"  # nothing is promoted: guests might not find their containers
    GO_ON = "go-on"


Name = Annotated[str, AfterValidator(check_profile_name)]
Size = Annotated[str, BeforeValidator(checks.check_size)]
Words = Annotated[tuple[str, ...], BeforeValidator(words)]


class MirrorStep(_Model):
    """A mirror list that is synced before the images."""

    list: str = Field(description="Name of a mirror list, or its file; relative to this file.")
    target: str | None = Field(default=None, description="REGISTRY[/PREFIX], as --target.")
    only: Words = Field(default=(), description="Patterns, as --only.")
    locked: bool = Field(default=False, description="Digests of the lock file, as --locked.")


class Verify(_Model):
    """What is asked of an image before anybody gets it."""

    level: Level = Field(default=Level.BOOT, description="How far it is proven.")
    databases: Words = Field(default=(), description="DATASTORE:VERSION[=IMAGE], as --database.")
    backup_images: Words = Field(default=(), description="DATASTORE=IMAGE, as --backup-image.")
    registries: Words = Field(default=(), description="As --registry.")
    insecure_registry: bool = Field(default=False, description="As --insecure-registry.")
    networks: tuple[Network, ...] = Field(default=(), description="As --network.")
    firmwares: Words = Field(default=(), description="bios, uefi; as --firmware.")
    accelerator: str | None = Field(default=None, description="kvm or tcg, as --accel.")
    timeouts: Words = Field(default=(), description="MILESTONE=TIME, as --timeout.")


class VersionToPromote(_Model):
    """A datastore version that gets the image once it is in the cloud."""

    datastore: str = Field(description="Name of the datastore: mysql.")
    version: str = Field(description="Name of the version: 8.4.")
    number: str | None = Field(default=None, description="Its number; the name when not set.")
    manager: str | None = Field(default=None, description="Its manager; the datastore's name.")
    image_tags: Words = Field(
        default=(), description="The version is made to go by these tags; by image id when empty."
    )
    default: bool | None = Field(default=None, description="Whether it is the default version.")
    create: bool = Field(default=True, description="Make the version where it is not there.")


class Retire(_Model):
    """What becomes of older images of a datastore (`datastore retire`)."""

    keep: int = Field(default=2, ge=0, description="As --keep.")
    grace: str | None = Field(default=None, description="As --grace, like 7d.")


class Publish(_Model):
    """One cloud, and what it gets."""

    cloud: str | None = Field(default=None, description="Name in clouds.yaml; OS_* when not set.")
    visibility: Visibility | None = Field(default=None, description="Who may use the image.")
    name: str | None = Field(default=None, description="Name of the image, as --name.")
    tags: Words = Field(default=(), description="Tags, as --tag.")
    datastores: Words = Field(default=(), description="As --datastore of `upload`: Trove's tags.")
    properties: dict[str, str] = Field(default={}, description="As --property.")
    protected: bool = Field(default=False, description="As --protected.")
    format: str | None = Field(default=None, description="As --format.")
    convert: bool = Field(default=False, description="As --convert: a raw image.")
    method: str | None = Field(default=None, description="As --method.")
    control_plane_series: Series | None = Field(default=None, description="The cloud's Trove.")
    versions: tuple[VersionToPromote, ...] = Field(
        default=(),
        description="Datastore versions. With them the image is uploaded as a candidate, which "
        "Trove does not see by its tags before it is promoted.",
    )
    promote: bool = Field(default=True, description="False: candidates wait for a person.")
    retire: Retire | None = Field(default=None, description="Older images go; not when not set.")


class Gates(_Model):
    """What an image must not be; exit code 7."""

    size: Size | None = Field(default=None, description="Largest file that is published: 600M.")
    growth: str | None = Field(
        default=None, description="How much larger than the last published one: 20%."
    )
    verified: Level | None = Field(default=None, description="Least level that must be proven.")
    deny_packages: Words = Field(default=(), description="Packages (patterns) it must not have.")
    mirrors: OnMirrorFailure = Field(
        default=OnMirrorFailure.HOLD, description="What a failed mirror list means: hold or go-on."
    )


class ImageRow(_Model):
    """Images: every combination of profile, series and architecture is a cell."""

    profiles: Words = Field(description="Names of profiles, or files.")
    series: tuple[Series, ...] = Field(default=(), description="OpenStack series; the profile's.")
    arches: tuple[Arch, ...] = Field(default=(), description="Architectures; the profile's.")
    name: Name | None = Field(default=None, description="Stands in the cells' ids; the profile's.")
    set: dict[str, Any] = Field(default={}, description="Keys of the profile, as --set KEY=VALUE.")
    verify: Verify | None = Field(default=None, description="In place of the file's verify.")
    publish: tuple[Publish, ...] | None = Field(default=None, description="In place of the file's.")
    gates: Gates | None = Field(default=None, description="In place of the file's gates.")


class Retry(_Model):
    """Of what failed for a temporary reason (exit code 75), and of nothing else."""

    attempts: int = Field(default=3, ge=1, le=20, description="Tries in all.")
    wait: Duration = Field(default="60s", description="Before the second; doubles after that.")


class Retention(_Model):
    """What is kept on this host."""

    artifacts: int | None = Field(
        default=None, ge=1, description="Newest artifacts of each cell that stay; all when not set."
    )
    reports: int = Field(default=30, ge=1, description="Reports that stay.")


class Timeouts(_Model):
    """How long a phase may take before it is ended."""

    mirror: Duration = Field(default="2h", description="Limit of a mirror list.")
    build: Duration = Field(default="3h", description="Limit of a build.")
    verify: Duration = Field(default="2h", description="Limit of a verification.")
    publish: Duration = Field(default="2h", description="Limit of each step of publishing.")


class Github(_Model):
    """What `pipeline export github` needs to know."""

    runs_on: Words = Field(default=("ubuntu-24.04",), description="Labels of runners that build.")
    verify_runs_on: Words = Field(default=(), description="Labels of runners with KVM.")
    publish_runs_on: Words = Field(default=(), description="Labels of runners that publish.")
    environment: str | None = Field(default=None, description="Environment of publishing jobs.")


class Gitlab(_Model):
    """What `pipeline export gitlab` needs to know."""

    image: str | None = Field(default=None, description="Container image of the jobs.")
    tags: Words = Field(default=(), description="Tags of runners that build.")
    verify_tags: Words = Field(default=(), description="Tags of runners with KVM.")
    publish_tags: Words = Field(default=(), description="Tags of runners that publish.")


class Zuul(_Model):
    """What `pipeline export zuul` needs to know."""

    nodeset: str = Field(default="ubuntu-noble", description="Nodeset of builds.")
    verify_nodeset: str | None = Field(default=None, description="Nodeset with nested KVM.")
    pipeline: str = Field(default="periodic", description="Zuul's pipeline.")
    secret: str | None = Field(default=None, description="Secret with clouds.yaml.")


class Engines(_Model):
    """Where jobs of exported definitions run."""

    schedule: str = Field(default="17 2 * * *", description="Cron line, UTC.")
    install: str = Field(
        default="pip install imagebuild", description="Command that brings the tool to a runner."
    )
    github: Github = Field(default=Github(), description="GitHub Actions.")
    gitlab: Gitlab = Field(default=Gitlab(), description="GitLab CI/CD.")
    zuul: Zuul = Field(default=Zuul(), description="Zuul.")


class Pipeline(_Model):
    """What is done every night: which images, how far proven, and where they go."""

    name: Name = Field(description="Name of the pipeline; the file's name when not set.")
    mirrors: tuple[MirrorStep, ...] = Field(default=(), description="Mirror lists, in order.")
    images: tuple[ImageRow, ...] = Field(default=(), description="The matrix.")
    profiles_path: tuple[AbsolutePath, ...] = Field(
        default=(), description="Directories with profiles, as --profiles-path."
    )
    verify: Verify = Field(default=Verify(), description="What is asked of every image.")
    publish: tuple[Publish, ...] = Field(default=(), description="Clouds; none: nothing goes up.")
    gates: Gates = Field(default=Gates(), description="Policy.")
    retry: Retry = Field(default=Retry(), description="Of temporary failures.")
    retention: Retention = Field(default=Retention(), description="What stays on this host.")
    timeouts: Timeouts = Field(default=Timeouts(), description="Limits of the phases.")
    engines: Engines = Field(default=Engines(), description="For exported job definitions.")


PIPELINE = Kind(
    model=Pipeline,
    noun="pipeline",
    shows="imagebuild pipeline schema",
    lists="imagebuild pipeline list",
    example="imagebuild pipeline plan nightly",
    path_keys=(("profiles_path",),),
)


def file_schema() -> dict[str, Any]:
    """JSON schema of a pipeline's file."""
    extends = {
        "type": "string",
        "description": "Pipeline that this one builds on: a name, or a path from the file.",
    }
    return schema_of_files(PIPELINE, {"extends": extends})
