"""GitHub Actions: one workflow (docs.github.com, workflow syntax).

- `if:` of each job names what must have passed. Without one, GitHub takes success() of all
  ancestors: a failed mirror list would stop the jobs behind builds that never asked for it.
- A concurrency group holds one running and one waiting job; a third would cancel the waiting
  one. So publishing jobs wait for each other in a row, too.
- Values reach scripts through the environment alone, expressions are none of the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagebuild.pipeline.cells import Job
from imagebuild.pipeline.export import scripts
from imagebuild.pipeline.export.source import JobDefinition, Source
from imagebuild.pipeline.export.yamltext import dump, spaced

CHECKOUT = "actions/checkout@v6"
UPLOAD = "actions/upload-artifact@v6"
DOWNLOAD = "actions/download-artifact@v7"
CACHE = "actions/cache@v5"

COLLECT = "collect"
#: Days that images stay: a job of the next morning may still be run again.
_IMAGE_DAYS = 2
#: GitHub keeps nothing longer.
_MOST_DAYS = 90
_COLLECT_MINUTES = 30
#: What jobs take from the repository's variables, where they are set.
_VARIABLES = ("IMAGEBUILD_STORE_REMOTE", "IMAGEBUILD_MIRROR_TARGET")


def files(source: Source) -> Mapping[str, str]:
    """The workflow."""
    header = source.header(
        "Secrets of the repository (or of the environment): CLOUDS_YAML, the text of clouds.yaml,",
        "where images are published; REGISTRY_AUTH, docker's config.json, where registries want a",
        "login. Variables: " + ", ".join(_VARIABLES) + ".",
    )
    jobs: dict[str, Any] = {}
    previous = ""
    for one in source.jobs:
        jobs[one.name] = _job(source, one, previous)
        previous = one.name if one.publishes else previous
    jobs[COLLECT] = _collect(source)
    workflow = {
        "name": source.name,
        "on": {
            "schedule": [{"cron": source.pipeline.engines.schedule}],
            "workflow_dispatch": {},
        },
        "permissions": {"contents": "read"},
        "concurrency": {"group": source.name, "cancel-in-progress": False},
        "defaults": {"run": {"shell": "bash"}},
        "env": {"PIPELINE": source.file, "NAME": source.pipeline.name}
        | {name: _expression(f"vars.{name}") for name in _VARIABLES},
        "jobs": jobs,
    }
    # PyYAML, like all of YAML 1.1, takes a bare `on` for true; GitHub reads it either way.
    return {f".github/workflows/{source.name}.yml": header + "\n" + spaced(dump(workflow))}


def _job(source: Source, one: JobDefinition, previous: str) -> dict[str, Any]:
    engine = source.pipeline.engines.github
    labels = {
        Job.VERIFY: engine.verify_runs_on,
        Job.PUBLISH: engine.publish_runs_on if one.publishes else (),
    }.get(one.job) or engine.runs_on
    waits = [previous] if one.publishes and previous else []
    job: dict[str, Any] = {"name": f"{one.cell.id} ({title(one).lower()})"}
    if one.after or one.needs or waits:
        passed = [f"needs.{name}.result == 'success'" for name in one.needs]
        job["needs"] = [*one.after, *one.needs, *waits]
        job["if"] = _expression(" && ".join(["!cancelled()", *passed]))
    job["runs-on"] = list(labels) if len(labels) > 1 else labels[0]
    if one.seconds:
        job["timeout-minutes"] = -(-one.seconds // 60)
    if one.publishes:
        if engine.environment:
            job["environment"] = engine.environment
        job["concurrency"] = {"group": source.lock, "cancel-in-progress": False}
    job["env"] = {"CELL": one.cell.id, "JOB": one.job.value}
    job["steps"] = [
        {"uses": CHECKOUT, "with": {"persist-credentials": False}},
        *_inputs(one),
        *_secrets(one),
        {"name": title(one), "run": scripts.run(source.pipeline.engines.install)},
        *_outputs(one),
        _forget(),
    ]
    return job


def title(one: JobDefinition) -> str:
    """What a job does, for people."""
    if one.job is Job.PUBLISH and not one.publishes:
        return "Gates"
    return one.job.value.title()


def _inputs(one: JobDefinition) -> Sequence[dict[str, Any]]:
    """What the cell's earlier jobs have left."""
    cell = one.cell.id
    names = {
        Job.VERIFY: [f"image-{cell}", f"report-build-{cell}"],
        Job.PUBLISH: [f"image-{cell}", f"proof-{cell}", f"report-verify-{cell}"],
    }.get(one.job, [])
    if not names:
        return ()
    return [
        *({"uses": DOWNLOAD, "with": {"name": n, "path": scripts.INPUTS}} for n in names),
        {"name": "Unpack", "run": scripts.unpack()},
        *([{"name": "Open KVM", "run": scripts.kvm()}] if one.job is Job.VERIFY else []),
    ]


