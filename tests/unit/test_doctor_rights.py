"""Root, sudo and the privileged worker's trial; described, and real."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from imagebuild.doctor.check import Level
from imagebuild.doctor.examine import remedies
from imagebuild.doctor.host import Host, Said, Trial
from imagebuild.errors import Interrupted
from imagebuild.host.run import run, which
from imagebuild.host.trial import try_files, try_overlay
from tests.unit.doctor_host import Described, Facts, found
from tests.unit.doctor_host import the_one as one

ALL = Facts().programs
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces of its own")


GRANTS = Said(0, "")


def user(said: Said = GRANTS, *, terminal: bool = False) -> Described:
    return Described(Facts(root=False, sudo=said, terminal=terminal))


def test_neither_root_nor_sudo() -> None:
    host = Described(Facts(root=False, programs=ALL - {"sudo"}))
    assert one(host, "root", Level.MISSING).what == "you are not root, and there is no sudo"


ASKS = Said(1, "sudo: a password is required")


def test_sudo_that_asks_needs_a_terminal() -> None:
    assert found(user(), "root")[0].what == "sudo, without a password"
    assert one(user(ASKS, terminal=True), "root", Level.WARNING).what == "sudo asks for a password"
    finding = one(user(ASKS), "root", Level.MISSING)
    assert finding.what == "sudo asks for a password, and there is no terminal"


def test_sudo_that_refuses() -> None:
    said = "me is not in the sudoers file."
    finding = one(user(Said(1, said), terminal=True), "root", Level.MISSING)
    assert (finding.what, finding.detail) == ("sudo refuses", said)


def test_the_trial_is_left_out_where_it_would_ask() -> None:
    host = user(ASKS, terminal=True)
    assert found(host, "namespaces")[0].level is Level.SKIPPED
    without = Described(Facts(programs=ALL - {"unshare"}))
    assert "unshare" in one(without, "namespaces", Level.SKIPPED).what
    assert host.trials == without.trials == 0


def test_namespaces_that_are_not_allowed() -> None:
    why = "unshare: unshare failed: Operation not permitted"
    finding = one(Described(Facts(trial=Trial(start=why))), "namespaces", Level.MISSING)
    assert finding.what == "no private mount and pid namespaces"
    assert finding.detail == why


def test_filesystem_that_does_not_keep_owners() -> None:
    trial = Trial(files="root cannot write: Permission denied")
    finding = one(Described(Facts(trial=trial)), "namespaces", Level.MISSING)
    assert "does not keep what root writes" in finding.what


@pytest.mark.parametrize(("root", "command"), [(True, "modprobe"), (False, "sudo modprobe")])
def test_no_overlayfs_is_a_warning(root: bool, command: str) -> None:
    host = Described(Facts(root=root, trial=Trial(overlay="unknown filesystem type 'overlay'")))
    finding = one(host, "namespaces", Level.WARNING)
    assert "no wheel" in finding.prevents
    assert remedies(host, [finding]) == [f"{command} overlay"]


@NEEDS_ROOT
def test_the_real_trial_leaves_nothing(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    assert Host().trial(tmp_path / "not/yet") == Trial()
    assert tmp_path.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == []


@NEEDS_ROOT
@pytest.mark.alone
def test_the_real_trial_of_a_host_without_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'unshare: not permitted' >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    (tmp_path / "setpriv").symlink_to(str(which("setpriv")))
    monkeypatch.setattr("imagebuild.host.run.PATH", str(tmp_path))
    assert Host().trial(tmp_path).start == "unshare: not permitted"


@NEEDS_ROOT
def test_files_where_root_cannot_write(tmp_path: Path) -> None:
    assert try_files(tmp_path) == ""
    assert try_files(tmp_path / "absent") == "root cannot write: No such file or directory"


@NEEDS_ROOT
def test_overlayfs_where_it_cannot_be(tmp_path: Path) -> None:
    # overlayfs takes no upper directory on /proc, nor does anybody make one there.
    assert try_overlay(Path("/proc")) != ""
    # In a namespace of its own: a mount that is left behind must not stay on the host.
    code = (
        "import sys; from pathlib import Path; from imagebuild.host.trial import try_overlay; "
        "print(repr(try_overlay(Path(sys.argv[1]))))"
    )
    argv = ["unshare", "--mount", "sh", "-c",
            'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"',
            "sh", str(tmp_path), sys.executable, code]  # fmt: skip
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    assert run(argv, env=env).stdout.strip() == b"''"


@pytest.mark.alone
def test_an_interrupt_is_no_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """^C while the host is tried ends the build; it does not count as something that failed."""

    def interrupt(*_: object, **__: object) -> NoReturn:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("imagebuild.host.worker.spawn", interrupt)
    monkeypatch.setattr("imagebuild.doctor.host.run", interrupt)
    with pytest.raises(Interrupted):
        Host().trial(tmp_path)
    with pytest.raises(Interrupted):
        Host().run(["sudo", "-n", "true"])
