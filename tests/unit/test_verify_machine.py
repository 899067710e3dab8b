"""What qemu is told, and how a machine ends with what started it."""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError, UsageError, VerifyError
from imagebuild.host import kvm, scratch
from imagebuild.verify import accel, argv, keep
from imagebuild.verify.firmware import Firmware, find_uefi
from imagebuild.verify.guest import Guest
from imagebuild.verify.machine import make_overlay, running
from imagebuild.verify.nic import TWO_NICS, HostForward
from imagebuild.verify.place import place, sweep
from imagebuild.verify.spec import MachineSpec
from tests.unit.verify_machine import TCG, becomes, empty_image, machines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    return MachineSpec(empty_image(tmp_path), TCG, memory_mib=256, disk_size="2M")


def pairs(spec: MachineSpec, tmp_path: Path) -> list[tuple[str, str]]:
    """Each word of the command with the one after it."""
    return list(itertools.pairwise(argv.qemu_argv(spec, tmp_path / "logs", tmp_path)))


def values(flag: str, words: list[tuple[str, str]]) -> list[str]:
    return [value for name, value in words if name == flag]


def test_machine_looks_like_novas_and_reaches_nothing(spec: MachineSpec, tmp_path: Path) -> None:
    words = pairs(spec, tmp_path)
    (smbios,) = values("-smbios", words)
    assert "manufacturer=OpenStack Foundation,product=OpenStack Nova" in smbios
    (netdev,) = values("-netdev", words)
    assert "restrict=on" in netdev
    assert "fwd" not in netdev
    assert ("-m", "256") in words
    (drive,) = values("-drive", words)
    assert "if=virtio" in drive
    assert "pflash" not in str(words)


def test_volumes_come_before_the_config_drive(spec: MachineSpec, tmp_path: Path) -> None:
    """Trove's agent formats /dev/vdb."""
    volume = tmp_path / "a,b.raw"
    full = replace(spec, volumes=(volume,), config_drive=tmp_path / "c.iso")
    root, second, third = values("-drive", pairs(full, tmp_path))
    assert root.startswith("file=disk.qcow2,")
    assert second.startswith(f"file={tmp_path}/a,,b.raw,if=virtio,format=raw")
    assert "readonly" not in second
    assert third == f"file={tmp_path}/c.iso,if=ide,media=cdrom,format=raw,readonly=on"
    uefi = values("-drive", pairs(replace(full, firmware=Firmware.UEFI), tmp_path))
    assert uefi[-1] == f"file={tmp_path}/c.iso,if=virtio,format=raw,readonly=on"


def test_guest_reaches_the_forwarded_ports_and_nothing_else(
    spec: MachineSpec, tmp_path: Path
) -> None:
    full = replace(
        spec,
        forwards={"168.0.0.100:5000": 77},
        metadata=tmp_path / "md",
        host_forwards=(HostForward(8, 22),),
    )
    (network,) = values("-netdev", pairs(full, tmp_path))
    folder = Path(argv.__file__).parent
    python = f"{sys.executable} -I -S {folder}"
    log = tmp_path / "logs/metadata.log"
    assert network.split(",")[7:] == [
        f"guestfwd=tcp:168.0.0.100:5000-cmd:{python}/relay.py 77",
        f"guestfwd=tcp:169.254.169.254:80-cmd:{python}/metadata_server.py {tmp_path}/md {log}",
        "hostfwd=tcp:127.0.0.1:8-168.0.0.15:22",
    ]


def test_two_cards_users_first_and_each_has_what_lies_in_its_network(
    spec: MachineSpec, tmp_path: Path
) -> None:
    full = replace(
        spec,
        nics=TWO_NICS,
        forwards={"168.0.0.4:5672": 77},
        metadata=tmp_path / "md",
        host_forwards=(HostForward(0, 22), HostForward(0, 3306, nic=0)),
    )
    words = pairs(full, tmp_path)
    user, management = values("-netdev", words)
    assert ("5672" in user, "5672" in management) == (False, True)
    assert ("3306" in user, "3306" in management) == (True, False)
    assert not user.endswith(":22")
    assert management.endswith("-168.0.0.15:22")
    assert "169.254.169.254:80" in user
    assert "169.254.169.254:80" in management
    cards = [value for value in values("-device", words) if "virtio-net" in value]
    assert [nic.mac in card for nic, card in zip(TWO_NICS, cards, strict=True)] == [True, True]


