"""What the boot harness hands to qemu and to the guest, and how it ends what it started."""

from __future__ import annotations

import base64
import email
import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError, VerifyError
from imagebuild.host.run import need, run
from imagebuild.verify import boot


def read_back(iso: Path, name: str) -> bytes:
    """A file of the ISO by its Rock Ridge name."""
    return run([need("isoinfo", "genisoimage"), "-R", "-i", iso, "-x", name]).stdout


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    return boot.make_config_drive(tmp_path / "config.iso", "#!/bin/sh\n\xe9cho\n", boot.probe({}))


def test_config_drive_is_labelled_and_holds_novas_files(iso: Path) -> None:
    header = run([need("isoinfo", "genisoimage"), "-d", "-i", iso]).stdout.decode()
    assert "\nVolume id: config-2\n" in header
    names = run([need("isoinfo", "genisoimage"), "-R", "-f", "-i", iso]).stdout.decode().split()
    assert {n for n in names if "." in n or n.endswith("user_data")} == {
        "/openstack/latest/meta_data.json",
        "/openstack/latest/network_data.json",
        "/openstack/latest/user_data",
        "/openstack/latest/vendor_data.json",
    }


def test_user_data_stay_byte_for_byte(iso: Path) -> None:
    assert read_back(iso, "/openstack/latest/user_data") == "#!/bin/sh\n\xe9cho\n".encode()


def test_no_user_data_means_no_file(tmp_path: Path) -> None:
    iso = boot.make_config_drive(tmp_path / "config.iso", None, boot.probe({}))
    names = run([need("isoinfo", "genisoimage"), "-R", "-f", "-i", iso]).stdout.decode()
    assert "user_data" not in names
    assert "meta_data.json" in names
    assert [path.name for path in tmp_path.iterdir()] == ["config.iso"]


def test_network_data_describe_the_card_of_the_machine(iso: Path, tmp_path: Path) -> None:
    data = json.loads(read_back(iso, "/openstack/latest/network_data.json"))
    (link,) = data["links"]
    (network,) = data["networks"]
    assert network["link"] == link["id"]
    assert network["type"] == "ipv4_dhcp"
    argv = boot.qemu_argv(tmp_path, tmp_path / "d", iso, boot.Firmware.BIOS, 1024)
    assert any(link["ethernet_mac_address"] in argument for argument in argv)


