"""What exported job definitions need to know of the engine that runs them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from imagebuild.config import pipelinevalues as checks
from imagebuild.config.pipelinewords import Label, Labels, Part


class Github(Part):
    """What `pipeline export github` needs to know."""

    runs_on: Labels = Field(default=("ubuntu-24.04",), description="Labels of runners that build.")
    verify_runs_on: Labels = Field(default=(), description="Labels of runners with KVM.")
    publish_runs_on: Labels = Field(default=(), description="Labels of runners that publish.")
    environment: Label | None = Field(default=None, description="Environment of publishing jobs.")


class Gitlab(Part):
    """What `pipeline export gitlab` needs to know."""

    image: Annotated[str, AfterValidator(checks.check_image)] | None = Field(
        default=None, description="Container image of the jobs."
    )
    tags: Labels = Field(default=(), description="Tags of runners that build.")
    verify_tags: Labels = Field(default=(), description="Tags of runners with KVM.")
    publish_tags: Labels = Field(default=(), description="Tags of runners that publish.")


class Zuul(Part):
    """What `pipeline export zuul` needs to know."""

    nodeset: Label = Field(default="ubuntu-noble", description="Nodeset of builds.")
    verify_nodeset: Label | None = Field(default=None, description="Nodeset with nested KVM.")
    pipeline: Label = Field(default="periodic", description="Zuul's pipeline.")
    secret: Label | None = Field(default=None, description="Secret with clouds.yaml.")


class Engines(Part):
    """Where jobs of exported definitions run."""

    schedule: Annotated[str, AfterValidator(checks.check_cron)] = Field(
        default="17 2 * * *", description="Cron line, UTC."
    )
    install: Annotated[str, AfterValidator(checks.check_command)] = Field(
        default="pip install imagebuild", description="Command that brings the tool to a runner."
    )
    github: Github = Field(default=Github(), description="GitHub Actions.")
    gitlab: Gitlab = Field(default=Gitlab(), description="GitLab CI/CD.")
    zuul: Zuul = Field(default=Zuul(), description="Zuul.")
