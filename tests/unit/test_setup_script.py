"""scripts/setup.sh: which packages it installs, by whom, in whose words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fake(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Package managers that write down what they are asked, and have e2fsprogs and gnupg2."""
    directory = tmp_path / "bin"
    directory.mkdir()
    fake(directory, "id", "echo 0")
    for name in ("dnf", "apt-get"):
        fake(directory, name, f'echo "{name} $*" >> {tmp_path}/asked')
    fake(directory, "rpm", 'case "$3" in e2fsprogs | gnupg2) exit 0 ;; esac; exit 1')
    fake(directory, "dpkg-query", 'case "$4" in e2fsprogs) echo installed ;; esac')
    return directory


def need(tools: Path, os_release: str, *names: str) -> subprocess.CompletedProcess[str]:
    file = tools.parent / "os-release"
    file.write_text(os_release)
    script = 'set -eu -o pipefail; . "$1/scripts/setup.sh"; os_release=$2; shift 2; "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", str(ROOT), str(file), "need_packages", *names],
        env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("os_release", "asked"),
    [
        ("ID=fedora\n", "dnf install -y -q mtools qemu-img\n"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install -y -q mtools qemu-img\n"),
        (
            "ID=ubuntu\nID_LIKE=debian\n",
            "apt-get install -y -q --no-install-recommends gnupg mtools qemu-utils\n",
        ),
    ],
)
def test_missing_packages_are_installed(tools: Path, os_release: str, asked: str) -> None:
    need(tools, os_release, "e2fsprogs", "gnupg", "mtools", "qemu-utils")
    assert (tools.parent / "asked").read_text() == asked


def test_nothing_is_installed_where_nothing_is_missing(tools: Path) -> None:
    need(tools, "ID=fedora\n", "e2fsprogs", "gpgv")
    assert not (tools.parent / "asked").exists()


def test_other_distributions_are_told(tools: Path) -> None:
    done = need(tools, "ID=arch\n", "mtools")
    assert done.stderr == (
        "warning: neither apt nor dnf is used here: these must be there already: mtools\n"
    )
    assert not (tools.parent / "asked").exists()


def test_keyrings_that_apt_has(tools: Path) -> None:
    def policy(name: str, version: str) -> str:
        return f"{name}:\\n  Installed: (none)\\n  Candidate: {version}\\n  Version table:\\n"

    said = policy("debian-archive-keyring", "2023.3") + policy("ubuntu-archive-keyring", "(none)")
    said += policy("ubuntu-keyring", "2021.03.26")
    fake(tools, "apt-cache", f'echo "$*" >> {tools.parent}/asked; printf "{said}"')
    script = '. "$1/scripts/setup.sh"; os_release=$2; keyring_packages'
    (tools.parent / "os-release").write_text("ID=debian\n")
    done = subprocess.run(
        ["bash", "-eu", "-c", script, "bash", str(ROOT), str(tools.parent / "os-release")],
        env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "debian-archive-keyring\nubuntu-keyring\n"
    asked = "policy debian-archive-keyring ubuntu-archive-keyring ubuntu-keyring\n"
    assert (tools.parent / "asked").read_text() == asked
