"""Zuul: job definitions, and the playbooks that they run (zuul-ci.org, job reference).

- A job that failed, voting or not, takes all jobs that depend on it with it, softly or not. So
  builds do not wait for mirror lists, and `collect` merges on nights when all has passed; each
  job's post-run playbook brings its own report, whatever happened.
- Files travel as artifacts: fetched to the executor, which uploads them with the logs, and
  named to later jobs by zuul_return.
- Scripts are `!unsafe`: Ansible does not look for templates in them. What tells jobs apart
  reaches them through the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagebuild.pipeline.cells import Job
from imagebuild.pipeline.export import scripts
from imagebuild.pipeline.export.source import JobDefinition, Source
from imagebuild.pipeline.export.yamltext import Unsafe, dump, spaced

_COLLECT_SECONDS = 1800
_POST_SECONDS = 1800
#: Where a job works: the project's checkout.
_WORK = "{{ ansible_user_dir }}/{{ zuul.project.src_dir }}"
_ARTIFACTS = "{{ zuul.executor.log_root }}/artifacts"
#: What of a report is shown with the build: name, and Zuul's type.
_SHOWN = ("report.html", "report.md", "report.json", "junit.xml", "metrics.prom")


def files(source: Source) -> Mapping[str, str]:
    """`zuul.d/NAME.yaml` and `playbooks/NAME/*.yaml`."""
    engine = source.pipeline.engines.zuul
    header = source.header(
        f"The pipeline {engine.pipeline} is the tenant's; its trigger: timer with the time",
        f"'{source.pipeline.engines.schedule}'. By hand: zuul-client enqueue-ref.",
        "Timeouts over three hours need a higher max-job-timeout of the tenant.",
        *(
            (
                f"The secret {engine.secret} has clouds_yaml, the text of clouds.yaml, and,",
                "where registries want a login, registry_auth, docker's config.json.",
            )
            if engine.secret
            else ()
        ),
    )
    playbooks = {"run": _run(source), "post": _post(source), "collect": _collect_playbook(source)}
    return {
        f"zuul.d/{source.name}.yaml": header + "\n" + spaced(dump(_definitions(source))),
        **{
            f"playbooks/{source.name}/{name}.yaml": source.header() + "\n" + dump(play)
            for name, play in playbooks.items()
        },
    }


def _definitions(source: Source) -> list[dict[str, Any]]:
    engine = source.pipeline.engines.zuul
    base = {
        "name": source.name,
        "abstract": True,
        "description": f"A job of the pipeline {source.pipeline.name}.",
        "run": f"playbooks/{source.name}/run.yaml",
        "post-run": f"playbooks/{source.name}/post.yaml",
        "post-timeout": _POST_SECONDS,
        "nodeset": engine.nodeset,
    }
    collect = {
        "name": _name(source, "collect"),
        "description": "Merges the reports of the pipeline's jobs.",
        "nodeset": engine.nodeset,
        "run": f"playbooks/{source.name}/collect.yaml",
        "post-run": f"playbooks/{source.name}/post.yaml",
        "timeout": _COLLECT_SECONDS,
        "vars": {"imagebuild_cell": "all", "imagebuild_job": "collect"},
        "dependencies": [_name(source, one.name) for one in source.jobs],
    }
    jobs = [_job(source, one) for one in source.jobs]
    names = [job["name"] for job in (*jobs, collect)]
    is_locked = any(one.publishes for one in source.jobs)
    return [
        *([{"semaphore": {"name": source.lock, "max": 1}}] if is_locked else []),
        *({"job": job} for job in (base, *jobs, collect)),
        {"project": {engine.pipeline: {"jobs": names}}},
    ]


def _name(source: Source, job: str) -> str:
    """Names of jobs are the tenant's, so they say whose they are."""
    return f"{source.name}-{job}"


def _job(source: Source, one: JobDefinition) -> dict[str, Any]:
    engine = source.pipeline.engines.zuul
    job: dict[str, Any] = {"name": _name(source, one.name), "parent": source.name}
    if one.job is Job.VERIFY and engine.verify_nodeset:
        job["nodeset"] = engine.verify_nodeset
    if one.seconds:
        job["timeout"] = one.seconds
    if one.needs:
        job["dependencies"] = [_name(source, name) for name in one.needs]
    if one.publishes:
        job["semaphores"] = [source.lock]
    if (one.publishes or one.job is Job.MIRROR) and engine.secret:
        job["secrets"] = [{"name": "imagebuild_secret", "secret": engine.secret}]
    cell = one.cell.id
    inputs = {
        Job.VERIFY: [f"image-{cell}.tar", f"report-build-{cell}.tar"],
        Job.PUBLISH: [f"image-{cell}.tar", f"proof-{cell}.tar", f"report-verify-{cell}.tar"],
    }.get(one.job, [])
    job["vars"] = {
        "imagebuild_cell": cell,
        "imagebuild_job": one.job.value,
        "imagebuild_inputs": inputs,
    }
    return job


def _fetch_inputs(which: str) -> list[dict[str, Any]]:
    """Artifacts of earlier jobs, `which` of them (a filter), unpacked."""
    return [
        {
            "name": "Make a directory for what earlier jobs have left",
            "ansible.builtin.file": {
                "path": f"{_WORK}/{scripts.INPUTS}",
                "state": "directory",
                "mode": "0755",
            },
        },
        {
            "name": "Fetch it",
            "ansible.builtin.get_url": {
                "url": "{{ item.url }}",
                "dest": f"{_WORK}/{scripts.INPUTS}/{{{{ item.name | basename }}}}",
                "mode": "0644",
            },
            "loop": f"{{{{ zuul.artifacts | default([]) | {which} | list }}}}",
            "loop_control": {"label": "{{ item.name }}"},
            "register": "fetched",
            "until": "fetched is succeeded",
            "retries": 3,
        },
        _shell("Unpack it", "set -eu\n" + scripts.unpack()),
    ]


