"""imagebuild verify: the command line, its exit codes and what it prints. No boots here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagebuild import verification
from imagebuild.cli.main import run
from imagebuild.cli.terminal import Terminal
from imagebuild.cli.verifyview import View
from imagebuild.errors import PreflightError
from imagebuild.events import Checked, MachineStarted, MilestoneReached
from imagebuild.verify.report import Report, Subject
from imagebuild.verify.results import Check, Level, Milestone, Outcome, Run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that is no image."""
    path = tmp_path / "guest.qcow2"
    path.write_bytes(b"not a disk\n" * 100)
    return path


def verify(*options: object) -> int:
    return int(run(["verify", *map(str, options)]))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ([], "which image"),
        (["--database", "oracle:9"], "not a database"),
        (["--level", "database"], "the image brings none"),
        (["--timeout", "lunch=5m"], "no milestone 'lunch'"),
        (["--timeout", "docker"], "MILESTONE=TIME"),
        (["--timeout", "docker=soon"], "docker=soon"),
        (["--backup-image", "mysql=x"], "not verified: mysql"),
        (["--registry", "here"], "not a registry"),
        (["--shell"], "needs a terminal"),
        (["--attach"], "needs a terminal"),
        (["--stop"], "take no IMAGE"),
    ],
)
def test_usage_errors(
    image: Path, tmp_path: Path, options: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = options if not options else [str(image), *options]
    assert verify(*words, "--cache-dir", tmp_path / "cache") == 2
    assert what in capsys.readouterr().err


def test_an_image_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path / "gone.qcow2") == 3
    assert "no such artifact" in capsys.readouterr().err


def test_no_machine_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--stop", "--cache-dir", tmp_path) == 2
    assert "no machine was kept" in capsys.readouterr().err


def test_a_bad_image_ends_with_5_and_leaves_its_report(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, before = tmp_path / "report", image.read_bytes()
    options = ["--cache-dir", tmp_path / "cache", "--report", report, "--json"]
    assert verify(image, *options) == 5
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document == json.loads((report / "verify.json").read_text())
    assert document["verdict"] == "failed"
    assert document["proven"] is None
    # What needs no boot is found without one.
    assert [c["outcome"] for c in document["checks"] if c["level"] == "boot"] == ["skipped"]
    assert document["runs"] == []
    assert "static/file/format" in captured.err
    assert image.read_bytes() == before


def test_a_report_that_cannot_be_written_is_said_first(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert verify(image, "--report", tmp_path / "file/x", "--cache-dir", tmp_path / "cache") == 4
    assert "--report DIR" in capsys.readouterr().err


def test_a_cache_that_cannot_be_made_is_said(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(image, "--report", tmp_path, "--cache-dir", "/proc/not-there") == 4
    assert "--cache-dir DIR" in capsys.readouterr().err


def test_a_host_that_cannot_is_no_bad_image(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that cannot be started ends with 4, and with the reason in the report."""

    def no_qemu(*_: Any, **__: Any) -> Any:  # noqa: ANN401
        raise PreflightError("qemu-system-x86_64 is not there", hint="install it")

    passed = Check("static/x", Level.STATIC, Outcome.PASSED, "fine")
    monkeypatch.setattr(verification, "check_static", lambda *_, **__: [passed])
    monkeypatch.setattr("imagebuild.verification.bootlevel.check_boot", no_qemu)
    report = tmp_path / "report"
    options = ["--cache-dir", tmp_path / "cache", "--report", report, "--accelerator", "tcg"]
    assert verify(image, *options) == 4
    document = json.loads((report / "verify.json").read_text())
    assert document["verdict"] == "unknown"
    assert document["proven"] == "static"
    unknown = [c for c in document["checks"] if c["outcome"] == "unknown"]
    assert [c["hint"] for c in unknown] == ["install it", "install it"]


def test_what_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.configure(verbosity=0, no_color=True)
    view = View(terminal)
    with view.live():
        for number in range(3):
            view(Checked(f"static/{number}", "static", "passed", "fine"))
        view(MachineStarted("metadata", "metadata, uefi"))
        view(MilestoneReached("metadata", "kernel", 9.5))
        view(Checked("boot/metadata/disk", "boot", "failed", "too \x1b[31msmall", 12.0))
    run = Run("metadata", "tcg", "uefi", (Milestone("kernel", 9.5), Milestone("docker", 38.0)))
    bad = Check(
        "boot/metadata/disk", Level.BOOT, Outcome.FAILED, "too small", ("df: 2G",), "grow it"
    )
    subject = Subject(Path("x.qcow2"), "qcow2", 1, "00" * 32, "00" * 64)
    view.summary(Report(subject, Level.BOOT, "", 65, [bad], [run]), Path("/r"))
    err = capsys.readouterr().err
    lines = err.splitlines()
    assert lines[0] == "✓ static: 3 checks passed"
    assert "\x1b" not in err
    kernel = next(x for x in lines if x.startswith("  kernel "))
    docker = next(x for x in lines if x.startswith("  docker "))
    assert kernel.split()[1:3] == ["9.5", "s"]
    assert docker.index("━") == kernel.rindex("━") + 1
    assert "    df: 2G" in lines
    assert "    try: grow it" in lines
    assert "the image is bad (level: none; 1 min 05 s)" in lines
