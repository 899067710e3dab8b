"""Milestones and their limits, and every way in which a machine can fail to come up."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagebuild.errors import UsageError
from imagebuild.verify import trouble, watch
from imagebuild.verify.bootlevel import Boot, check_boot
from imagebuild.verify.console import Console
from imagebuild.verify.machine import Machine
from imagebuild.verify.results import Milestone, Outcome
from imagebuild.verify.trouble import BootTroubleError, Kind
from imagebuild.verify.watch import LIMITS, MILESTONES, Watch, limits_of
from tests.unit.verify_machine import KVM, TCG, stand_in

KERNEL = "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)\r\n"
UNITS = "\n\n".join(
    f"Id={unit}\nActiveEnterTimestampMonotonic={at}000000\nExecMainStartTimestampMonotonic={at}1"
    for unit, at in [("docker.service", 3), ("cloud-final.service", 4), ("ssh.service", 2)]
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_WORDS", 0.05)
    monkeypatch.setattr(trouble, "_BETWEEN", 0.01)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with stand_in(tmp_path) as made:
        yield made


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[Machine]:
    with stand_in(tmp_path, TCG) as made:
        yield made


def tell(machine: Machine, at: float, name: str, text: str) -> None:
    """Let the probe report."""
    out = base64.b64encode(text.encode()).decode()
    with machine.probe.open("a") as file:
        file.write(json.dumps({"t": at, "name": name, "out": out}) + "\n")


def failure(found: Watch) -> BootTroubleError:
    found.pause = 0.01
    with pytest.raises(BootTroubleError) as caught:
        found.follow()
    return caught.value


def test_milestones_of_a_machine_that_comes_up(machine: Machine) -> None:
    seen: list[Milestone] = []
    machine.console.write_text(KERNEL + "Debian GNU/Linux 12 guest ttyS0\r\n\r\nguest login: ")
    tell(machine, 1.0, "start", "6.1\n")
    tell(machine, 1.0, "manager", "UserspaceTimestampMonotonic=500000\n")
    tell(machine, 5.0, "units", UNITS)
    tell(machine, 5.0, "cloud-init", '{"v1": {"errors": []}}')
    tell(machine, 6.0, "system", "degraded\n")
    found = Watch(machine, on_milestone=seen.append, pause=0.01)
    found.follow()
    assert {m.name for m in seen} == {
        "console", "kernel", "root", "probe", "ssh", "login", "docker", "cloud-init-done",
        "settled",
    }  # fmt: skip
    assert len(seen) == len({m.name for m in seen})
    order = [m.name for m in found.milestones]
    assert order.index("root") < order.index("docker") < order.index("cloud-init-done")
    # The guest says 6 s after its kernel began, and that was before the first look.
    assert found.seen["settled"] - found.seen["docker"] == pytest.approx(3.0, abs=0.1)


def test_a_settled_system_without_cloud_init_is_not_done(machine: Machine) -> None:
    machine.console.write_text(KERNEL)
    tell(machine, 6.0, "start", "6.1\n")
    tell(machine, 6.0, "system", "running\n")
    error = failure(Watch(machine, limits={"cloud-init-done": 0.3}))
    assert (error.kind, error.milestone) == (Kind.LATE, "cloud-init-done")
    assert "'cloud-init-done' was not reached within 0 s" in error.what


@pytest.mark.parametrize(
    ("console", "kind", "milestone"),
    [
        (KERNEL + "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs",
         Kind.PANIC, "root"),
        (KERNEL + "ALERT!  LABEL=nonesuch does not exist.  Dropping to a shell!\r\n"
         "(initramfs) ", Kind.INITRAMFS, "root"),
        (KERNEL + "[  8.0] systemd[1]: Started x\r\nYou are in emergency mode. After logging",
         Kind.EMERGENCY, "probe"),
    ],
)  # fmt: skip
def test_what_the_console_says_ends_the_wait(
    machine: Machine, console: str, kind: Kind, milestone: str
) -> None:
    machine.console.write_text(console)
    started = time.monotonic()
    error = failure(Watch(machine))
    assert time.monotonic() - started < 10
    assert (error.kind, error.milestone) == (kind, milestone)
    assert error.evidence[-1] == console.splitlines()[-1].strip()
    assert not error.blames_host


def test_a_kernel_that_the_emulation_was_too_slow_for_is_the_hosts_fault(
    tmp_path: Path,
) -> None:
    line = "Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug"
    for accelerator, kind in ((TCG, Kind.STALLED), (KVM, Kind.PANIC)):
        with stand_in(tmp_path, accelerator) as machine:
            machine.console.write_text(KERNEL + line)
            error = failure(Watch(machine))
            assert (error.kind, error.blames_host) == (kind, kind is Kind.STALLED)


def test_a_machine_that_ends_is_noticed(machine: Machine) -> None:
    machine.console.write_text(KERNEL)
    (machine.logs / "qemu.log").write_text("qemu: out of memory\n")
    machine.process.kill()
    error = failure(Watch(machine))
    assert error.kind is Kind.ENDED
    assert "status -9" in str(error.facts["status"])
    assert error.blames_host
    assert error.evidence[-1] == "qemu: out of memory"


@pytest.mark.parametrize(
    "end",
    [
        "[ 9.0] cloud-init[584]: Cloud-init v. 22.4.2 finished at Sun. Datasource DataSourceNone.",
        "guest login: ",
    ],
)
def test_a_system_that_came_up_without_us_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(watch, "_UNHEARD", 0.2)
    machine.console.write_text(f"{KERNEL}{end}\n" if "login" not in end else KERNEL + end)
    error = failure(Watch(machine))
    assert (error.kind, error.milestone) == (Kind.UNHEARD, "probe")
    assert error.evidence[-1] == end.strip()
    assert not error.blames_host


def test_a_guest_that_turns_itself_off_is_to_blame(machine: Machine) -> None:
    machine.console.write_text(KERNEL)
    with subprocess.Popen(["true"]) as process:
        process.wait()
        error = failure(Watch(replace(machine, process=process)))
    assert error.kind is Kind.ENDED
    assert not error.blames_host


def test_silence_names_the_milestone_and_shows_the_screen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SILENCE", 0.1)
    facts = {"status": "running", "screen": ["No bootable device."], "idle": True}
    monkeypatch.setattr(trouble, "diagnose", lambda _m: dict(facts))
    error = failure(Watch(machine, limits={"console": 0.3}))
    assert (error.kind, error.milestone) == (Kind.SILENT, "console")
    assert error.evidence == ["screen: No bootable device."]
    assert not error.blames_host


@pytest.mark.parametrize("idle", [True, False])
def test_a_late_guest_blames_a_host_that_emulates_without_rest(
    emulated: Machine, monkeypatch: pytest.MonkeyPatch, *, idle: bool
) -> None:
    monkeypatch.setattr(trouble, "diagnose", lambda _m: {"idle": idle})
    emulated.console.write_text(KERNEL)
    error = failure(Watch(emulated, limits={"probe": 0.2}))
    assert (error.kind, error.milestone) == (Kind.LATE, "probe")
    assert error.blames_host is not idle


def test_only_an_emulated_guest_stalls_and_only_before_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.2)
    quiet = {"console": 1.0, "kernel": 1.0, "root": 1.0, "probe": 1.0}
    systemd = KERNEL + "Welcome to Debian GNU/Linux 12 (bookworm)!\n"
    for accelerator, console, kind in [
        (TCG, KERNEL, Kind.STALLED),
        (TCG, systemd, Kind.LATE),
        (KVM, KERNEL, Kind.LATE),
        (TCG, "Welcome to GRUB!\n" + KERNEL, Kind.STALLED),
    ]:
        with stand_in(tmp_path, accelerator) as machine:
            machine.console.write_text(console)
            assert failure(Watch(machine, limits=quiet)).kind is kind


def test_limits_are_scaled_by_the_accelerator_or_given() -> None:
    assert limits_of(None, 1.0) == LIMITS
    assert limits_of(None, 5.0)["probe"] == 5 * LIMITS["probe"]
    halved = limits_of(LIMITS["settled"] / 2, 5.0)
    assert halved == {name: seconds / 2 for name, seconds in LIMITS.items()}
    assert limits_of({"docker": 7}, 1.0) == LIMITS | {"docker": 7}
    assert set(LIMITS) < set(MILESTONES)
    with pytest.raises(UsageError, match="nonesuch"):
        limits_of({"nonesuch": 1}, 1.0)


def test_a_milestone_with_a_limit_of_its_own_is_waited_for(machine: Machine) -> None:
    """docker has no limit unless it is given one: a later milestone does not stand for it."""
    machine.console.write_text(KERNEL)
    tell(machine, 1.0, "start", "6.1\n")
    error = failure(Watch(machine, limits={"docker": 0.2}))
    assert (error.kind, error.milestone) == (Kind.LATE, "docker")


def test_console_is_read_without_codes_however_it_is_cut(tmp_path: Path) -> None:
    console = Console(tmp_path / "console.log")
    assert not console.read(1.0)
    data = b"\x1b[0;1;31m[FAILED]\x1b[0m Failed to start \xc3\xa4\r\n\x1bc\x1b[2Jlogin: "
    with console.path.open("ab", buffering=0) as file:
        for number, byte in enumerate(data):
            file.write(bytes([byte]))
            console.read(float(number))
    assert "\x1b" not in console.text
    assert console.text.startswith("[FAILED] Failed to start ")
    assert console.text.endswith("\nlogin: ")
    assert console.telling()[0].startswith("[FAILED]")
    assert console.grown == len(data) - 1


def test_a_stall_is_tried_once_more_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real machine of an image that has nothing to boot: both starts stall."""
    from tests.unit.verify_machine import empty_image

    def follow(found: Watch) -> None:
        found._fail(Kind.STALLED)

    monkeypatch.setattr(Watch, "follow", follow)
    run, checks = check_boot(boot_of(empty_image(tmp_path), tmp_path))
    (check,) = checks
    assert check.outcome is Outcome.UNKNOWN
    assert "it stalled twice" in check.hint
    assert len(run.facts["stalls"]) == 1
    assert run.logs.endswith("/again")
    assert run.facts["status"] == "running"


def test_an_image_without_a_bootloader_fails_with_its_cause(tmp_path: Path) -> None:
    from tests.unit.verify_machine import empty_image

    limits: Any = {"console": 4.0}
    run, (check,) = check_boot(boot_of(empty_image(tmp_path), tmp_path, limits=limits))
    assert check.name == "boot/metadata/start"
    assert check.outcome is Outcome.FAILED
    assert check.cause is not None
    assert check.cause.id == "boot-nothing-to-boot"
    assert any("No bootable device" in line for line in check.evidence)
    assert run.milestones == ()
    assert list((tmp_path / "scratch").iterdir()) == []


def boot_of(image: Path, tmp_path: Path, **more: Any) -> Boot:  # noqa: ANN401 - its fields
    return Boot(
        image=image, how="metadata", logs=tmp_path / "logs", scratch=tmp_path / "scratch",
        accelerator=TCG, memory_mib=256, disk_size="2M", **more,
    )  # fmt: skip
