"""Exported job definitions, held against each engine's own schema, parser or linter, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagebuild.host.run import need
from imagebuild.pipeline.outcome import RunReport
from tests.pipeline import exporttools
from tests.pipeline.exports import FULL, GO_ON, SMALL, files, written
from tests.pipeline.test_export import CELLS, MIRROR
from tests.unit.test_lint import shellcheck

ROOT = Path(__file__).resolve().parents[2]
#: What runs here: the engine and its reports are real, the verbs below it are stand-ins.
NIGHT = """\
mirrors: [{list: trove, target: registry.example.org/trove}]
images: [{profiles: [ubuntu-jammy, debian-bookworm]}]
verify: {level: static}
publish: [{cloud: prod}]
gates: {mirrors: go-on}
retry: {attempts: 1}
engines: {install: 'export PATH="$PWD/bin:$PATH"', zuul: {secret: clouds}}
"""
CLOUDS = "clouds: {canary-3Kf: {}}\n"
TEXTS = {"full": FULL, "small": SMALL, "go-on": GO_ON}
texts = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def test_github_schema_and_linter(tmp_path: Path) -> None:
    paths = _all(tmp_path, "github")
    schema = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    done = exporttools.run(*schema, "vendor.github-workflows", *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    labels = tmp_path / "actionlint.yaml"
    labels.write_text("self-hosted-runner: {labels: [build, kvm]}\n")
    # With shellcheck on the PATH it looks at each script as its shell would.
    path_variable = f"{Path(shellcheck()).parent}:{os.environ['PATH']}"
    done = exporttools.run(
        exporttools.python_tools() / "actionlint", "-no-color", "-config-file", labels, *paths,
        env={"PATH": path_variable},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def _all(directory: Path, engine: str) -> list[Path]:
    """The one file of each pipeline."""
    found = []
    for name, text in TEXTS.items():
        (directory / name).mkdir()
        found += written(directory / name, files(directory / name, text, engine))
    return found


def test_the_linter_sees_what_is_wrong(tmp_path: Path) -> None:
    """Of the same workflow: a job that is not there, an expression in a script, a shell's slip."""
    (path,) = written(tmp_path, files(tmp_path, SMALL, "github"))
    wrong = path.read_text().replace("- build-debian", "- built-debian")
    wrong = wrong.replace("touch out/unpacked", "touch $X; echo ${{ github.event.issue.title }}")
    path.write_text(wrong)
    done = exporttools.run(
        exporttools.python_tools() / "actionlint", "-no-color", path,
        env={"PATH": f"{Path(shellcheck()).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 1
    for kind in ("[job-needs]", "[expression]", "[shellcheck]"):
        assert kind in done.stdout


def test_gitlab_schema(tmp_path: Path) -> None:
    paths = _all(tmp_path, "gitlab")
    argv = (
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci",
        "--data-transform", "gitlab-ci",
    )  # fmt: skip
    done = exporttools.run(*argv, *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    paths[0].write_text(paths[0].read_text().replace("resource_group:", "resource_grp:"))
    assert exporttools.run(*argv, *paths).returncode == 1, "the schema sees no wrong key"


@texts
def test_zuul_parsers(text: str, tmp_path: Path) -> None:
    written(tmp_path, files(tmp_path, text, "zuul"))
    python = exporttools.python_tools() / "python"
    checker = Path(__file__).with_name("tools") / "zuul_check.py"
    definitions = tmp_path / "zuul.d/imagebuild-nightly.yaml"
    done = exporttools.run(python, checker, definitions)
    assert done.returncode == 0, done.stderr
    jobs = 5 if text == SMALL else 9  # with the abstract one, and collect
    assert json.loads(done.stdout)["job"] == jobs
    definitions.write_text(definitions.read_text().replace("post-run:", "post-rum:"))
    assert "post-rum" in exporttools.run(python, checker, definitions).stderr


@texts
def test_systemd_verifies_its_units(text: str, tmp_path: Path) -> None:
    units = written(tmp_path, files(tmp_path, text, "systemd"))
    done = exporttools.run(need("systemd-analyze"), "verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (timer,) = [u for u in units if u.suffix == ".timer"]
    timer.write_text(timer.read_text().replace(":00 UTC", ":00 UTX"))
    done = exporttools.run(need("systemd-analyze"), "verify", "--man=no", *units)
    assert "UTX" in done.stderr, "it does not look at what the timer says"


def test_systemd_knows_the_calendar_events() -> None:
    from imagebuild.pipeline.export.schedules import calendar_events

    lines = ["17 2 * * *", "*/20 1-3 * * 1-5", "5 4 1,15 * fri", "0 0 31 12 *"]
    events = [event for line in lines for event in calendar_events(line)]
    done = exporttools.run(need("systemd-analyze"), "calendar", *events)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Next elapse:") == len(events) == 5


# Run


@dataclass(frozen=True)
class Repository:
    """A checkout with the pipeline, and a tool whose verbs are stand-ins."""

    directory: Path

    def breaks(self, verb: str, word: str) -> None:
        """From now on the verb fails where that word is among its own."""
        (self.directory.parent / "standin/broken").write_text(f"{verb} {word}\n")

    @property
    def verbs(self) -> list[tuple[str, str, str]]:
        """(start or end, verb, cell), in the order of time."""
        lines = (self.directory.parent / "standin/log").read_text().splitlines()
        return [tuple(json.loads(line)[1:4]) for line in lines]

    def of(self, verb: str) -> list[str]:
        """The cells that the verb was called for."""
        return sorted(cell for what, name, cell in self.verbs if (what, name) == ("start", verb))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """It is committed, since gitlab-ci-local takes what git knows."""
    found = Repository(tmp_path / "repository")
    (found.directory / "bin").mkdir(parents=True)
    (tmp_path / "standin").mkdir()
    for name in ("log", "broken"):
        (tmp_path / "standin" / name).write_text("")
    program = found.directory / "bin/imagebuild"
    program.write_text(
        f"#!/bin/sh\nexec env STANDIN={tmp_path}/standin PYTHONPATH={ROOT} "
        f'{sys.executable} {ROOT}/tests/pipeline/standin_tool.py "$@"\n'
    )
    program.chmod(0o755)
    (found.directory / "ci").mkdir()
    (found.directory / "ci/nightly.yaml").write_text(NIGHT)
    return found


def _git(directory: Path) -> None:
    git = (need("git"), "-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (
        ("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "all"),
        ("remote", "add", "origin", "git@gitlab.example.org:trove/images.git"),
    ):  # fmt: skip
        done = exporttools.run(*git, *words, cwd=directory)
        assert done.returncode == 0, done.stderr


class Gitlab:
    """gitlab-ci-local with the shell executor: each job in a directory of its own."""

    def __init__(self, repository: Repository) -> None:
        self._directory = repository.directory
        written(self._directory, files(repository.directory.parent, NIGHT, "gitlab"))
        variables = {
            "CLOUDS_YAML": {"type": "file", "values": {"*": CLOUDS}},
            "CI_PIPELINE_SOURCE": "schedule",
        }
        (self._directory / ".gitlab-ci-local-variables.yml").write_text(json.dumps(variables))
        _git(self._directory)

    def run(self, *jobs: str) -> str:
        """All jobs, or those; what was said."""
        done = exporttools.run(
            exporttools.node_tools() / "gitlab-ci-local",
            "--file", "imagebuild-nightly.gitlab-ci.yml", "--shell-isolation", "--no-color", *jobs,
            cwd=self._directory, env={"HOME": str(self._directory.parent)},
        )  # fmt: skip
        return done.stdout + done.stderr

    def artifacts(self, job: str) -> Path:
        """What the job has handed on."""
        return self._directory / ".gitlab-ci-local/artifacts" / job

    def report(self) -> RunReport:
        """The merged one."""
        text = (self.artifacts("collect") / "out/report/report.json").read_text()
        return RunReport.from_json(json.loads(text))


def _passed(said: str) -> set[str]:
    return set(re.findall(r"^ PASS +(\S+)", said, re.MULTILINE))


def _failed(said: str) -> set[str]:
    return set(re.findall(r"^ FAIL +(\S+)", said, re.MULTILINE))


def _statuses(report: RunReport) -> dict[str, str]:
    return {cell.id: cell.status.value for cell in report.cells}


def test_gitlab_runs_a_night_with_a_broken_cell(repository: Repository) -> None:
    """The broken cell is not published, the other one is; the report says both.

    gitlab-ci-local waits for jobs that never start, which GitLab does not, so that it is told
    to run `collect`.
    """
    gitlab = Gitlab(repository)
    repository.breaks("build", "ubuntu-jammy")
    said = gitlab.run()
    jammy, bookworm = CELLS
    assert _failed(said) == {f"build-{jammy}"}, said
    assert _passed(said) == {
        MIRROR, f"failed-{jammy}", *(f"{j}-{bookworm}" for j in ("build", "verify", "publish")),
    }  # fmt: skip
    assert repository.of("upload") == repository.of("verify") == [bookworm]
    assert "canary-3Kf" not in said, "a secret was shown"
    merged = gitlab.run("collect")
    assert _failed(merged) == {"collect"}, merged
    report = gitlab.report()
    assert _statuses(report) == {MIRROR: "passed", jammy: "failed", bookworm: "passed"}
    cell = report.cell(bookworm)
    assert cell
    assert cell.image, "facts of the image have come from the building job"
    assert (gitlab.artifacts("collect") / "out/report/junit.xml").is_file()
    handed_on = {p.name for p in (gitlab.artifacts(f"verify-{bookworm}") / "hand").iterdir()}
    assert handed_on == {f"proof-{bookworm}.tar", f"report-verify-{bookworm}.tar"}


@pytest.mark.full("pipeline")
def test_gitlab_runs_a_good_night_in_order(repository: Repository) -> None:
    gitlab = Gitlab(repository)
    said = gitlab.run()
    assert not _failed(said), said
    for cell in CELLS:
        order = [verb for what, verb, name in repository.verbs if (what, name) == ("start", cell)]
        assert order == ["build", "verify", "upload"]
    assert repository.verbs[0] == ("start", "mirror sync", MIRROR)
    merged = gitlab.run("collect")
    assert _passed(merged) == {"collect"}, merged
    assert set(_statuses(gitlab.report()).values()) == {"passed"}


class Zuul:
    """Runs playbooks as Zuul's executor does, on this machine; artifacts are files."""

    def __init__(self, repository: Repository) -> None:
        found = files(repository.directory.parent, NIGHT, "zuul")
        self._base = repository.directory.parent
        self._source = repository.directory
        self._playbooks = self._base / "zuul"
        written(self._playbooks, found)
        self._returned: dict[str, list[dict[str, Any]]] = {}
        self.said = ""

    def run(self, job: str, cell: str, inputs: list[str], after: tuple[str, ...] = ()) -> bool:
        """A job: its run playbook, and the post playbook whatever happened."""
        name = f"{job}-{cell}"
        home = self._base / "home" / name
        shutil.copytree(self._source, home / "src")
        logs = self._base / "logs" / name
        (logs / "work").mkdir(parents=True)
        result = logs / "work/results.json"
        result.write_text("")
        artifacts = [a for one in after for a in self._returned[one]]
        variables = {
            "imagebuild_cell": cell, "imagebuild_job": job, "imagebuild_inputs": inputs,
            "ansible_user_dir": str(home), "ansible_python_interpreter": sys.executable,
            "zuul": {
                "project": {"src_dir": "src"}, "artifacts": artifacts,
                "executor": {"log_root": str(logs)},
            },
        }  # fmt: skip
        if job == "publish":
            variables["imagebuild_secret"] = {"clouds_yaml": CLOUDS}
        passed = self._play("collect" if job == "collect" else "run", variables, logs)
        assert self._play("post", {**variables, "zuul_success": str(passed)}, logs), self.said
        data = json.loads(result.read_text())["data"]
        self._returned[name] = [
            {**a, "url": f"file://{logs}/{a['url']}"} for a in data["zuul"]["artifacts"]
        ]
        assert not (home / "imagebuild-secrets").exists(), "secrets stay on the node"
        return passed

    def names(self, job: str) -> set[str]:
        """The artifacts that a job has named; each is there."""
        for one in self._returned[job]:
            assert Path(one["url"].removeprefix("file://")).is_file(), one
        return {one["name"] for one in self._returned[job]}

    def report(self, job: str) -> RunReport:
        """The one that is shown with a job."""
        text = (self._base / "logs" / job / "report/report.json").read_text()
        return RunReport.from_json(json.loads(text))

    def _play(self, name: str, variables: Mapping[str, Any], logs: Path) -> bool:
        tools = exporttools.python_tools()
        # Of Zuul's own actions only this one: its shell wants a console of Zuul's on the node.
        (action,) = tools.parent.glob(
            "lib/python3*/site-packages/zuul/ansible/base/action/zuul_return.py"
        )
        actions = self._base / "actions"
        actions.mkdir(exist_ok=True)
        shutil.copy(action, actions)
        (logs / f"{name}.json").write_text(json.dumps(variables))
        done = exporttools.run(
            tools / "ansible-playbook", "-i", "node,", "-c", "local",
            "-e", f"@{logs / f'{name}.json'}",
            self._playbooks / f"playbooks/imagebuild-nightly/{name}.yaml",
            env={
                "ANSIBLE_ACTION_PLUGINS": str(actions), "ANSIBLE_NOCOLOR": "1",
                # What they would gather, ansible_user_dir, is said above.
                "ZUUL_JOBDIR": str(logs), "ANSIBLE_GATHERING": "explicit",
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_HOME": str(self._base / "ansible"), "HOME": str(self._base),
                "PATH": f"{tools}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            },
        )  # fmt: skip
        self.said += done.stdout + done.stderr
        return done.returncode == 0


@pytest.fixture
def zuul(repository: Repository) -> Zuul:
    """Its jobs on this machine."""
    return Zuul(repository)


@pytest.mark.full("pipeline")
def test_zuul_playbooks_do_a_cell(repository: Repository, zuul: Zuul) -> None:
    """Build, verify and publish on three nodes; what each needs, the earlier ones hand on."""
    cell = CELLS[1]
    build, verify, publish = (f"{job}-{cell}" for job in ("build", "verify", "publish"))
    assert zuul.run("build", cell, []), zuul.said
    shown = {"report.html", "report.md", "report.json", "junit.xml", "metrics.prom"}
    assert zuul.names(build) == {f"image-{cell}.tar", f"report-build-{cell}.tar", *shown}
    inputs = [f"image-{cell}.tar", f"report-build-{cell}.tar"]
    assert zuul.run("verify", cell, inputs, (build,)), zuul.said
    inputs = [f"image-{cell}.tar", f"proof-{cell}.tar", f"report-verify-{cell}.tar"]
    assert zuul.run("publish", cell, inputs, (build, verify)), zuul.said
    assert repository.of("upload") == [cell]
    assert "canary-3Kf" not in zuul.said, "a secret was shown"
    assert not zuul.run("collect", "all", [], (build, verify, publish)), "a cell is missing"
    report = zuul.report("collect-all")
    assert _statuses(report)[cell] == "passed"
    assert _statuses(report)[CELLS[0]] == "failed", "what never ran is no success"


@pytest.mark.full("pipeline")
def test_zuul_post_playbook_brings_the_report_of_a_job_that_failed(
    repository: Repository, zuul: Zuul
) -> None:
    cell = CELLS[0]
    repository.breaks("build", "ubuntu-jammy")
    assert not zuul.run("build", cell, [])
    assert f"report-build-{cell}.tar" in zuul.names(f"build-{cell}")
    assert f"image-{cell}.tar" not in zuul.names(f"build-{cell}"), "no image of a failed build"
    assert _statuses(zuul.report(f"build-{cell}"))[cell] == "failed"
