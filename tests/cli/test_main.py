"""The `imagebuild` command itself: verbs, exit codes, errors, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from imagebuild import __version__
from imagebuild.cli import main as main_
from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.errors import ImagebuildError, PolicyError, TemporaryError

ROOT = Path(__file__).resolve().parents[2]

NO_PROFILE = """\
error: there is no profile for debian bokworm
  where: {where}
  | these exist: debian bookworm, ubuntu jammy, ubuntu noble
  try: did you mean 'debian bookworm'?
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("IMAGEBUILD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    terminal.configure(verbosity=0, no_color=True)


def environment() -> dict[str, str]:
    """Of this process, without proxies, and with the checkout on the path."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return kept | {"PYTHONPATH": str(ROOT)}


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    listed = out.partition("Commands:\n")[2].partition("\n\n")[0]
    verbs = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.splitlines()}
    assert verbs == {verb: text for verb, (_, text) in main_.VERBS.items()}
    assert {"build", "profile"} <= set(verbs)
    assert "0 done" in out
    assert "75 try again later" in out


@pytest.mark.parametrize("verb", sorted(main_.VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "-h"]) == 0
    assert f"Usage: imagebuild {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["--version", "-V"])
def test_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name]) == 0
    assert capsys.readouterr().out == f"imagebuild {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bild"], "No such command 'bild'"),
        (["--colour"], "No such option"),
        (["build", "--no-such-option"], "No such option"),
        ([], "Usage: imagebuild"),
    ],
)
def test_wrong_usage(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_an_error_says_what_where_why_and_what_to_try(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["build", "debian", "bokworm", "--dry-run"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    where = f"{tmp_path / 'config/imagebuild/profiles'}, {ROOT / 'profiles'}"
    assert captured.err == NO_PROFILE.format(where=where)


def test_debug_shows_where_it_was_raised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["--debug", "build", "debian", "bokworm", "--dry-run"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "error: there is no profile for debian bokworm\n" in err
    monkeypatch.setenv("IMAGEBUILD_DEBUG", "1")
    assert run(["build", "debian", "bokworm", "--dry-run"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (PolicyError("it is a dev image"), 7, "error: it is a dev image\n"),
        (
            TemporaryError("busy", detail="one\n[two]", hint="wait"),
            75,
            "error: busy\n  | one\n  | [two]\n  try: wait\n",
        ),
    ],
)
def test_the_error_chooses_the_exit_code(
    error: ImagebuildError,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(main_.LazyGroup, "get_command", lambda *_: fail)
    assert run(["fail"]) == code
    assert capsys.readouterr().err == shown
    # What is wrong is said even when quiet.
    assert run(["-q", "fail"]) == code
    assert capsys.readouterr().err == shown


def test_start_is_fast_because_little_is_imported() -> None:
    code = "import json, sys, imagebuild.cli.main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "imagebuild.cli.main" in loaded
    heavy = {"pydantic", "rich", "requests", "openstack", "docker", "yaml", "unearth"}
    assert loaded & heavy == set()
    assert {name for name in loaded if name.startswith("imagebuild.")} == {
        "imagebuild.cli", "imagebuild.cli.main", "imagebuild.cli.terminal", "imagebuild.errors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("signum", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_end_it_at_once(signum: int, code: int, word: str, tmp_path: Path) -> None:
    """Also while it waits for a mirror that does not answer."""
    keyring = tmp_path / "any.gpg"
    keyring.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/debian"
        process = subprocess.Popen(
            [sys.executable, "-m", "imagebuild", "build", "debian", "bookworm", "--dry-run",
             "--mirror", url, "--keyring", keyring, "--cache-dir", tmp_path / "cache"],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            server.settimeout(30)
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                started = time.monotonic()
                process.send_signal(signum)
                out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == code
    assert (out, err.decode()) == (b"", f"error: {word}\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = '"$0" -m imagebuild profile schema | head -n 1; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], env=environment(), capture_output=True, check=True
    )
    assert done.stderr == b""
    # 0 when all of it fitted into the pipe, 141 (SIGPIPE) when not.
    assert re.fullmatch(rb"\{\n(0|141)\n", done.stdout)
