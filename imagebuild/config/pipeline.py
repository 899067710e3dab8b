"""What a pipeline is: the schema, with every key described.

A `Pipeline` is a frozen value, as a `Profile` is; imagebuild/pipeline/loading.py reads files.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from imagebuild.config import pipelinevalues as checks
from imagebuild.config.kind import Kind, schema_of_files
from imagebuild.config.pipelineengines import Engines, Github, Gitlab, Zuul
from imagebuild.config.pipelinepaths import relocate
from imagebuild.config.pipelinewords import (
    LEVELS,
    Accelerator,
    Age,
    Arches,
    Cloud,
    Firmwares,
    Level,
    Method,
    Name,
    Network,
    Networks,
    OnMirrorFailure,
    Packages,
    Part,
    Percent,
    Properties,
    SeriesList,
    Size,
    Text,
    Version,
    Visibility,
    Wait,
    Words,
)
from imagebuild.config.profile import AbsolutePath, Duration
from imagebuild.config.values import parse_age
from imagebuild.config.words import Format, Series

__all__ = [
    "LEVELS",
    "PIPELINE",
    "Accelerator",
    "Engines",
    "Gates",
    "Github",
    "Gitlab",
    "ImageRow",
    "Level",
    "Method",
    "MirrorStep",
    "Network",
    "OnMirrorFailure",
    "Pipeline",
    "Publish",
    "Retention",
    "Retire",
    "Retry",
    "Timeouts",
    "Verify",
    "VersionToPromote",
    "Visibility",
    "Zuul",
    "file_schema",
]


class MirrorStep(Part):
    """A mirror list that is synced before the images."""

    list: Text = Field(description="Name of a mirror list, or its file; relative to this file.")
    name: Name | None = Field(default=None, description="Stands in the cell's id; the list's.")
    target: Text | None = Field(
        default=None,
        description="REGISTRY[/PREFIX], as --target; else as the list or IMAGEBUILD_MIRROR_TARGET "
        "say. Where nobody does, the step is left out, as long as nothing is published.",
    )
    only: Words = Field(default=(), description="Patterns, as --only.")
    locked: bool = Field(default=False, description="Digests of the lock file, as --locked.")


class Verify(Part):
    """What is asked of an image before anybody gets it."""

    level: Level = Field(default=Level.BOOT, description="How far it is proven.")
    databases: Words = Field(default=(), description="DATASTORE:VERSION[=IMAGE], as --database.")
    backup_images: Words = Field(default=(), description="DATASTORE=IMAGE, as --backup-image.")
    registries: Words = Field(default=(), description="As --registry.")
    insecure_registry: bool = Field(default=False, description="As --insecure-registry.")
    networks: Networks = Field(default=(), description="As --network.")
    firmwares: Firmwares = Field(default=(), description="bios, uefi; as --firmware.")
    accelerator: Accelerator | None = Field(
        default=None, description="kvm or tcg, as --accelerator."
    )
    timeouts: Words = Field(default=(), description="MILESTONE=TIME, as --timeout.")


class VersionToPromote(Part):
    """A datastore version that gets the image once it is in the cloud."""

    datastore: Text = Field(description="Name of the datastore: mysql.")
    version: Version = Field(description="Name of the version: 8.4.")
    number: Version | None = Field(default=None, description="Its number; the name when not set.")
    manager: Text | None = Field(default=None, description="Its manager; the datastore's name.")
    image_tags: Words = Field(
        default=(), description="The version is made to go by these tags; by image id when empty."
    )
    default: bool | None = Field(default=None, description="Whether it is the default version.")
    create: bool = Field(default=True, description="Make the version where it is not there.")

    @property
    def label(self) -> str:
        """For people, as `datastore list` has it."""
        suffix = f" ({self.number})" if self.number not in (None, self.version) else ""
        return f"{self.datastore} {self.version}{suffix}"


class Retire(Part):
    """What becomes of older images of a datastore (`datastore retire`)."""

    keep: int = Field(default=2, ge=0, description="As --keep.")
    grace: Age | None = Field(default=None, description="As --grace, like 7d.")

    @property
    def grace_seconds(self) -> int:
        """`grace` in seconds; 0: until the next run."""
        return parse_age(self.grace) if self.grace else 0


class Publish(Part):
    """One cloud, and what it gets."""

    cloud: Cloud | None = Field(default=None, description="Name in clouds.yaml; OS_* when not set.")
    visibility: Visibility | None = Field(default=None, description="Who may use the image.")
    name: Text | None = Field(default=None, description="Name of the image, as --name.")
    tags: Words = Field(default=(), description="Tags, as --tag.")
    datastores: Words = Field(default=(), description="As --datastore of `upload`: Trove's tags.")
    properties: Properties = Field(default={}, description="As --property.")
    protected: bool = Field(default=False, description="As --protected.")
    format: Format | None = Field(default=None, description="As --format.")
    convert: bool = Field(default=False, description="As --convert: a raw image.")
    method: Method | None = Field(default=None, description="As --method.")
    control_plane_series: Series | None = Field(default=None, description="The cloud's Trove.")
    versions: tuple[VersionToPromote, ...] = Field(
        default=(),
        description="Datastore versions. With them the image is uploaded as a candidate, which "
        "Trove does not see by its tags before it is promoted.",
    )
    promote: bool = Field(default=True, description="False: candidates wait for a person.")
    retire: Retire | None = Field(default=None, description="Older images go; not when not set.")

    @property
    def label(self) -> str:
        """The cloud for people."""
        return self.cloud or "environment"

    @model_validator(mode="after")
    def _fit_together(self) -> Publish:
        if self.tags and self.datastores:
            raise ValueError("tags stand in place of datastores: say one of them")
        if self.convert and self.format not in (None, Format.RAW):
            raise ValueError(f"convert makes a raw image; format: {self.format} is another one")
        if not self.versions:
            if self.retire:
                raise ValueError("retire goes by the datastores of versions, and there are none")
            if not self.promote:
                raise ValueError("promote: false is about versions, and there are none")
        seen: set[tuple[str, str, str]] = set()
        defaults: dict[str, str] = {}
        for one in self.versions:
            key = (one.datastore.lower(), one.version.lower(), one.number or one.version)
            if key in seen:
                raise ValueError(f"the version {one.label} is listed twice")
            seen.add(key)
            if one.default and (other := defaults.setdefault(key[0], one.label)) != one.label:
                raise ValueError(f"{other} and {one.label}: one version is the default")
        return self


class Gates(Part):
    """What an image must not be; exit code 7."""

    size: Size | None = Field(default=None, description="Largest file that is published: 600M.")
    growth: Percent | None = Field(
        default=None, description="How much larger than the last published one: 20%."
    )
    verified: Level | None = Field(default=None, description="Least level that must be proven.")
    deny_packages: Packages = Field(
        default=(),
        description="Packages that it must not have, as packages.txt names them (python:NAME); "
        "* stands for anything.",
    )
    mirrors: OnMirrorFailure = Field(
        default=OnMirrorFailure.HOLD, description="What a failed mirror list means: hold or go-on."
    )


class ImageRow(Part):
    """Images: every combination of profile, series and architecture is a cell."""

    profiles: Words = Field(description="Names of profiles, or files; relative to this file.")
    series: SeriesList = Field(default=(), description="OpenStack series; the profile's.")
    arches: Arches = Field(default=(), description="Architectures; the profile's.")
    name: Name | None = Field(default=None, description="Stands in the cells' ids; the profile's.")
    set: Annotated[dict[str, Any], BeforeValidator(checks.settings)] = Field(
        default={},
        description="Keys of the profile, as --set: dotted or nested; KEY+ adds to a list.",
    )
    verify: Verify | None = Field(default=None, description="In place of the file's verify.")
    publish: tuple[Publish, ...] | None = Field(default=None, description="In place of the file's.")
    gates: Gates | None = Field(default=None, description="In place of the file's gates.")

    @model_validator(mode="after")
    def _fit_together(self) -> ImageRow:
        if not self.profiles:
            raise ValueError("profiles: the list is empty; at least one profile is needed")
        for key, instead in (("arch", "arches"), ("agent.series", "series"), ("name", "name")):
            if {key, f"{key}+"} & set(self.set):
                raise ValueError(f"set: {key} has a key of its own here: {instead}")
        return self


class Retry(Part):
    """Of what failed for a temporary reason (exit code 75), and of nothing else."""

    attempts: int = Field(default=3, ge=1, le=20, description="Tries in all.")
    wait: Wait = Field(default="60s", description="Before the second; doubles after that.")


class Retention(Part):
    """What is kept on this host."""

    artifacts: int | None = Field(
        default=None, ge=1, description="Newest artifacts of each cell that stay; all when not set."
    )
    reports: int = Field(default=30, ge=1, description="Reports that stay.")


class Timeouts(Part):
    """How long a phase may take before it is ended."""

    mirror: Duration = Field(default="2h", description="Limit of a mirror list.")
    build: Duration = Field(default="3h", description="Limit of a build.")
    verify: Duration = Field(default="2h", description="Limit of a verification.")
    publish: Duration = Field(default="2h", description="Limit of each step of publishing.")


class Pipeline(Part):
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

    @model_validator(mode="after")
    def _fit_together(self) -> Pipeline:
        if not self.images and not self.mirrors:
            raise ValueError("there is nothing to do: images or mirrors must be listed")
        return self


PIPELINE = Kind(
    model=Pipeline,
    noun="pipeline",
    shows="imagebuild pipeline schema",
    lists="imagebuild pipeline list",
    example="imagebuild pipeline plan nightly",
    path_keys=(("profiles_path",),),
    appended=(("extra_mirrors", "mirrors"), ("extra_images", "images")),
    relocate=relocate,
)


def file_schema() -> dict[str, Any]:
    """JSON schema of a pipeline's file."""
    extends = {
        "type": "string",
        "description": "Pipeline that this one builds on: a name, or a path from the file.",
    }
    texts = {"mirrors": "MirrorStep", "images": "ImageRow"}
    extra = {
        f"extra_{key}": {
            "type": "array",
            "items": {"$ref": f"#/$defs/{name}"},
            "description": f"Entries behind the {key} of the pipeline that this one extends.",
        }
        for key, name in texts.items()
    }
    return schema_of_files(PIPELINE, {"extends": extends}, extra)
