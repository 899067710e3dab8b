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
from imagebuild.errors import ConfigError, ImagebuildError, PolicyError, TemporaryError

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


def test_who_starts_a_verb_finds_its_error_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "error.json"
    monkeypatch.setenv("IMAGEBUILD_ERROR_FILE", str(place))
    assert run(["build", "debian", "bokworm", "--dry-run"]) == 3
    found = json.loads(place.read_text())
    assert (found["error"], found["exit_code"]) == ("ConfigError", 3)
    assert found["what"] == "there is no profile for debian bokworm"
    assert found["hint"] == "did you mean 'debian bookworm'?"
    assert run(["build", "--no-such-option"]) == 2
    assert json.loads(place.read_text())["exit_code"] == 2
    assert run(["--version"]) == 0
    assert list(tmp_path.iterdir()) == [], "what an earlier verb has left is gone"
    # A place that cannot be written is no reason for another end.
    monkeypatch.setenv("IMAGEBUILD_ERROR_FILE", str(tmp_path / "none/error.json"))
    assert run(["build", "debian", "bokworm", "--dry-run"]) == 3


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


#: As the console script does; what is loaded by then goes to stderr.
START = """
import json, sys
before = set(sys.modules)
from imagebuild.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
#: Of the standard library: they take long to import, and no help needs them.
HEAVY = {"asyncio", "concurrent", "email", "http", "multiprocessing", "sqlite3", "ssl", "xml"}
FIRST = {"imagebuild", "imagebuild.cli", "imagebuild.cli.errorfile", "imagebuild.cli.main",
         "imagebuild.cli.terminal", "imagebuild.errors", "imagebuild.visible"}  # fmt: skip
VERB = FIRST | {"imagebuild.cli.complete", "imagebuild.cli.options"}
PROFILES = {"imagebuild.config", "imagebuild.config.finding", "imagebuild.config.words",
            "imagebuild.data", "imagebuild.files"}  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "completed", "own"),
    [
        (["--help"], None, FIRST),
        (["--version"], None, FIRST),
        (["build", "--help"], None, VERB | {"imagebuild.cli.build"}),
        (["profile", "show", "--help"], None, VERB | {"imagebuild.cli.profile"}),
        ([], "", FIRST),
        ([], "build --", VERB | {"imagebuild.cli.build"}),
        ([], "build ub", VERB | PROFILES | {"imagebuild.cli.build"}),
        ([], "profile show ubuntu ", VERB | PROFILES | {"imagebuild.cli.profile"}),
    ],
)
def test_start_is_fast_because_little_is_imported(
    argv: list[str], completed: str | None, own: set[str]
) -> None:
    words = {} if completed is None else completion(completed)
    done = subprocess.run(
        [sys.executable, "-c", START, *argv],
        env=environment() | words, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert {name for name in loaded if name.partition(".")[0] == "imagebuild"} == own
    others = {name.partition(".")[0] for name in loaded} - {"imagebuild"}
    assert others - sys.stdlib_module_names <= {"click", "platformdirs"}
    assert others & HEAVY == set()


def completion(line: str) -> dict[str, str]:
    """What click's script for bash asks with when TAB is pressed after `imagebuild LINE`."""
    words = ["imagebuild", *line.split(" ")]
    return {
        "_IMAGEBUILD_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }


def completions(line: str, **more: str) -> list[str]:
    """Candidates of a kind each (plain, file, dir), as the shell gets them."""
    done = subprocess.run(
        [sys.executable, "-m", "imagebuild"], env=environment() | completion(line) | more,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_of_verbs_and_options() -> None:
    assert completions("") == [f"plain,{verb}" for verb in sorted(main_.VERBS)]
    assert completions("do") == ["plain,doctor"]
    assert "plain,--verbose" in completions("--")
    assert completions("build --dry") == ["plain,--dry-run"]
    assert completions("profile s") == ["plain,schema", "plain,show"]


@pytest.mark.parametrize("verb", ["build", "doctor", "profile show"])
def test_completion_of_profiles(verb: str, tmp_path: Path) -> None:
    own = tmp_path / "profiles"
    own.mkdir()
    for name in ("debian-trixie.yaml", "site.yaml", "_parent.yaml", "notes.txt"):
        (own / name).touch()
    assert completions(f"{verb} debian ") == ["plain,bookworm"]
    known = completions(f"{verb} --profiles-path {own} ")
    assert known == ["file,", *(f"plain,{name}" for name in (
        "debian", "debian-bookworm", "debian-trixie", "site", "ubuntu", "ubuntu-jammy",
        "ubuntu-noble",
    ))]  # fmt: skip
    by_variable = completions(f"{verb} debian ", IMAGEBUILD_PROFILES_PATH=str(own))
    assert by_variable == ["plain,bookworm", "plain,trixie"]
    assert completions(f"{verb} debian bookworm ") == []
    assert completions(f"{verb} ./s") == ["file,./s"]
    assert completions(f"{verb} --profiles-path {tmp_path}/none ") == []


def test_completion_of_values(tmp_path: Path) -> None:
    series = ["2025.1", "2025.2", "2026.1", "2026.2"]
    assert completions("build --trove-series ") == [f"plain,{s}" for s in series]
    assert completions("build --arch a") == ["plain,amd64", "plain,arm64"]
    assert completions("build --datasource Op") == ["plain,OpenNebula", "plain,OpenStack"]
    assert completions("build --keyring /x") == ["file,/x"]
    assert completions("build --elements-path x") == ["dir,x"]
    assert completions("build -o x") == ["file,x"]
    for name in ("trove-guest-a", "trove-guest-b", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "trove-guest-c").touch()
    artifacts = ["file,", "plain,trove-guest-a", "plain,trove-guest-b"]
    assert completions(f"inspect --images-dir {tmp_path} ") == artifacts
    assert completions(f"diff --images-dir {tmp_path} trove-guest-a ") == artifacts
    assert completions(f"inspect --images-dir {tmp_path}/none ") == ["file,"]


def test_bash_completes_with_the_line_of_the_readme(tmp_path: Path) -> None:
    command = tmp_path / "imagebuild"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m imagebuild "$@"\n')
    command.chmod(0o755)
    line = 'eval "$(_IMAGEBUILD_COMPLETE=bash_source imagebuild)"'
    assert line in (ROOT / "README.md").read_text()
    script = f"""{line}
    compopt() {{ :; }}  # there is no completion going on
    COMP_WORDS=(imagebuild build ubuntu "") COMP_CWORD=3
    $(complete -p imagebuild | sed 's/.*-F \\([^ ]*\\).*/\\1/') imagebuild "" ubuntu
    echo "${{COMPREPLY[@]}}"
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment() | {"PATH": path}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("jammy noble\n", "")


@pytest.mark.parametrize(
    ("signum", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_end_it_at_once(signum: int, code: int, word: str, tmp_path: Path) -> None:
    """Also while it waits for servers that do not answer: mirror and package index."""
    keyring = tmp_path / "any.gpg"
    keyring.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        # Whatever the agent's index answers would be a race with the signal.
        index = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "",
                 "PIP_INDEX_URL": f"{url}/simple"}  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "imagebuild", "build", "debian", "bookworm", "--dry-run",
             "--mirror", f"{url}/debian", "--keyring", keyring, "--cache-dir", tmp_path / "cache"],
            env=environment() | index, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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
    assert (out, err.decode(), process.returncode) == (b"", f"error: {word}\n", code)


def test_a_signal_that_a_library_made_another_error_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def callback(*_: object, **__: object) -> None:
        try:
            main_.raise_interrupted(signal.SIGTERM, None)
        except Exception as exc:
            raise ConfigError("the file cannot be read") from exc

    monkeypatch.setattr(main_, "_signals", [])
    monkeypatch.setattr(main_, "_check_directory", callback)
    assert run(["profile", "list"]) == 143
    assert capsys.readouterr().err == "error: terminated\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = '"$0" -m imagebuild profile schema | head -n 1; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], env=environment(), capture_output=True, check=True
    )
    assert done.stderr == b""
    # 0 when all of it fitted into the pipe, 141 (SIGPIPE) when not.
    assert re.fullmatch(rb"\{\n(0|141)\n", done.stdout)