def _secrets(one: JobDefinition) -> Sequence[dict[str, Any]]:
    """Secrets that are set, as files that nobody else may read; the shell's own printf has no
    arguments that a process list would show.
    """
    wanted = [n for n in _SECRETS if n != "CLOUDS_YAML" or one.publishes]
    lines = ["umask 077"]
    for name in wanted:
        variable, path = _SECRETS[name]
        lines += [
            f'if [ -n "${name}" ]; then',
            f'  printf \'%s\' "${name}" > "{path}"',
            f'  echo "{variable}={path}" >> "$GITHUB_ENV"',
            "fi",
        ]
    return [
        {
            "name": "Write secrets",
            "env": {name: _expression(f"secrets.{name}") for name in wanted},
            "run": "\n".join(lines) + "\n",
        }
    ]


#: Secret → the variable that names its file to the tool, and the file.
_SECRETS = {
    "REGISTRY_AUTH": ("REGISTRY_AUTH_FILE", "$RUNNER_TEMP/registry-auth.json"),
    "CLOUDS_YAML": ("OS_CLIENT_CONFIG_FILE", "$RUNNER_TEMP/clouds.yaml"),
}


def _forget() -> dict[str, Any]:
    """A runner of one's own keeps its files."""
    names = " ".join(f'"{path}"' for _, path in _SECRETS.values())
    return {"name": "Remove secrets", "if": "always()", "run": f"rm -f {names}\n"}


def _outputs(one: JobDefinition) -> Sequence[dict[str, Any]]:
    cell = one.cell.id
    made = {Job.BUILD: f"image-{cell}", Job.VERIFY: f"proof-{cell}"}.get(one.job)
    passed = {"PASSED": _expression("job.status == 'success'")}
    report = f"report-{one.job.value}-{cell}"
    return [
        {"name": "Pack", "if": "always()", "env": passed, "run": scripts.pack()},
        *([_upload(made, f"{scripts.HAND}/{made}.tar", _IMAGE_DAYS, packed=True)] if made else []),
        _upload(report, f"{scripts.HAND}/{report}.tar", _IMAGE_DAYS, always=True),
    ]


def _upload(
    name: str, path: str, days: int, *, packed: bool = False, always: bool = False
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": name, "path": path, "retention-days": days, "if-no-files-found": "error",
        # A job that is run again leaves another one of this name.
        "overwrite": True,
    }  # fmt: skip
    if packed:
        options["compression-level"] = 0
    return {**({"if": "always()"} if always else {}), "uses": UPLOAD, "with": options}


def _collect(source: Source) -> dict[str, Any]:
    days = min(_MOST_DAYS, source.pipeline.retention.reports)
    report = _upload(source.name, "out/report", days, always=True)
    # Jobs that were cancelled or never ran are no less of a failure than those that failed.
    results = {"RESULTS": _expression("join(needs.*.result, ' ')")}
    check = (
        'for result in $RESULTS; do\n  if [ "$result" != success ]; then\n'
        '    echo "::error::not every job has passed: $RESULTS"\n    exit 1\n  fi\ndone\n'
    )
    labels = source.pipeline.engines.github.runs_on
    return {
        "name": "Report",
        "needs": [one.name for one in source.jobs],
        "if": _expression("always()"),
        "runs-on": list(labels) if len(labels) > 1 else labels[0],
        "timeout-minutes": _COLLECT_MINUTES,
        "steps": [
            {"uses": CHECKOUT, "with": {"persist-credentials": False}},
            {
                "name": "Reports of earlier nights",
                "uses": CACHE,
                "with": {
                    "path": "out/history",
                    "key": f"{source.name}-reports-" + _expression("github.run_id"),
                    "restore-keys": f"{source.name}-reports-",
                },
            },
            {
                "uses": DOWNLOAD,
                "with": {"pattern": "report-*", "path": scripts.INPUTS, "merge-multiple": True},
            },
            {"name": "Unpack", "run": scripts.unpack()},
            {"name": "Collect", "run": scripts.collect(source.pipeline.engines.install)},
            {
                "name": "Show",
                "if": "always()",
                "run": scripts.show() + "if [ -f out/report/report.md ]; then\n"
                '  cat out/report/report.md >> "$GITHUB_STEP_SUMMARY"\nfi\n',
            },
            report,
            {"name": "Every job has passed", "if": "always()", "env": results, "run": check},
        ],
    }


def _expression(text: str) -> str:
    return "${{ " + text + " }}"
