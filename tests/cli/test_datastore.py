"""imagebuild datastore: what can be said without a cloud."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from imagebuild.cli.datastore import COMMANDS, datastore
from imagebuild.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
_HELP = """
import sys
from imagebuild.cli.main import run
code = run(["datastore", *sys.argv[1:], "--help"])
heavy = {"openstack", "keystoneauth1", "rich", "requests"} & set(sys.modules)
sys.exit(f"loaded: {sorted(heavy)}" if heavy else code)
"""


def command(name: str) -> click.Command:
    found = datastore.get_command(click.Context(datastore), name)
    assert isinstance(found, click.Command)
    return found


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datastore", "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    assert [ln.split()[0] for ln in listed.splitlines() if ln[2:3].strip()] == sorted(COMMANDS)


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_help_is_quick(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HELP, *filter(None, [name])],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: imagebuild datastore {name}".rstrip())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_its_variable(name: str) -> None:
    options = [p for p in command(name).params if isinstance(p, click.Option)]
    assert len(options) > 2
    for option in options:
        assert str(option.envvar).startswith("IMAGEBUILD_"), option.name
        assert option.show_envvar, option.name
        assert option.help, option.name


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datastore", "delete"]) == 2
    assert "No such command 'delete'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["create", "mysql", "8.4", "--image-tags", "a", "--image", "b"], "choose one"),
        (["create", "mysql", "8.4", "--image-tags", ","], "--image-tags names no tag"),
        (["create", "mysql", "8.4", "--trove-manage", "a 'b"], "No closing quotation"),
        (["create", "mysql", "8.4", "--trove-manage-timeout", "soon"], "is not a duration"),
        (["load-parameters", "mysql", "--"], "Missing argument 'VERSION'"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datastore", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_file_of_rules_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.json"
    path.write_text("[]")
    assert run(["datastore", "load-parameters", "mysql", "8.4", "--file", str(path)]) == 3
    assert f"where: {path}" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["datastore", "list"], ["datastore", "rollback", "mysql"]])
def test_a_cloud_that_does_not_answer(argv: list[str]) -> None:
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
        "OS_AUTH_URL": "http://127.0.0.1:9/v3", "OS_USERNAME": "a", "OS_PASSWORD": "b",
        "OS_PROJECT_NAME": "c",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "imagebuild", *argv], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
