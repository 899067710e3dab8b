"""Exported job definitions: which jobs there are, what each waits for, and what cannot get in."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagebuild.errors import ConfigError, UsageError
from imagebuild.pipeline.export import ENGINES, export
from imagebuild.pipeline.export.schedules import calendar_events, cron_text
from imagebuild.pipeline.loading import load_pipeline
from tests.pipeline.exports import FULL, GO_ON, INSTALL, SMALL, document, files, parsed, scripts
from tests.unit.test_lint import check, shellcheck

ROOT = Path(__file__).resolve().parents[2]
CELLS = ("ubuntu-jammy-amd64", "debian-bookworm-amd64")
MIRROR = "mirror-trove"
JOBS = {MIRROR, *(f"{job}-{cell}" for cell in CELLS for job in ("build", "verify", "publish"))}


def tool(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "imagebuild", "pipeline", "export", *map(str, argv)]
    return subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True
    )


# GitHub


def test_github_jobs_wait_for_what_they_go_by(tmp_path: Path) -> None:
    workflow = document(tmp_path, FULL, "github")
    jobs = workflow["jobs"]
    assert set(jobs) == {*JOBS, "collect"}
    first, second = CELLS
    assert jobs[f"build-{first}"]["needs"] == [MIRROR]
    assert jobs[f"build-{first}"]["if"] == "${{ !cancelled() }}", "a failed mirror stops builds"
    assert jobs[f"verify-{first}"]["needs"] == [f"build-{first}"]
    publish = jobs[f"publish-{second}"]
    # One waits, one runs: a third would be cancelled by GitHub. So they stand in a row.
    assert publish["needs"][-1] == f"publish-{first}"
    assert f"needs.publish-{first}" not in publish["if"], "one cell's failure stops the next"
    for name in (f"build-{second}", f"verify-{second}", MIRROR):
        assert f"needs.{name}.result == 'success'" in publish["if"]
    assert publish["concurrency"] == {
        "group": "imagebuild-nightly-publish",
        "cancel-in-progress": False,
    }
    assert set(jobs["collect"]["needs"]) == JOBS
    assert jobs["collect"]["if"] == "${{ always() }}"


def test_github_every_job_with_needs_says_what_must_have_passed(tmp_path: Path) -> None:
    """Without an `if`, success() is of all ancestors: of mirror lists, too."""
    for job in document(tmp_path, FULL, "github")["jobs"].values():
        assert "needs" not in job or "if" in job


def test_github_runners_rights_and_secrets(tmp_path: Path) -> None:
    workflow = document(tmp_path, FULL, "github")
    assert workflow["permissions"] == {"contents": "read"}
    assert dict(workflow)["on"] == {"schedule": [{"cron": "30 3 * * 1-5"}], "workflow_dispatch": {}}
    jobs = workflow["jobs"]
    for name, job in jobs.items():
        labels = {"verify": "kvm", "publis": None}.get(name[:6], "build")
        assert (labels is None) == (job["runs-on"] == "ubuntu-24.04")
        assert labels is None or job["runs-on"] == ["self-hosted", labels]
        text = json.dumps(job)
        assert ("secrets.CLOUDS_YAML" in text) == name.startswith("publish-")
        assert ("environment" in job) == name.startswith("publish-")
        assert 0 < job["timeout-minutes"] < 360
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "an expression in a script"
            assert step.get("uses", "actions/x@v1").count("@v") == 1, "an action without version"
    # Twice 90 minutes of a build do not fit: a try that is worth another one fails early.
    assert jobs[f"build-{CELLS[0]}"]["timeout-minutes"] == 90 + 3 + 30


def test_github_images_travel_uncompressed_and_not_for_long(tmp_path: Path) -> None:
    jobs = document(tmp_path, FULL, "github")["jobs"]
    steps = jobs[f"build-{CELLS[0]}"]["steps"]
    (upload,) = [s["with"] for s in steps if s.get("with", {}).get("name", "").startswith("image")]
    assert upload["compression-level"] == 0
    assert upload["retention-days"] <= 3
    taken = [s.get("with", {}).get("name") for s in jobs[f"publish-{CELLS[0]}"]["steps"]]
    assert f"image-{CELLS[0]}" in taken
    assert f"proof-{CELLS[0]}" in taken
    patterns = [s["with"].get("pattern") for s in jobs["collect"]["steps"] if "with" in s]
    assert "report-*" in patterns, "collect takes reports, and no images"


# GitLab


def test_gitlab_jobs_wait_for_what_they_go_by(tmp_path: Path) -> None:
    jobs = document(tmp_path, FULL, "gitlab")
    failed = {f"failed-{cell}" for cell in CELLS}
    assert {*JOBS, *failed, "collect"} == {k for k, v in jobs.items() if "script" in v}
    build, publish = jobs[f"build-{CELLS[0]}"], jobs[f"publish-{CELLS[0]}"]
    assert build["needs"] == [{"job": MIRROR, "artifacts": False}]
    assert build["rules"][0]["when"] == "always"
    assert [n["job"] for n in publish["needs"]] == [
        f"build-{CELLS[0]}", f"verify-{CELLS[0]}", MIRROR,
    ]  # fmt: skip
    assert publish["rules"][0]["when"] == "on_success"
    assert publish["resource_group"] == "imagebuild-nightly-publish"
    collect = jobs["collect"]
    assert collect["rules"][0]["when"] == "always"
    assert "needs" not in collect, "50 are the most; and it waits for all"
    assert set(collect["dependencies"]) == (JOBS | failed) - {f"build-{c}" for c in CELLS}
    assert collect["artifacts"]["reports"]["junit"] == "out/report/junit.xml"
    assert collect["artifacts"]["when"] == "always"


def test_gitlab_runners_and_secrets(tmp_path: Path) -> None:
    jobs = document(tmp_path, FULL, "gitlab")
    tags = {"mirror": "build", "build": "build", "verify": "kvm", "publish": "publish"}
    for name in JOBS:
        job = jobs[name]
        assert job["tags"] == [tags[job["variables"]["JOB"]]]
        assert re.fullmatch(r"\d+ minutes", job["timeout"])
        assert ("CLOUDS_YAML" in json.dumps(job)) == name.startswith("publish-")
        assert job["artifacts"]["expire_in"] == "1 day"


# Zuul


def test_zuul_jobs_wait_for_what_they_go_by(tmp_path: Path) -> None:
    found = files(tmp_path, FULL, "zuul")
    entries = yaml.safe_load(found["zuul.d/imagebuild-nightly.yaml"])
    jobs = {e["job"]["name"]: e["job"] for e in entries if "job" in e}
    (project,) = [e["project"] for e in entries if "project" in e]
    names = {f"imagebuild-nightly-{job}" for job in (*JOBS, "collect")}
    assert set(project["periodic"]["jobs"]) == names == set(jobs) - {"imagebuild-nightly"}
    first = f"imagebuild-nightly-publish-{CELLS[0]}"
    # Zuul takes all with it that depends on a job that failed; so builds depend on none.
    assert "dependencies" not in jobs[f"imagebuild-nightly-build-{CELLS[0]}"]
    assert jobs[first]["dependencies"] == [
        f"imagebuild-nightly-{name}" for name in (f"build-{CELLS[0]}", f"verify-{CELLS[0]}", MIRROR)
    ]
    assert jobs[first]["semaphores"] == ["imagebuild-nightly-publish"]
    assert {"semaphore": {"name": "imagebuild-nightly-publish", "max": 1}} in entries
    for name, job in jobs.items():
        secret = name.startswith(("imagebuild-nightly-publish", "imagebuild-nightly-mirror"))
        assert ("secrets" in job) == secret
        assert set(job.get("dependencies", ())) <= set(jobs)
        for key in ("run", "post-run"):
            assert job.get(key, next(iter(found))) in found
    verify = jobs[f"imagebuild-nightly-verify-{CELLS[0]}"]
    assert verify["nodeset"] == "nested-virt"


def test_zuul_scripts_are_no_templates_and_secrets_not_logged(tmp_path: Path) -> None:
    found = files(tmp_path, FULL, "zuul")
    for name, text in found.items():
        if not name.startswith("playbooks/"):
            continue
        assert text.count("cmd: !unsafe") == text.count("cmd:")
        for play in parsed(text):
            for task in play["tasks"]:
                for inner in task.get("block", [task]):
                    if "imagebuild_secret" in json.dumps(inner):
                        assert inner["no_log"] is True
                        assert inner["ansible.builtin.copy"]["mode"] == "0600"


# All


@pytest.mark.parametrize("text", [FULL, SMALL, GO_ON], ids=["full", "small", "go-on"])
@pytest.mark.parametrize("engine", ENGINES)
def test_scripts_are_right(engine: str, text: str, tmp_path: Path) -> None:
    found = list(dict.fromkeys(scripts(engine, files(tmp_path, text, engine))))
    assert found or engine == "systemd"
    shell = "sh" if engine in ("systemd", "cron") else "bash"
    for number, script in enumerate(found):
        (tmp_path / f"{number}.sh").write_text(script)
    check(shellcheck(), f"--shell={shell}", "--",
          *(tmp_path / f"{n}.sh" for n in range(len(found))))  # fmt: skip


def test_mirror_lists_that_do_not_count_hold_nothing(tmp_path: Path) -> None:
    name = f"publish-{CELLS[0]}"
    github = document(tmp_path, GO_ON, "github")["jobs"][name]
    assert MIRROR not in github["needs"]
    gitlab = document(tmp_path, GO_ON, "gitlab")[name]
    assert MIRROR not in [n["job"] for n in gitlab["needs"]]
    zuul = parsed(files(tmp_path, GO_ON, "zuul")["zuul.d/imagebuild-nightly.yaml"])
    (job,) = [e["job"] for e in zuul if e.get("job", {}).get("name", "").endswith(name)]
    assert len(job["dependencies"]) == 2


@pytest.mark.parametrize("engine", ["github", "gitlab", "zuul"])
def test_without_clouds_gates_are_a_job_without_lock_and_secrets(
    engine: str, tmp_path: Path
) -> None:
    text = "\n".join(files(tmp_path, SMALL, engine).values())
    assert "gates-debian-bookworm-amd64" in text
    assert "imagebuild-nightly-publish" not in text
    for word in ("CLOUDS_YAML }}", "resource_group", "secrets:"):
        assert word not in text.replace("docker's", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_pipeline_gives_the_same_text(engine: str, tmp_path: Path) -> None:
    one, two = files(tmp_path, FULL, engine), files(tmp_path, FULL, engine)
    assert one == two
    assert str(tmp_path) not in "".join(one.values())
    for text in one.values():
        assert f"imagebuild pipeline export {engine} " in text.splitlines()[1]


@pytest.mark.parametrize(
    "path",
    ["ci/$(reboot).yaml", "ci/a b.yaml", "a'b.yaml", "${{ secrets.X }}", "../x.yaml", "-x.yaml",
     "{{ x }}.yaml", "a;b", "a\nb", "a%b", ""],
)  # fmt: skip
@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_paths_are_refused(engine: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(SMALL)
    loaded = load_pipeline(str(tmp_path / "nightly.yaml"))
    with pytest.raises(UsageError):
        export(loaded, engine, file=path)


HOSTILE = ["a: b", "'\"`", "$(id)", "${{ github.token }}", "{{ lookup('env', 'X') }}", "#x", "x\ny"]


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("key", ["github: {runs_on: [%s]}", "github: {environment: %s}",
                                 "gitlab: {image: %s}", "gitlab: {tags: [%s]}",
                                 "zuul: {secret: %s}", "zuul: {pipeline: %s}"])  # fmt: skip
def test_hostile_words_are_refused_or_text(key: str, word: str, tmp_path: Path) -> None:
    text = SMALL + "engines:\n  " + key % json.dumps(word) + "\n"
    engine = key.partition(":")[0]
    try:
        found = files(tmp_path, text, engine)
    except ConfigError:
        return
    plain = files(tmp_path, SMALL + "engines:\n  " + key % "plain" + "\n", engine)
    assert all("{{ lookup" not in t and "github.token" not in t for t in found.values())
    for name, one in found.items():
        assert _shape(parsed(one), word) == _shape(parsed(plain[name]), "plain")


def _shape(value: Any, word: str) -> Any:  # noqa: ANN401 - any YAML
    """Its structure: which keys, and of which kind the values are."""
    if isinstance(value, dict):
        return {"*" if k == word else k: _shape(v, word) for k, v in value.items()}
    return [_shape(v, word) for v in value] if isinstance(value, list) else type(value).__name__


def test_install_cannot_be_an_expression(tmp_path: Path) -> None:
    text = SMALL + 'engines: {install: "curl -H ${{ secrets.TOKEN }} x"}\n'
    with pytest.raises(UsageError, match="engines replace"):
        files(tmp_path, text, "github")


def test_install_is_one_shell_with_the_command(tmp_path: Path) -> None:
    """What it exports, and a venv that it enters, count for the command behind it."""
    for engine in ("github", "gitlab", "zuul"):
        runs = [s for s in scripts(engine, files(tmp_path, FULL, engine)) if "pipeline run" in s]
        assert runs
        assert all(s.index(INSTALL) < s.index("imagebuild pipeline run") for s in runs)


# Schedules


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ("17 2 * * *", ["*-*-* 02:17:00 UTC"]),
        ("*/20 1-3 * * *", ["*-*-* 01,02,03:00,20,40:00 UTC"]),
        ("0 0 1 jan *", ["*-01-01 00:00:00 UTC"]),
        ("5 4 * * sun", ["Sun *-*-* 04:05:00 UTC"]),
        ("5 4 * * 7,1", ["Sun,Mon *-*-* 04:05:00 UTC"]),
        # Days of the month or of the week: either will do.
        ("5 4 1,15 * 5", ["*-*-01,15 04:05:00 UTC", "Fri *-*-* 04:05:00 UTC"]),
        # But for a field that begins with a star: both.
        ("5 4 */2 * 5", ["Fri *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 04:05:00 UTC"]),
        ("0 12 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 12:00:00 UTC"]),
        ("* * * * *", ["*-*-* *:*:00 UTC"]),
    ],
)
def test_cron_lines_as_calendar_events(line: str, events: list[str]) -> None:
    assert calendar_events(line) == events


def test_percent_signs_do_not_end_a_line_of_cron() -> None:
    assert cron_text("date +%F") == r"date +\%F"


def test_cron_file_is_one_line_with_a_user(tmp_path: Path) -> None:
    (text,) = files(tmp_path, FULL, "cron").values()
    lines = [x for x in text.splitlines() if x and not x.startswith("#")]
    variables, commands = lines[:-1], lines[-1:]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", v) for v in variables)
    (command,) = commands
    assert command.startswith("30 3 * * 1-5 root ")
    assert not re.search(r"(?<!\\)%", command)
    assert "MAILTO=root" in variables


@pytest.mark.parametrize(
    ("code", "report", "said", "ends"),
    [(0, "all good", "", 0), (5, "verify failed", "verify failed\n", 5), (75, "old", "", 75)],
)
def test_cron_mails_the_report_of_a_night_that_failed(
    code: int, report: str, said: str, ends: int, tmp_path: Path
) -> None:
    """Silence means that nobody gets mail; and 75 is a run beside another one."""
    (text,) = files(tmp_path, FULL, "cron").values()
    script = text.splitlines()[-1].split(maxsplit=6)[6].replace("\\%", "%")
    latest = tmp_path / "reports/nightly/latest"
    latest.mkdir(parents=True)
    (latest / "report.md").write_text(report + "\n")
    (tmp_path / "imagebuild").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "imagebuild").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("/var/lib/imagebuild", str(tmp_path))],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (ends, said, "")


# The verb


def test_check_says_whether_files_are_up_to_date(tmp_path: Path) -> None:
    pipeline = tmp_path / "ci/nightly.yaml"
    pipeline.parent.mkdir()
    pipeline.write_text(FULL)
    (tmp_path / ".git").mkdir()
    argv = ("github", pipeline, "--output", tmp_path)
    missing = tool(*argv, "--check")
    assert missing.returncode == 1
    assert "missing" in missing.stderr
    assert not (tmp_path / ".github").exists(), "--check has written"
    assert tool(*argv).returncode == 0
    again = tool(*argv, "--check", "--json")
    assert again.returncode == 0
    document = json.loads(again.stdout)
    assert document["up_to_date"] is True
    assert document["file"] == "ci/nightly.yaml", "the path from the top of the checkout"
    workflow = tmp_path / ".github/workflows/imagebuild-nightly.yml"
    workflow.write_text(workflow.read_text().replace("timeout-minutes: 123", "timeout-minutes: 9"))
    changed = tool(*argv, "--check")
    assert changed.returncode == 1
    assert "-    timeout-minutes: 9\n+    timeout-minutes: 123" in changed.stdout
    dry = tool(*argv, "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, changed.stdout)
    assert "timeout-minutes: 9" in workflow.read_text(), "--dry-run has written"


def test_several_files_on_stdout_say_their_names(tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(SMALL)
    done = tool("systemd", tmp_path / "nightly.yaml")
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^# ---- (.*)$", done.stdout, re.MULTILINE)
    assert names == [
        f"etc/systemd/system/imagebuild-nightly{end}"
        for end in ("-failed.service", ".service", ".timer")
    ]
    assert str(tmp_path / "nightly.yaml") in done.stdout, "hosts have it at its absolute path"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("gitlb", "nightly"), 2, "gitlab"),
        (("github", "nightly", "--check"), 2, "--output"),
        (("github", "/nowhere/nightly.yaml"), 3, "nightly.yaml"),
        (("cron", "nightly", "--file", "ci/nightly.yaml"), 2, "/etc/imagebuild/nightly.yaml"),
        (("github", "nightly", "--output", "/proc/x"), 4, "/proc/x"),
    ],
)
def test_mistakes_are_told(argv: tuple[str, ...], code: int, words: str) -> None:
    done = tool(*argv)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_in_no_checkout_needs_a_path(tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(SMALL)
    done = tool("github", tmp_path / "nightly.yaml")
    assert done.returncode == 2
    assert "--file" in done.stderr


def test_cron_and_calendar_mean_the_same_nights() -> None:
    """A night of each kind, counted by hand: Friday the 13th of November 2026."""
    day = datetime.date(2026, 11, 13)
    assert day.strftime("%a") == "Fri"
    assert calendar_events("0 1 13 11 *") == ["*-11-13 01:00:00 UTC"]