def hook_of(vendor_data: str) -> str:
    """The boothook that cloud-init would run."""
    message = email.message_from_string(vendor_data)
    (part,) = [p for p in message.walk() if p.get_content_type() == "text/cloud-boothook"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


def test_vendor_data_carry_the_boothook(iso: Path) -> None:
    vendor = json.loads(read_back(iso, "/openstack/latest/vendor_data.json"))
    hook = hook_of(vendor["cloud-init"])
    assert hook.startswith("#cloud-boothook\n")
    assert "DefaultDependencies=no" in hook


def test_the_probe_runs_each_command_once_and_reports_in_order(tmp_path: Path) -> None:
    """The very shell that the guest runs, with the guest's paths and systemd replaced."""
    commands = {
        "z": "echo 'one \"quoted\"'; echo two >&2; exit 3",
        "a": "id -u",
        "b.c-d": "false",
    }
    port, state, fakes = tmp_path / "port", tmp_path / "probe", tmp_path / "bin"
    port.touch()
    (tmp_path / "result.json").write_text('{"v1": {"errors": []}}\n')
    fakes.mkdir()
    fake_systemctl = "#!/bin/sh\ncase $1 in is-system-running) echo running;; esac\n"
    for name, text in {
        "systemctl": fake_systemctl,
        "systemd-run": '#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\nexec "$@"\n',
    }.items():
        (fakes / name).write_text(text)
        (fakes / name).chmod(0o755)
    hook = hook_of(boot.probe(commands))
    # The probe travels in base64: unpack it, move its paths, pack it again.
    for line in hook.splitlines():
        if line.startswith("echo ") and line.endswith(">$dir/probe"):
            packed = line.split()[1]
            script = base64.b64decode(packed).decode()
    moved = (
        script.replace("/dev/virtio-ports/" + boot.PORT, str(port))
        .replace("/run/imagebuild-probe", str(state))
        .replace("/run/cloud-init/result.json", str(tmp_path / "result.json"))
    )
    hook = hook.replace("/run/imagebuild-probe", str(state)).replace(
        packed, base64.b64encode(moved.encode()).decode()
    )
    env = {"PATH": f"{fakes}:/usr/sbin:/usr/bin:/sbin:/bin"}
    for _ in range(2):  # cloud-init may run a boothook more than once in a boot
        run([need("sh", "dash"), "-c", hook], env=env)
    answers = [json.loads(line) for line in port.read_text().splitlines()]
    assert [a["name"] for a in answers] == [
        ":probe", ":cloud_init_done", ":settled", ":failed", "z", "a", "b.c-d", ":end",
    ]  # fmt: skip
    told = {a["name"]: (a["rc"], base64.b64decode(a["out"]).decode()) for a in answers}
    assert told["z"] == (3, 'one "quoted"\ntwo\n')
    assert told["a"][0] == 0
    assert told["b.c-d"] == (1, "")
    assert told[":settled"] == (0, "running\n")
    assert json.loads(told[":cloud_init_done"][1]) == {"v1": {"errors": []}}


@pytest.mark.parametrize("name", ["", "a b", "../x", ":end", "a/b", "-x"])
def test_names_that_could_break_the_protocol_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        boot.probe({name: "true"})


def test_machine_looks_like_novas_and_reaches_nothing(tmp_path: Path) -> None:
    argv = boot.qemu_argv(
        tmp_path, tmp_path / "disk.qcow2", tmp_path / "c.iso", boot.Firmware.BIOS, 1536
    )
    assert argv[1:3] == ["--pdeathsig", "KILL"]
    options = list(itertools.pairwise(argv))
    (smbios,) = [value for flag, value in options if flag == "-smbios"]
    assert "manufacturer=OpenStack Foundation,product=OpenStack Nova" in smbios
    (netdev,) = [value for flag, value in options if flag == "-netdev"]
    assert "restrict=on" in netdev
    assert "hostfwd" not in netdev
    assert ("-m", "1536") in options
    drives = [value for flag, value in options if flag == "-drive"]
    assert [("readonly=on" in drive, "if=virtio" in drive) for drive in drives] == [
        (False, True),
        (True, True),
    ]
    assert "pflash" not in " ".join(argv)


def test_uefi_gets_its_own_copy_of_the_variables(tmp_path: Path) -> None:
    code, variables = boot.find_ovmf()
    before = hashlib.sha256(variables.read_bytes()).hexdigest()
    argv = boot.qemu_argv(tmp_path, tmp_path / "d", tmp_path / "c", boot.Firmware.UEFI, 1024)
    flash = [argument for argument in argv if "if=pflash" in argument]
    assert f"readonly=on,file={code}" in flash[0]
    assert flash[1].endswith(f"file={tmp_path / 'vars.fd'}")
    assert hashlib.sha256((tmp_path / "vars.fd").read_bytes()).hexdigest() == before


def test_missing_firmware_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        boot.find_ovmf(tmp_path)
    assert "ovmf" in caught.value.hint


@pytest.fixture
def empty_image(tmp_path: Path) -> Path:
    """A disk without a boot loader: the firmware finds nothing and waits for ever."""
    image = tmp_path / "empty.qcow2"
    run([need("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2", image, "1M"])
    return image


def machines(workdir: Path) -> list[int]:
    """Ids of the qemu processes that have a file below `workdir`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if b"qemu-system" in words[0] and str(workdir).encode() in b" ".join(words):
            found.append(int(folder.name))
    return found


def becomes(count: int, workdir: Path) -> bool:
    """Whether there are `count` machines within some seconds."""
    deadline = time.monotonic() + 20
    while len(machines(workdir)) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_the_machine_dies_with_a_killed_test(empty_image: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    code = (
        "import sys; from pathlib import Path; from imagebuild.verify.boot import boot;"
        "boot(Path(sys.argv[1]), Path(sys.argv[2]), firmware='bios', disk_size='2M',"
        " memory_mib=256)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code, empty_image, work], cwd=root) as victim:
        started = becomes(1, work)
        victim.kill()
    assert started
    assert becomes(0, work)


def test_a_late_guest_is_ended_and_its_disk_removed(empty_image: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(empty_image.read_bytes()).hexdigest()
    work = tmp_path / "work"
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="no console after"):
        boot.boot(empty_image, work, firmware="bios", disk_size="2M", timeout=8, memory_mib=256)
    assert 1.5 < time.monotonic() - begun < 30
    assert machines(work) == []
    (run_dir,) = work.iterdir()
    assert not {"disk.qcow2", "config.iso", "vars.fd"} & {p.name for p in run_dir.iterdir()}
    assert hashlib.sha256(empty_image.read_bytes()).hexdigest() == digest


def test_a_machine_that_cannot_start_says_why(
    empty_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEBUILD_ACCEL", "no-such-accelerator")
    with pytest.raises(VerifyError) as caught:
        boot.boot(empty_image, tmp_path / "work", firmware="bios", disk_size="2M", timeout=60)
    assert "no-such-accelerator" in caught.value.detail


def test_late_console_is_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"".join(b"\x1b[0mline %d\r\n" % n for n in range(100)))
    (tmp_path / "probe.jsonl").touch()
    with subprocess.Popen(["sleep", "60"]) as machine:
        watch = boot._Watch(machine, tmp_path, timeout=2)
        try:
            with pytest.raises(TimeoutError) as caught:
                watch.follow()
        finally:
            machine.kill()
    text = str(caught.value)
    assert "no probe after" in text
    assert text.splitlines()[-1] == "line 99"
    assert "line 40" in text
    assert "line 39\n" not in text


def test_kernel_panic_ends_the_wait(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"[ 1.0] Kernel panic - not syncing: VFS\n")
    with subprocess.Popen(["sleep", "60"]) as machine:
        try:
            with pytest.raises(VerifyError, match="panicked"):
                boot._Watch(machine, tmp_path, timeout=600).follow()
        finally:
            machine.kill()


def test_guest_reaches_the_forwarded_ports_and_nothing_else(tmp_path: Path) -> None:
    argv = boot.qemu_argv(
        tmp_path, tmp_path / "d", tmp_path / "i", boot.Firmware.BIOS, 1024, {"10.0.2.100:5000": 77}
    )
    network = argv[argv.index("-netdev") + 1]
    relay = Path(boot.__file__).with_name("relay.py")
    assert network == (
        f"user,id=n0,restrict=on,guestfwd=tcp:10.0.2.100:5000-cmd:{sys.executable} -I {relay} 77"
    )


def test_relay_carries_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Path(boot.__file__).with_name("relay.py")
        process = subprocess.Popen(
            [sys.executable, "-I", relay, str(server.getsockname()[1])],
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
