"""What people see of a run where nobody watches a terminal, and what GitHub reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.cli.terminal import Terminal
from imagebuild.pipeline import engine
from imagebuild.pipeline.engine import Asked
from imagebuild.pipeline.outcome import RunReport
from tests.pipeline.fakenight import TEMPORARY, Fake


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def shown(fake: Fake, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a run says."""
    terminal = Terminal()
    terminal.configure(verbosity=0, no_color=True)
    followed(fake, terminal, environ)
    return capsys.readouterr().err


def followed(fake: Fake, terminal: Terminal, environ: dict[str, str]) -> RunReport:
    """A run, shown as `pipeline run` shows it."""
    from imagebuild.cli.pipeline.run import show
    from imagebuild.cli.pipeline.runview import View

    view = View(terminal, fake.cells, several=False, environ=environ)
    with view.live():
        report, directory = engine.run(
            fake.pipeline, Asked(fake.cells), fake.places, view.watch, program=fake.program,
            begun=view.begun,
        )  # fmt: skip
    show(report, directory, view)
    return report


def test_plain_lines(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"line {n}" for n in range(30)] + ["token=canary-Xq7 at http://me:canary-Xq7@host/"]
    own = ["error: the hook failed", "  try: later"]
    fake.plan = {"build one": [{"code": 1, "lines": lines + own, "error": {
        **TEMPORARY, "error": "BuildError", "exit_code": 1, "what": "the hook failed",
    }}]}  # fmt: skip
    said = shown(fake, {}, capsys)
    assert "  one-amd64: build …\n" in said
    assert "✗ one-amd64: build " in said
    assert "line 29\n" in said
    assert "line 5\n" not in said, "the last lines"
    assert "error: the hook failed\n" in said
    assert said.count("error: the hook failed") == 1, "the verb has said it, too"
    assert "  try: later\n" in said
    assert "  log: " in said
    assert "✓ two-amd64: upload prod " in said
    assert "one-amd64: promote" not in said, "what is held is in the table alone"
    assert "canary-Xq7" not in said
    (log,) = fake.places.reports.glob("fake/2*/cells/one-amd64/build.log")
    assert "canary-Xq7" not in log.read_text()
    assert [p.name for p in log.parent.iterdir()] == ["build.log"]


def test_another_try_is_told(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.profiles, fake.has_mirror = ("one",), False
    fake.plan = {"build one": [{"code": 75, "error": TEMPORARY}, {}]}
    said = shown(fake, {}, capsys)
    assert "one-amd64: build: the archive is away; trying again in 1 s, 2 tries are left" in said
    assert "passed (" in said
    assert "2 tries)" in said


def test_github(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake.profiles, fake.has_mirror = ("one",), False
    fake.plan = {"upload lab": [{"code": 6, "error": {**TEMPORARY, "detail": "100 %\nof all"}}]}
    summary, output = tmp_path / "summary", tmp_path / "output"
    environ = {
        "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(output),
    }  # fmt: skip
    said = shown(fake, environ, capsys)
    start = said.index("::group::one-amd64: build\n")
    assert said.index("working\n", start) < said.index("::endgroup::", start)
    assert "::error title=one-amd64%3A upload lab::the archive is away%0A100 %25%0Aof all" in said
    assert "one-amd64" in summary.read_text()
    (artifact,) = fake.places.images.glob("trove-guest-*")
    assert f"\n{artifact}\n" in output.read_text()
    assert output.read_text().startswith("artifact<<")


def test_what_others_say_is_no_command_of_github(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.profiles, fake.has_mirror = ("one",), False
    lines = ["::stop-commands::x", "  ::error::me", "so ##[add-mask]a"]
    fake.plan = {"build one": [{"code": 1, "lines": lines, "error": {
        **TEMPORARY, "exit_code": 1, "error": "BuildError", "detail": "::add-mask::a\nb",
    }}]}  # fmt: skip
    said = shown(fake, {"GITHUB_ACTIONS": "true"}, capsys)
    commands = [x.strip() for x in said.splitlines() if x.lstrip().startswith("::")]
    assert {x.partition("::")[2].partition(" ")[0].partition("::")[0] for x in commands} <= {
        "group", "endgroup", "error", "warning",
    }  # fmt: skip
    assert not any("error::me" in x or "add-mask::" in x.partition("title=")[0] for x in commands)
    assert "##[" not in said
    assert "| ::stop-commands::x" in said


#: A run whose stderr nobody reads. Arguments: a directory.
UNREAD = """
import json, sys
from pathlib import Path
from tests.pipeline.fakenight import Fake
from tests.pipeline.test_engine_view import followed
from imagebuild.cli.terminal import Terminal
report = followed(Fake(Path(sys.argv[1])), Terminal(), {})
print(json.dumps(report.to_json()))
"""


def test_a_night_goes_on_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", UNREAD, tmp_path], stdout=subprocess.PIPE, stderr=theirs,
            text=True, check=True, timeout=60, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    finally:
        os.close(theirs)
    document = json.loads(ended.stdout)
    assert document["notes"] == []
    assert {c["status"] for c in document["cells"]} <= {"passed", "unchanged"}