def test_words_of_a_relay_survive_qemus_option_and_shell() -> None:
    option = argv._script("relay.py", "a b,c")
    assert ",," in option
    assert shlex.split(option.replace(",,", ","))[-1] == "a b,c"


def test_uefi_gets_its_own_copy_of_the_variables(spec: MachineSpec, tmp_path: Path) -> None:
    code, variables = find_uefi()
    before = hashlib.sha256(variables.read_bytes()).hexdigest()
    words = pairs(replace(spec, firmware=Firmware.UEFI), tmp_path)
    first, second, _root = values("-drive", words)
    assert f"readonly=on,file={code}" in first
    assert second.endswith("file=vars.fd")
    assert hashlib.sha256((tmp_path / "vars.fd").read_bytes()).hexdigest() == before


@pytest.mark.parametrize(("arch", "package"), [("amd64", "ovmf"), ("arm64", "qemu-efi-aarch64")])
def test_missing_firmware_names_the_package(arch: str, package: str, tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        find_uefi(arch, tmp_path)
    assert package in caught.value.hint


def test_an_arm64_machine_is_an_arm64_machine(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argv, "need", lambda program, package: f"{package}/{program}")
    monkeypatch.setattr(argv, "find_uefi", lambda _arch: (tmp_path / "code", tmp_path / "vars"))
    (tmp_path / "vars").touch()
    arm = replace(spec, arch="arm64", firmware=Firmware.UEFI)
    command = argv.qemu_argv(arm, tmp_path, tmp_path)
    assert command[0] == "qemu-system-arm/qemu-system-aarch64"
    assert command[command.index("-M") + 1] == "virt"
    assert "-vga" not in command
    with pytest.raises(PreflightError, match="no BIOS"):
        argv.qemu_argv(replace(arm, firmware=Firmware.BIOS), tmp_path, tmp_path)


def test_kvm_is_used_only_where_a_guest_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEBUILD_ACCEL", raising=False)
    arch = "amd64" if os.uname().machine == "x86_64" else "arm64"
    monkeypatch.setattr(kvm, "measure", lambda: kvm.Kvm(True, "it crawls", speed=2e6))
    crawling = accel.choose(arch=arch)
    assert (crawling.name, crawling.why) == ("tcg", "/dev/kvm: it crawls")
    assert crawling.patience > 1
    with pytest.raises(PreflightError) as caught:
        accel.choose("kvm", arch=arch)
    assert "it crawls" in caught.value.detail
    monkeypatch.setattr(kvm, "measure", lambda: kvm.Kvm(True, speed=3e9))
    assert (accel.choose(arch=arch).name, accel.choose(arch=arch).patience) == ("kvm", 1.0)
    foreign = "arm64" if arch == "amd64" else "amd64"
    assert accel.choose(arch=foreign).name == "tcg"
    monkeypatch.setenv("IMAGEBUILD_ACCEL", "tcg,thread=single")
    assert accel.choose().options[:2] == ("-accel", "tcg,thread=single")
    with pytest.raises(UsageError, match="xen"):
        accel.choose("xen")


def test_a_machine_that_cannot_start_is_the_hosts_fault(spec: MachineSpec, tmp_path: Path) -> None:
    broken = replace(spec, options=("-no-such-option",))
    with (
        place(tmp_path / "scratch") as here,
        pytest.raises(PreflightError) as caught,
        running(broken, tmp_path / "logs", here),
    ):
        pytest.fail("it started")
    assert "no-such-option" in caught.value.detail


def test_a_file_that_is_no_disk_is_the_images_fault(tmp_path: Path) -> None:
    image = tmp_path / "cut.qcow2"
    image.write_bytes(b"QFI\xfb\0\0\0\3")
    with pytest.raises(VerifyError, match="cannot be opened as qcow2"):
        make_overlay(image, tmp_path / "overlay", fmt="qcow2", size=None)


def test_machine_and_scratch_are_gone_at_the_end(spec: MachineSpec, tmp_path: Path) -> None:
    digest = hashlib.sha256(spec.image.read_bytes()).hexdigest()
    root = tmp_path / ("a-rather-long-name" * 6) / "scratch"
    with place(root) as here, running(spec, tmp_path / "logs", here) as machine:
        assert machines(tmp_path) == [machine.process.pid]
        assert machine.qmp.status() == "running"
        assert len(machine.qmp.processors()) == spec.cpus
        assert here.path.stat().st_mode & 0o077 == 0
    assert machines(tmp_path) == []
    assert list(root.iterdir()) == []
    assert hashlib.sha256(spec.image.read_bytes()).hexdigest() == digest


def test_what_the_firmware_shows_is_read_from_the_screen(spec: MachineSpec, tmp_path: Path) -> None:
    with place(tmp_path / "scratch") as here, running(spec, tmp_path / "logs", here) as machine:
        while not any("bootable" in row for row in machine.qmp.screen()):
            assert machine.elapsed() < 30, machine.qmp.screen()


def test_forwarded_port_is_a_free_one(spec: MachineSpec, tmp_path: Path) -> None:
    with_port = replace(spec, host_forwards=(HostForward(0, 22),))
    with place(tmp_path / "scratch") as here, running(with_port, tmp_path, here) as machine:
        port = machine.qmp.ports()[22]
        with socket.create_connection(("127.0.0.1", port)):
            pass


_VICTIM = """
import sys, time
from pathlib import Path
from tests.unit.verify_machine import TCG
from imagebuild.verify.machine import running
from imagebuild.verify.place import place
from imagebuild.verify.spec import MachineSpec
spec = MachineSpec(Path(sys.argv[1]), TCG, memory_mib=256, disk_size="2M")
work = Path(sys.argv[2])
with place(work / "scratch") as here, running(spec, work / "logs", here):
    time.sleep(60)
"""


def test_nothing_survives_a_killed_tool(spec: MachineSpec, tmp_path: Path) -> None:
    work = tmp_path / "work"
    command = [sys.executable, "-c", _VICTIM, str(spec.image), str(work)]
    with subprocess.Popen(command, cwd=ROOT) as victim:
        started = becomes(1, work)
        living = sweep(work / "scratch")
        victim.kill()
    assert started
    assert living == []
    assert becomes(0, work)
    (left,) = scratch.directories(work / "scratch")
    assert sweep(work / "scratch") == [left]
    assert list((work / "scratch").iterdir()) == []


def test_a_kept_machine_outlives_the_block_until_it_is_stopped(
    spec: MachineSpec, tmp_path: Path
) -> None:
    root = tmp_path / "scratch"
    with place(root) as here, running(spec, tmp_path / "logs", here, keep=True) as machine:
        keep.record(Guest(machine), "a-test")
    (kept,) = keep.kept(root)
    try:
        assert machines(tmp_path) == [kept.pid]
        assert Path(kept.shell).is_socket()
        assert scratch.abandoned(root) == []
    finally:
        keep.stop(kept)
    assert becomes(0, tmp_path)
    assert keep.kept(root) == []
    assert list(root.iterdir()) == []


def test_a_machine_to_be_kept_is_ended_when_something_fails(
    spec: MachineSpec, tmp_path: Path
) -> None:
    root = tmp_path / "scratch"
    with (
        pytest.raises(ZeroDivisionError),
        place(root) as here,
        running(spec, tmp_path / "logs", here, keep=True),
    ):
        raise ZeroDivisionError
    assert machines(tmp_path) == []
    assert list(root.iterdir()) == []


def test_relay_carries_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Path(argv.__file__).with_name("relay.py")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", relay, str(server.getsockname()[1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        connection, _ = server.accept()
        with connection:
            process.stdin.write(b"question")
            process.stdin.flush()
            assert connection.recv(100) == b"question"
            answer = os.urandom(1 << 20)
            connection.sendall(answer)
        assert process.stdout.read() == answer
        process.stdin.close()
        assert process.wait(10) == 0