def _shell(name: str, text: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": name,
        "ansible.builtin.shell": {
            "cmd": Unsafe(text),
            "chdir": _WORK,
            "executable": "/bin/bash",
        },
    }
    if environment:
        task["environment"] = dict(environment)
    return task


#: Files of secrets: the secret's key, the file, and the variable that names it to the tool.
_SECRETS = (
    ("clouds_yaml", "clouds.yaml", "OS_CLIENT_CONFIG_FILE"),
    ("registry_auth", "registry-auth.json", "REGISTRY_AUTH_FILE"),
)
_SECRET_DIR = "{{ ansible_user_dir }}/imagebuild-secrets"  # noqa: S105 - no secret, its place


def _run(source: Source) -> list[dict[str, Any]]:
    write: list[dict[str, Any]] = [
        {
            "name": "Make a directory for secrets",
            "ansible.builtin.file": {"path": _SECRET_DIR, "state": "directory", "mode": "0700"},
        },
        *(
            {
                "name": f"Write {file}",
                "ansible.builtin.copy": {
                    "content": f"{{{{ imagebuild_secret.{key} }}}}",
                    "dest": f"{_SECRET_DIR}/{file}",
                    "mode": "0600",
                },
                "no_log": True,
                "when": f"imagebuild_secret is defined and '{key}' in imagebuild_secret",
            }
            for key, file, _ in _SECRETS
        ),
    ]
    command = _shell(
        "Do it",
        "set -eu -o pipefail\n" + scripts.run(source.pipeline.engines.install),
        {
            "PIPELINE": source.file,
            "CELL": "{{ imagebuild_cell }}",
            "JOB": "{{ imagebuild_job }}",
            # Files that are not there count as none.
            **{variable: f"{_SECRET_DIR}/{file}" for _, file, variable in _SECRETS},
        },
    )
    forget = {
        "name": "Remove secrets",
        "ansible.builtin.file": {"path": _SECRET_DIR, "state": "absent"},
    }
    return [
        {
            "name": "Do one job of the pipeline",
            "hosts": "all",
            "tasks": [
                *_fetch_inputs("selectattr('name', 'in', imagebuild_inputs)"),
                {"name": "With secrets", "block": [*write, command], "always": [forget]},
            ],
        }
    ]


def _collect_playbook(source: Source) -> list[dict[str, Any]]:
    lines = scripts.collect(source.pipeline.engines.install)
    return [
        {
            "name": "Merge the reports of all jobs",
            "hosts": "all",
            "tasks": [
                *_fetch_inputs("selectattr('name', 'match', 'report-')"),
                _shell(
                    "Collect",
                    "set -eu -o pipefail\n" + lines,
                    {"PIPELINE": source.file, "NAME": source.pipeline.name},
                ),
            ],
        }
    ]


def _post(source: Source) -> list[dict[str, Any]]:
    """Whatever happened: archives for later jobs, and the report beside the logs."""
    environment = {
        "CELL": "{{ imagebuild_cell }}",
        "JOB": "{{ imagebuild_job }}",
        "PASSED": "{{ zuul_success | bool | lower }}",
    }
    latest = (
        f"{_WORK}/out/{{{{ 'history' if imagebuild_job == 'collect' "
        f"else 'reports/' + imagebuild_cell }}}}/{source.pipeline.name}/latest"
    )
    return [
        {
            "name": "Hand on what the job has made",
            "hosts": "all",
            "tasks": [
                _shell("Pack it", "set -eu -o pipefail\n" + scripts.pack(), environment),
                {
                    "name": "Look what there is",
                    "ansible.builtin.find": {
                        "paths": [f"{_WORK}/{scripts.HAND}"],
                        "patterns": ["*.tar"],
                    },
                    "register": "archives",
                },
                {
                    "name": "Bring archives to the executor",
                    "ansible.builtin.fetch": {
                        "src": "{{ item.path }}",
                        "dest": f"{_ARTIFACTS}/",
                        "flat": True,
                        # They are large, and compared on their way.
                        "validate_checksum": True,
                    },
                    "loop": "{{ archives.files | sort(attribute='path') }}",
                    "loop_control": {"label": "{{ item.path | basename }}"},
                },
                {
                    "name": "Bring the report to the executor",
                    "ansible.builtin.fetch": {
                        "src": f"{latest}/{{{{ item }}}}",
                        "dest": "{{ zuul.executor.log_root }}/report/",
                        "flat": True,
                        "fail_on_missing": False,
                    },
                    "loop": list(_SHOWN),
                    "register": "shown",
                },
                {
                    "name": "Name archives to later jobs",
                    "zuul_return": {
                        "data": {
                            "zuul": {
                                "artifacts": [
                                    {
                                        "name": "{{ item.path | basename }}",
                                        "url": "artifacts/{{ item.path | basename }}",
                                    }
                                ]
                            }
                        }
                    },
                    "loop": "{{ archives.files | sort(attribute='path') }}",
                    "loop_control": {"label": "{{ item.path | basename }}"},
                },
                {
                    "name": "Name the report to people",
                    "zuul_return": {
                        "data": {
                            "zuul": {
                                "artifacts": [
                                    {"name": "{{ item.item }}", "url": "report/{{ item.item }}"}
                                ]
                            }
                        }
                    },
                    "loop": "{{ shown.results | selectattr('checksum', 'defined') | list }}",
                    "loop_control": {"label": "{{ item.item }}"},
                },
            ],
        }
    ]
