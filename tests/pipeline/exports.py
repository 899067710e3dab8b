"""Pipelines to export, and what is in the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from imagebuild.pipeline.export import HOSTS, export
from imagebuild.pipeline.loading import load_pipeline

INSTALL = "python3 -m venv t && t/bin/pip install imagebuild && export PATH=$PWD/t/bin:$PATH"
#: Two images, a mirror list, two clouds; every engine's keys are used.
FULL = f"""\
name: nightly
mirrors: [{{list: trove, target: registry.example.org/trove}}]
images: [{{profiles: [ubuntu-jammy, debian-bookworm]}}]
publish: [{{cloud: prod, visibility: public, datastores: [mysql]}}, {{cloud: spare}}]
timeouts: {{build: 90m, verify: 1h, publish: 30m, mirror: 1h}}
retry: {{attempts: 3, wait: 60s}}
engines:
  schedule: 30 3 * * 1-5
  install: "{INSTALL}"
  github: {{runs_on: [self-hosted, build], verify_runs_on: [self-hosted, kvm],
           publish_runs_on: [ubuntu-24.04], environment: production}}
  gitlab: {{image: "registry.example.org/ci/debian:12", tags: [build], verify_tags: [kvm],
           publish_tags: [publish]}}
  zuul: {{nodeset: ubuntu-noble, verify_nodeset: nested-virt, secret: clouds}}
"""
#: The least that can be said.
SMALL = "images: [{profiles: [debian-bookworm]}]\n"
#: Nothing waits for a mirror list.
GO_ON = FULL + "gates: {mirrors: go-on}\n"


def files(directory: Path, text: str, engine: str) -> Mapping[str, str]:
    """The files of a pipeline with that text."""
    path = directory / "nightly.yaml"
    path.write_text(text)
    on_host = "/etc/imagebuild/nightly.yaml" if engine in HOSTS else "ci/nightly.yaml"
    return export(load_pipeline(str(path)), engine, file=on_host)


def document(directory: Path, text: str, engine: str) -> dict[str, Any]:
    """The one YAML file of an engine."""
    (found,) = files(directory, text, engine).values()
    parsed = yaml.safe_load(found)
    assert isinstance(parsed, dict)
    return parsed


def written(directory: Path, found: Mapping[str, str]) -> list[Path]:
    """The same as files below a directory."""
    paths = []
    for name, text in found.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths


class _Loader(yaml.SafeLoader):
    """Knows Ansible's `!unsafe`."""


def _unsafe(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Loader.add_constructor("!unsafe", _unsafe)


def parsed(text: str) -> Any:  # noqa: ANN401 - any document
    """A document, playbooks included."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a kind of SafeLoader


def scripts(engine: str, found: Mapping[str, str]) -> Iterator[str]:
    """Every text that a shell is given."""
    for name, text in found.items():
        if engine == "github":
            for job in yaml.safe_load(text)["jobs"].values():
                yield from (step["run"] for step in job["steps"] if "run" in step)
        elif engine == "gitlab":
            for job in yaml.safe_load(text).values():
                if isinstance(job, dict) and "script" in job:
                    yield "\n".join(job["script"])
        elif engine == "zuul" and name.startswith("playbooks/"):
            yield from (t["ansible.builtin.shell"]["cmd"] for t in _tasks(parsed(text)))
        elif engine == "cron":
            line = text.splitlines()[-1].split(maxsplit=6)[6]
            yield line.replace("\\%", "%")
        elif name.endswith("-failed.service"):
            line = next(x for x in text.splitlines() if x.startswith("ExecStart="))
            yield line.partition("-c '")[2][:-1].replace("$$", "$").replace("%%", "%")


def _tasks(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in found:
        yield from _tasks([*entry.get("tasks", ()), *entry.get("block", ())])
        if "ansible.builtin.shell" in entry:
            yield entry
