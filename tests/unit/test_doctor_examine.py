"""The checks together: what is asked, what is prevented, and the error that a build stops with."""

from __future__ import annotations

import re

from imagebuild.doctor.check import Level, Need
from imagebuild.doctor.examine import CHECKS, examine, refusal, remedies
from imagebuild.doctor.host import Mount, Usage
from imagebuild.errors import ExitCode
from imagebuild.host.ram import Memory
from tests.unit.doctor_host import CACHE, GIB, Described, Facts, profile, subject

LOCAL = [c for c in CHECKS if not c.network]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
FINE = {KEYS: b"key"}


def test_checks_have_names_of_their_own() -> None:
    ids = [c.id for c in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(
        re.fullmatch(r"[a-z-]+", i) and c.needed_for for i, c in zip(ids, CHECKS, strict=True)
    )


def test_a_host_on_which_all_is_well() -> None:
    host = Described(Facts(files=FINE))
    report = examine(host, subject(of=profile()), ask_network=False, checks=LOCAL)
    assert {r.level for r in report.results} == {Level.OK}
    assert report.prevented == []
    assert refusal(host, report) is None


def test_only_what_is_needed_is_asked() -> None:
    report = examine(Described(Facts()), subject(Need.MIRROR), ask_network=False, checks=LOCAL)
    ids = {r.check.id for r in report.results}
    assert ids == {"python", "proxies", "certificates", "registries", "docker", "registry"}
    boot = examine(Described(Facts()), subject(Need.BOOT), ask_network=False, checks=LOCAL)
    assert {"kvm", "firmware", "boot-programs"} <= {r.check.id for r in boot.results}
    assert "build-programs" not in {r.check.id for r in boot.results}


def test_what_is_prevented() -> None:
    host = Described(Facts(firmware=False, clouds=[]))
    asked = subject(Need.BUILD, Need.BOOT, Need.PUBLISH, Need.MIRROR)
    report = examine(host, asked, ask_network=False, checks=LOCAL)
    assert report.prevented == [Need.BOOT, Need.PUBLISH]


def test_everything_is_said_at_once() -> None:
    programs = Facts().programs - {"mke2fs", "qemu-img"}
    host = Described(
        Facts(
            "fedora",
            programs=programs,
            root=False,
            memory=Memory(100 << 20, 0),
            mount=Mount("/home", "ext4", frozenset({"noexec"})),
            usage={"/": Usage(1, GIB, 10**7)},
        )
    )
    report = examine(host, subject(of=profile()), ask_network=False, checks=LOCAL)
    error = refusal(host, report)
    assert error is not None
    assert error.exit_code is ExitCode.PREFLIGHT
    assert error.what == "5 things stand in the way"
    for line in (
        "2 programs that a build needs are not installed",
        "    mke2fs, qemu-img",
        "little memory for a build",
        f"the cache directory is mounted noexec: {CACHE}",
        f"too little space for a build: {CACHE}",
        f"the archive's keyring is not there: {KEYS}",
    ):
        assert line in error.detail.splitlines(), error.detail
    assert error.hint == (
        "sudo dnf install debian-keyring e2fsprogs qemu-img; imagebuild doctor tells more"
    )


def test_one_finding_is_the_error_itself() -> None:
    host = Described(Facts(files=FINE, usage={"/": Usage(1, GIB, 10**7)}))
    error = refusal(host, examine(host, subject(of=profile()), ask_network=False, checks=LOCAL))
    assert error is not None
    assert (error.what, error.where) == ("too little space for a build", str(CACHE))


def test_commands_are_said_once() -> None:
    host = Described(Facts(root=False))
    report = examine(
        Described(Facts(files=FINE, programs=Facts().programs - {"qemu-img"})),
        subject(Need.BUILD, Need.BOOT),
        ask_network=False,
        checks=LOCAL,
    )
    missing = report.findings(Level.MISSING)
    assert len(missing) == 2, "qemu-img is needed by both"
    assert remedies(host, missing) == ["sudo apt-get install qemu-utils"]
