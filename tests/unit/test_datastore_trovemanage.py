"""trove-manage through the operator's prefix: words, limits, what is said of failures."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from imagebuild.datastore.trovemanage import TroveManage
from imagebuild.errors import PreflightError, PublishError, UsageError

DATASTORE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
VERSION = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that tells what it was called with, in a directory with a blank and a `$`."""
    directory = tmp_path / "my $HOME"
    directory.mkdir()
    path = directory / "manage"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "rules = open('/dev/stdin').read() if '/dev/stdin' in sys.argv else None\n"
        f"told = dict(argv=sys.argv[1:], rules=rules, env=os.environ.get('MARK'))\n"
        f"json.dump(told, open({str(tmp_path / 'told')!r}, 'w'))\n"
        "print('25.1.0')\n"
    )
    path.chmod(0o755)
    return path


def told(program: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((program.parent.parent / "told").read_text())
    return document


def test_a_prefix_is_split_as_a_shell_would_and_no_shell_runs(program: Path) -> None:
    env = {**os.environ, "MARK": "kept"}
    prefix = f"env '{program}' -x 'two words' \"a;b\" '$(touch no)' '>' --"
    via = TroveManage(prefix, env=env)
    via.load_parameters(DATASTORE, VERSION, b'{"a": 1}')
    assert told(program) == {
        "argv": [
            "-x", "two words", "a;b", "$(touch no)", ">", "--",
            "db_load_datastore_config_parameters", DATASTORE, VERSION, "/dev/stdin",
        ],
        "rules": '{"a": 1}',
        "env": "kept",
    }  # fmt: skip


def test_the_version(program: Path) -> None:
    assert TroveManage(f"'{program}'").version() == "25.1.0"
    assert told(program)["argv"] == ["--version"]


def test_a_version_that_is_none() -> None:
    with pytest.raises(PublishError, match="does not tell its version") as caught:
        TroveManage("echo usage").version()
    assert caught.value.detail == "usage --version"


def test_the_default_goes_by_the_datastores_name(program: Path) -> None:
    TroveManage(f"'{program}'").set_default("mysql", VERSION)
    assert told(program)["argv"] == ["datastore_update", "mysql", VERSION]


@pytest.mark.parametrize("name", ["my sql", "a;b", "$(x)", "--help", ""])
def test_a_name_that_a_shell_on_the_way_would_take_apart(program: Path, name: str) -> None:
    with pytest.raises(PublishError, match="safely"):
        TroveManage(f"'{program}'").set_default(name, VERSION)
    with pytest.raises(PublishError, match="an id that is none"):
        TroveManage(f"'{program}'").load_parameters(DATASTORE, name, b"")
    assert not (program.parent.parent / "told").exists()


@pytest.mark.parametrize(("prefix", "said"), [("a 'b", "No closing quotation"), (" ", "names no")])
def test_a_prefix_that_is_none(prefix: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TroveManage(prefix)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(PreflightError, match="cannot run no-such-ssh"):
        TroveManage("no-such-ssh ctl trove-manage").version()


def test_a_failure_tells_its_last_lines_without_secrets() -> None:
    script = (
        "for i in $(seq 30); do echo line $i >&2; done; "
        "echo 'mysql+pymysql://trove:s3cret@db/trove password=hunter2 refused' >&2; exit 3"
    )
    via = TroveManage(f"env OS_PASSWORD=topsecret sh -c {script!r}")
    with pytest.raises(PublishError, match="status 3") as caught:
        via.version()
    error = caught.value
    assert len(error.detail.splitlines()) == 15
    assert error.detail.endswith("mysql+pymysql://db/trove password=*** refused")
    for text in (str(error), via.label):
        assert not [s for s in ("s3cret", "hunter2", "topsecret") if s in text]


def test_it_has_a_limit() -> None:
    with pytest.raises(PublishError, match="took longer than 0 seconds") as caught:
        TroveManage("sh -c 'sleep 60'", limit=0.2).version()
    assert "--trove-manage-timeout" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        "FileNotFoundError: [Errno 6] No such device or address: '/dev/stdin'",
        "PermissionError: [Errno 13] Permission denied: '/dev/stdin'",
    ],
)
def test_an_input_that_cannot_be_opened_by_name_has_a_way_around(said: str) -> None:
    via = TroveManage(f"sh -c 'echo \"{said.replace(chr(39), '')}\" >&2; exit 1'")
    with pytest.raises(PublishError) as caught:
        via.load_parameters(DATASTORE, VERSION, b"{}")
    assert "cat | trove-manage" in caught.value.hint
