"""GitLab CI/CD: one file to include (docs.gitlab.com, CI/CD YAML syntax reference).

- A job has one archive of artifacts. A build's has the image, which `collect` is not to
  download for each cell; what verifying and publishing leave has the build's report in it, and
  for builds that failed a job of its own hands on the report alone.
- `collect` goes by stages, not by `needs`: it waits for everything, however it ended, and for
  more than the 50 jobs that `needs` may name.
- `rules` of a job stand in place of those that it extends, so each has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagebuild.pipeline.cells import ImageCell, Job
from imagebuild.pipeline.export import scripts
from imagebuild.pipeline.export.source import JobDefinition, Source
from imagebuild.pipeline.export.yamltext import dump, spaced

STAGES = (Job.MIRROR.value, Job.BUILD.value, Job.VERIFY.value, Job.PUBLISH.value, "collect")
COLLECT = "collect"
_IMAGE_AGE = "1 day"
_COLLECT_MINUTES = 30


def files(source: Source) -> Mapping[str, str]:
    """The file that .gitlab-ci.yml includes, or that the project's settings name."""
    schedule = source.pipeline.engines.schedule
    header = source.header(
        "include:local in .gitlab-ci.yml takes it, or Settings > CI/CD > CI/CD configuration",
        "file. Build > Pipeline schedules starts it, in time zone UTC with the cron line",
        f"{schedule}; where the project has other schedules, too, with the variable",
        f"IMAGEBUILD_SCHEDULE={source.pipeline.name}. By hand: Build > Pipelines > New pipeline.",
        "Variables (Settings > CI/CD) of type File, protected: CLOUDS_YAML where images are",
        "published; REGISTRY_AUTH, docker's config.json, where registries want a login.",
        "An image is one archive of artifacts: the instance's limit (100 MB, when nobody has",
        "set it) must be larger, Admin > Settings > CI/CD.",
    )
    document: dict[str, Any] = {"stages": list(STAGES), _base(source): _common(source)}
    for one in source.jobs:
        document[one.name] = _job(source, one)
        if one.job is Job.BUILD:
            document[f"failed-{one.cell.id}"] = _failed(source, one)
    document[COLLECT] = _collect(source)
    return {f"{source.name}.gitlab-ci.yml": header + "\n" + spaced(dump(document))}


def _base(source: Source) -> str:
    return f".{source.name}"


def _common(source: Source) -> dict[str, Any]:
    engine = source.pipeline.engines.gitlab
    common: dict[str, Any] = {
        "variables": {
            "PIPELINE": source.file,
            "NAME": source.pipeline.name,
            # Images are compressed; the runner's other archiver keeps up with disks.
            "FF_USE_FASTZIP": "true",
            "ARTIFACT_COMPRESSION_LEVEL": "fastest",
            "CACHE_COMPRESSION_LEVEL": "fastest",
        },
        "interruptible": False,
        # Of the engine's own faults; what is worth a retry otherwise, the command retries.
        "retry": {"max": 1, "when": ["runner_system_failure", "stuck_or_timeout_failure"]},
    }
    if engine.image:
        common["image"] = engine.image
    return common


def _rules(source: Source, when: str) -> list[dict[str, Any]]:
    """Schedules that name this pipeline, or none; and by hand."""
    wanted = f'$IMAGEBUILD_SCHEDULE == null || $IMAGEBUILD_SCHEDULE == "{source.pipeline.name}"'
    started = '$CI_PIPELINE_SOURCE == "schedule" || $CI_PIPELINE_SOURCE == "web"'
    return [{"if": f"({started}) && ({wanted})", "when": when}]


def _job(source: Source, one: JobDefinition) -> dict[str, Any]:
    engine = source.pipeline.engines.gitlab
    tags = {
        Job.VERIFY: engine.verify_tags,
        Job.PUBLISH: engine.publish_tags if one.publishes else (),
    }.get(one.job) or engine.tags
    job: dict[str, Any] = {
        "extends": _base(source),
        "stage": one.job.value,
        "rules": _rules(source, "always" if one.after else "on_success"),
        # Nothing but what is named is waited for; mirror lists that failed stop no build.
        "needs": [
            *({"job": name, "artifacts": False} for name in one.after),
            *({"job": name, "artifacts": _hands_on(name, one)} for name in one.needs),
        ],
    }
    if tags:
        job["tags"] = list(tags)
    if one.seconds:
        job["timeout"] = f"{-(-one.seconds // 60)} minutes"
    if one.publishes:
        job["resource_group"] = source.lock
    job["variables"] = {"CELL": one.cell.id, "JOB": one.job.value}
    unpack = [scripts.unpack(scripts.HAND)] if one.needs else []
    unpack = [scripts.unpack(scripts.HAND)] if one.needs else []
    run = scripts.run(source.pipeline.engines.install)
    job["script"] = [*unpack, *_secrets(one), scripts.afterwards(run, scripts.pack())]
    job["artifacts"] = _artifacts()
    return job


def _artifacts() -> dict[str, Any]:
    return {"when": "always", "expire_in": _IMAGE_AGE, "paths": [f"{scripts.HAND}/"]}


def _hands_on(name: str, one: JobDefinition) -> bool:
    """Whether what that job has left is wanted: not that of mirror lists."""
    return isinstance(one.cell, ImageCell) and name not in one.cell.after


def _secrets(one: JobDefinition) -> list[str]:
    """Variables of type File are paths; what they hold is copied to where only this job reads."""
    wanted = {"REGISTRY_AUTH": "REGISTRY_AUTH_FILE"}
    if one.publishes:
        wanted["CLOUDS_YAML"] = "OS_CLIENT_CONFIG_FILE"
    lines = ["secrets=$(mktemp -d)", "trap 'rm -rf \"$secrets\"' EXIT"]
    for name, variable in wanted.items():
        lines += [
            f'if [ -n "${{{name}:-}}" ]; then',
            f'  install -m 0600 -- "${name}" "$secrets/{name}"',
            f'  export {variable}="$secrets/{name}"',
            "fi",
        ]
    return ["\n".join(lines) + "\n"]


def _failed(source: Source, one: JobDefinition) -> dict[str, Any]:
    """The report of a build that failed: then there is no image, and nobody else hands it on."""
    return {
        "extends": _base(source),
        "stage": Job.VERIFY.value,
        "rules": _rules(source, "on_failure"),
        "needs": [{"job": one.name, "artifacts": True}],
        **({"tags": list(t)} if (t := source.pipeline.engines.gitlab.tags) else {}),
        "variables": {"GIT_STRATEGY": "none"},
        "script": [f"ls {scripts.HAND}"],
        "artifacts": _artifacts(),
    }


def _collect(source: Source) -> dict[str, Any]:
    reports = [f"failed-{one.cell.id}" if one.job is Job.BUILD else one.name for one in source.jobs]
    nights = source.pipeline.retention.reports
    tags = source.pipeline.engines.gitlab.tags
    return {
        "extends": _base(source),
        "stage": COLLECT,
        "rules": _rules(source, "always"),
        "dependencies": reports,
        **({"tags": list(tags)} if tags else {}),
        "timeout": f"{_COLLECT_MINUTES} minutes",
        "cache": {"key": f"{source.name}-reports", "paths": ["out/history/"], "when": "always"},
        "script": [
            scripts.unpack(scripts.HAND),
            scripts.afterwards(scripts.collect(source.pipeline.engines.install), scripts.show()),
        ],
        "artifacts": {
            "when": "always",
            "expire_in": f"{nights} days",
            "paths": ["out/report/"],
            "reports": {"junit": "out/report/junit.xml"},
        },
    }
