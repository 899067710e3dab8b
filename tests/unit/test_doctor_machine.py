"""Memory, architecture, KVM, firmware."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagebuild.doctor.check import Level, Need
from imagebuild.doctor.examine import remedies, remedy
from imagebuild.doctor.host import Host
from imagebuild.host import kvm, ram
from imagebuild.host.kvm import Kvm
from imagebuild.host.ram import Memory
from tests.unit.doctor_host import GIB, Described, Facts, found, profile, subject
from tests.unit.doctor_host import the_one as one

BINFMT = "/proc/sys/fs/binfmt_misc/qemu-aarch64"


def test_memory_for_a_build_and_a_boot() -> None:
    host = Described(Facts(memory=Memory(GIB, GIB + GIB // 4)))
    assert found(host, "memory", subject(Need.BUILD))[0].level is Level.OK
    finding = one(host, "memory", Level.WARNING, subject(Need.BUILD, Need.BOOT))
    assert finding.what == "little memory for a boot"
    assert finding.detail == "2.2 GiB free with swap, 2.5 GiB wanted"


def test_hardly_any_memory_stops_a_build() -> None:
    host = Described(Facts(memory=Memory(512 << 20, 0)))
    assert one(host, "memory", Level.MISSING, subject()).advice == "end something, or add swap"


def test_a_control_group_s_limit_counts() -> None:
    host = Described(Facts(memory=Memory(64 * GIB, 0, limit=512 << 20)))
    finding = one(host, "memory", Level.MISSING, subject())
    assert "(a control group's limit)" in finding.detail
    assert "memory limit" in finding.advice


def test_the_tightest_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {"proc": "4:memory:/x\n0::/outer/inner\n"}
    inner = tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    for group, limit, used, cache in ((inner, "max", 5, 0), (inner.parent, "1000", 700, 300)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    real = Path.read_text

    def read_text(self: Path, *args: str) -> str:
        return lines["proc"] if str(self) == "/proc/self/cgroup" else real(self, *args)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert ram.group_limit(tmp_path) == 600
    lines["proc"] = "4:memory:/x\n"
    assert ram.group_limit(tmp_path) is None


def test_real_memory_is_plausible() -> None:
    found_memory = Host().memory()
    assert 1 << 26 < found_memory.available < 1 << 46
    assert found_memory.usable > 0


@pytest.mark.parametrize(
    ("distribution", "command"),
    [("debian", "apt-get install binfmt-support qemu-user-static"),
     ("fedora", "dnf install qemu-user-static")],
)  # fmt: skip
def test_foreign_architecture(distribution: str, command: str) -> None:
    foreign = subject(of=profile(arch="arm64"))
    host = Described(Facts(distribution))
    finding = one(host, "architecture", Level.MISSING, foreign)
    assert finding.what.startswith("this host cannot run arm64 programs")
    assert remedies(host, [finding]) == [command]
    own = Described(Facts(machine="aarch64"))
    assert found(own, "architecture", foreign)[0].level is Level.OK


@pytest.mark.parametrize(
    ("entry", "level", "detail"),
    [
        (b"enabled\ninterpreter /usr/bin/q\nflags: OCF\n", Level.WARNING, ""),
        (b"enabled\ninterpreter /usr/bin/q\nflags: OC\n", Level.MISSING, "without the flag F"),
        (b"disabled\ninterpreter /usr/bin/q\nflags: F\n", Level.MISSING,
         "registered, but switched off"),
    ],
)  # fmt: skip
def test_emulation_of_a_foreign_architecture(entry: bytes, level: Level, detail: str) -> None:
    host = Described(Facts(files={BINFMT: entry}))
    finding = one(host, "architecture", level, subject(of=profile(arch="arm64")))
    assert finding.detail == detail


CRAWLS = Kvm(True, "it crawls: 1.8 million instructions a second", speed=1.8e6)


@pytest.mark.parametrize(
    ("state", "what", "tries"),
    [
        (Kvm(False, "there is no such device"), "there is no KVM", "virtualisation"),
        (Kvm(True, "you may not use the device", is_permission=True),
         "KVM is there, but does not work", "sudo usermod -aG kvm $USER"),
        (CRAWLS, "KVM is there, but does not work", "leave IMAGEBUILD_ACCEL unset"),
    ],
)  # fmt: skip
def test_kvm_that_is_of_no_use(state: Kvm, what: str, tries: str) -> None:
    host = Described(Facts(kvm=state, root=False))
    finding = one(host, "kvm", Level.WARNING)
    assert (finding.what, finding.detail) == (what, state.problem)
    assert "minutes instead of seconds" in finding.prevents
    assert tries in remedy(host, finding)


def test_kvm_that_was_asked_for_must_work() -> None:
    asked = {"IMAGEBUILD_ACCEL": "kvm"}
    assert one(Described(Facts(kvm=CRAWLS, environ=asked)), "kvm", Level.MISSING)
    assert found(Described(Facts(environ=asked)), "kvm")[0].level is Level.OK
    assert "IMAGEBUILD_ACCEL=kvm uses it" in found(Described(Facts()), "kvm")[0].what


def test_kvm_is_measured_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kvm.measure(tmp_path / "kvm") == Kvm(False, "there is no such device")
    (tmp_path / "kvm").touch()
    if os.uname().machine == "x86_64":
        # It opens, but answers no ioctl.
        assert kvm.measure(tmp_path / "kvm").problem.startswith("no guest can be started: ")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert kvm.measure(tmp_path / "kvm").is_permission


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("print('{\"instructions_per_second\": 2e9}')", ""),
        ("print('{\"instructions_per_second\": 1.8e6}')",
         "it crawls: 1.8 million instructions a second"),
        ("import time; time.sleep(60)",
         "a guest of a few instructions did not end within 1 s"),
        ("raise SystemExit(9)", "the test guest ended with status 9"),
    ],
)  # fmt: skip
def test_what_the_guest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    (tmp_path / "kvm.py").touch()
    (tmp_path / "kvm_guest.py").write_text(script)
    monkeypatch.setattr(kvm, "__file__", str(tmp_path / "kvm.py"))
    result = kvm.measure(tmp_path / "kvm.py", seconds=1)
    assert result.problem == problem
    assert result.works == (not problem)


@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="there is no /dev/kvm")
def test_this_host_s_kvm_is_measured_in_time() -> None:
    result = kvm.measure()
    assert result.is_permission or result.speed is not None or result.problem
    assert result.works == (result.speed is not None and result.speed >= kvm.SLOWEST)


@pytest.mark.parametrize(
    ("distribution", "command"),
    [("ubuntu", "apt-get install ovmf"), ("fedora", "dnf install edk2-ovmf")],
)
def test_missing_firmware(distribution: str, command: str) -> None:
    host = Described(Facts(distribution, firmware=False))
    finding = one(host, "firmware", Level.MISSING)
    assert remedies(host, [finding]) == [command]
