"""`imagebuild explain`, and the explanation under the error of `imagebuild build`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.config.profile import Profile
from imagebuild.errors import BuildError
from imagebuild.events import Emit, Output, StageStarted, StepStarted
from imagebuild.explain import load_book
from imagebuild.host.run import NETWORK_ENV
from imagebuild.inputs import Inputs

LOGS = Path(__file__).resolve().parents[1] / "data/logs"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("IMAGEBUILD_") or name in NETWORK_ENV:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    terminal.configure(verbosity=0, no_color=True)


def test_a_log_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log = str(LOGS / "package-unknown.log")
    assert run(["explain", log]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == f"{log}:7: E: Unable to locate package mysql-client-9"
    assert lines[1] == (
        "  cause: no package is called mysql-client-9 in the archives of this image"
        "  [package-unknown]"
    )
    assert lines[3].startswith("  try: imagebuild profile show OS RELEASE --origin")
    assert lines[-2].startswith("  see: https://")


def test_a_log_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    logs = [str(LOGS / "registry-rate-limit.log"), str(LOGS / "good/build.log")]
    assert run(["explain", "--json", *logs]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert [entry["log"] for entry in document["logs"]] == logs
    first, second = (entry["explanations"] for entry in document["logs"])
    assert (first[0]["id"], first[0]["temporary"]) == ("registry-rate-limit", True)
    assert first[0]["line"].startswith("Error response from daemon: toomanyrequests")
    assert first[0].keys() >= {"title", "cause", "advice", "source", "line_number", "rank"}
    assert second == []


def test_nothing_recognised_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    good = str(LOGS / "good/build.log")
    assert run(["explain", good]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "error: nothing in the log is in the pattern book"
    assert run(["explain", "--json", good]) == 1
    assert json.loads(capsys.readouterr().out)["logs"] == [{"log": good, "explanations": []}]


def test_one_known_log_among_others_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    good = str(LOGS / "good/build.log")
    assert run(["explain", good, str(LOGS / "no-space.log")]) == 0
    out, err = capsys.readouterr()
    assert "[no-space]" in out
    assert err == f"{good}: nothing recognised\n"


def test_the_scope_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    log = str(LOGS / "guest-info-missing.log")
    assert run(["explain", "--scope", "agent", log]) == 0
    assert "[guest-info-missing]" in capsys.readouterr().out
    assert run(["explain", "--scope", "publish", log]) == 1


def test_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin(io.BytesIO):
        name = "<stdin>"

    text = b"\xff\xfe not UTF-8\n" + (LOGS / "dpkg-locked.log").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Stdin(text)))
    assert run(["explain", "-"]) == 0
    assert "<stdin>:2:" in capsys.readouterr().out


def test_a_log_cannot_talk_to_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "bad.log"
    log.write_bytes(b"E: Unable to locate package a\x07\x9bb\x08\xc2\x9b31mc\n")
    assert run(["explain", str(log)]) == 0
    out = capsys.readouterr().out
    assert "[package-unknown]" in out
    assert not {"\x07", "\x08", "\x9b"} & set(out)


@pytest.mark.parametrize("argv", [[], ["no-such.log"], ["--scope", "moon", "-"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert run(["explain", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_the_book_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [e.id for e in load_book().entries]
    assert run(["explain", "--list", "--json", "--scope", "boot"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert {"cloud-init-disabled", "no-space"} <= {e["id"] for e in entries}
    assert all("boot" in e["scope"] for e in entries)


class _Fails:
    """In the place of imagebuild.build.build: says what a failing hook said, and raises."""

    def __init__(self, *said: str, detail: str) -> None:
        self.said, self.detail = said, detail

    def __call__(self, plan: Any, inputs: Any, paths: Any, emit: Emit, *_: Any, **__: Any) -> None:  # noqa: ANN401, ARG002
        emit(StageStarted("base", "0" * 64))
        emit(StepStarted("base", "root", "08-debootstrap"))
        emit(Output("base", "dib-run-parts Running /scratch/hooks/root.d/08-debootstrap"))
        for line in self.said:
            emit(Output("base", line))
        raise BuildError(
            "element debootstrap: hook root.d/08-debootstrap failed",
            where="stage base",
            detail=self.detail,
        )


def failing_build(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: _Fails
) -> tuple[int, list[str]]:
    from imagebuild import resolve
    from imagebuild.cli import build

    def offline(profile: Profile, *, workdir: Path, **_: bool) -> Inputs:
        return resolved(profile, workdir=workdir, offline=True)

    resolved = resolve.resolve
    monkeypatch.setattr(resolve, "resolve", offline)
    monkeypatch.setattr("imagebuild.build.build", failure)
    monkeypatch.setattr(build, "_preflight", lambda *_, **__: None)
    code = run(["build", "debian", "bookworm"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err.splitlines()


def test_a_mirror_that_dies_in_mid_build(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (LOGS / "mirror-unreachable.3.log").read_text().splitlines()
    code, lines = failing_build(monkeypatch, capsys, _Fails(*said, detail="\n".join(said[-3:])))
    assert code == 75
    at = lines.index("error: element debootstrap: hook root.d/08-debootstrap failed")
    assert lines[at + 1] == "  where: stage base"
    # The line that tells is above the last three: it is shown, too.
    assert lines[at + 5].startswith("  | ")
    assert "Could not connect to mirror.example" in lines[at + 5]
    assert lines[at + 6] == "  cause: the package mirror mirror.example cannot be reached"
    assert lines[at + 8].startswith("  try: curl -sI http://mirror.example/")
    assert lines[-1].startswith("  try: the whole log: ")


def test_a_wrong_keyring_in_mid_build_is_not_temporary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (LOGS / "archive-key-missing.2.log").read_text().splitlines()
    code, lines = failing_build(monkeypatch, capsys, _Fails(*said, detail="\n".join(said)))
    assert code == 1
    cause = [line for line in lines if line.startswith("  cause: ")]
    assert cause == [
        "  cause: the archive is signed with key 90B13F11E3155788, which is not in the keyring"
    ]
    assert any("--keyring FILE" in line for line in lines if line.startswith("  try: "))


def test_a_failure_that_nobody_knows_is_shown_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failing_build(monkeypatch, capsys, _Fails("odd", detail="odd"))
    assert code == 1
    assert not any(line.startswith("  cause:") for line in lines)
    assert lines[-2:-1] == ["  | odd"]


def test_a_proxys_password_is_in_no_explanation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:hunter2@proxy.example:3128")
    said = "E: Failed to fetch http://me:hunter2@mirror.example/x.deb  403  Forbidden"
    code, lines = failing_build(monkeypatch, capsys, _Fails(said, detail=said))
    assert code == 1
    assert any("is forbidden (403)" in line for line in lines)
    assert "hunter2" not in "\n".join(lines)


def test_the_book_travels_with_the_package(tmp_path: Path) -> None:
    """From another directory, in a fresh interpreter, as an installed tool would."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "imagebuild", "explain", "-"],
        input=(LOGS / "no-space.log").read_bytes(),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"[no-space]" in done.stdout
