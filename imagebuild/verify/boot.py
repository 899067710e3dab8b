"""Boot an image under qemu the way Nova would, and ask the guest questions.

The machine is Nova's in what an image can see: virtio devices, OpenStack's SMBIOS
strings (cloud-init's ds-identify turns itself off without them), a ConfigDrive, DHCP on
one network card. It reaches no network. The probe that runs the questions travels in the
vendor data, so the user data are the caller's, and answers through a virtio-serial port,
so neither network nor login is needed.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

from imagebuild.errors import PreflightError, VerifyError
from imagebuild.host.run import need, run, spawn

PORT = "org.imagebuild.verify"
MAC = "fa:16:3e:00:00:01"
#: Parts of the whole timeout by which the guest must have printed, started the probe, …
PATIENCE = {"console": 0.25, "probe": 0.7, "cloud_init_done": 0.9, "end": 1.0}
#: Seconds that one command, and the wait for a settled system, may take in the guest.
COMMAND_SECONDS = 180
SETTLE_SECONDS = 300

_OVMF = (
    ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("OVMF_CODE.fd", "OVMF_VARS.fd"),
)
_SMBIOS = "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=31.0.0"
_CONSOLE_MARKS = {
    "kernel": re.compile(r"Linux version \d"),
    "login": re.compile(r"login: ?$", re.M),
}
_ESCAPE = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1bc|\r")

_PROBE = """\
port=/dev/virtio-ports/{port}
dir=/run/imagebuild-probe
n=0
while [ ! -e $port ] && [ $n -lt 300 ]; do sleep 1; n=$((n + 1)); done
exec 3>$port
say() {{
  printf '{{"name":"%s","rc":%s,"out":"%s"}}\\n' "$1" "$2" "$(base64 -w0 <$dir/out)" >&3
}}
uname -r >$dir/out; say :probe 0
until [ -e /run/cloud-init/result.json ]; do sleep 1; done
cat /run/cloud-init/result.json >$dir/out; say :cloud_init_done 0
timeout {settle} systemctl is-system-running --wait >$dir/out 2>&1; say :settled $?
systemctl list-units --failed --plain --no-legend >$dir/out 2>&1; say :failed $?
for file in $dir/command-*; do
  [ -e "$file" ] || continue
  timeout -k 5 {limit} sh "$file" </dev/null >$dir/out 2>&1
  say "${{file#*/command-???-}}" $?
done
: >$dir/out; say :end 0
"""


class Firmware(str, enum.Enum):
    """What starts the machine before the bootloader."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True)
class CommandResult:
    """What one command did in the guest; `out` holds both streams."""

    rc: int
    out: str


@dataclass(frozen=True)
class BootResult:
    """What a boot showed.

    `seconds` since qemu's start: kernel, login (both only when the console says so),
    probe, cloud_init_done, settled, end. `facts`: `kernel` (release), `cloud_init`
    (its result.json), `system` (`systemctl is-system-running`), `failed` (unit names).
    """

    seconds: dict[str, float]
    console: str
    facts: dict[str, Any]
    commands: dict[str, CommandResult]

    def out(self, name: str) -> str:
        """Output of a command, stripped. Raises VerifyError when it failed."""
        result = self.commands[name]
        if result.rc != 0:
            raise VerifyError(f"{name} ended with status {result.rc}", detail=result.out)
        return result.out.strip()


def boot(
    image: Path,
    workdir: Path,
    *,
    firmware: Firmware | str,
    fmt: str = "qcow2",
    disk_size: str = "10G",
    user_data: str | None = None,
    commands: Mapping[str, str] | None = None,
    timeout: float = 900,
    memory_mib: int = 2048,
    forwards: Mapping[str, int] | None = None,
) -> BootResult:
    """Boot an overlay of `image`, run shell `commands` as root in the guest, end it.

    The commands (name → text for sh) run one after the other, in the order given, when
    cloud-init is done and the system has settled. The guest reaches nothing but
    `forwards`: addresses in its network (`10.0.2.100:5000`; not .2 and .3) that stand for
    ports on the host's loopback. The image is only read. `console.log`
    and `probe.jsonl` stay in a new directory below `workdir`. Raises TimeoutError with the
    end of the console when the guest is late (`timeout` in seconds, see `PATIENCE`),
    VerifyError when the machine or its kernel dies.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    here = Path(tempfile.mkdtemp(prefix=f"boot-{Firmware(firmware).value}-", dir=workdir))
    try:
        overlay = make_overlay(image, here / "disk.qcow2", fmt=fmt, size=disk_size)
        iso = make_config_drive(here / "config.iso", user_data, probe(commands or {}))
        argv = qemu_argv(here, overlay, iso, Firmware(firmware), memory_mib, forwards)
        with _machine(argv, here / "qemu.log") as machine:
            return _Watch(machine, here, timeout).follow()
    finally:
        for name in ("disk.qcow2", "config.iso", "vars.fd"):
            (here / name).unlink(missing_ok=True)


def make_overlay(image: Path, overlay: Path, *, fmt: str, size: str) -> Path:
    """A new qcow2 file over `image`, which stays as it is; `size` as for qemu-img."""
    run(
        [need("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2",
         "-b", image.resolve(), "-F", fmt, overlay, size]
    )  # fmt: skip
    return overlay


def probe(commands: Mapping[str, str]) -> str:
    """Vendor data (MIME multi-part) that start the probe as early as cloud-init can."""
    files = {"probe": _PROBE.format(port=PORT, settle=SETTLE_SECONDS, limit=COMMAND_SECONDS)}
    for index, (name, text) in enumerate(commands.items()):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"not a name for a command: {name!r}")
        files[f"command-{index:03}-{name}"] = text
    writes = "".join(
        f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >$dir/{name}\n"
        for name, text in files.items()
    )
    # A boothook runs on every pass over the vendor data: only the first one counts.
    # Without DefaultDependencies=no the unit would wait for the boot that it watches;
    # /run is mounted noexec, hence `sh FILE`.
    unit = "systemd-run --no-block --unit=imagebuild-probe -p DefaultDependencies=no"
    hook = (
        "#cloud-boothook\n#!/bin/sh\ndir=/run/imagebuild-probe\n"
        "mkdir $dir 2>/dev/null || exit 0\nchmod 700 $dir\n"
        f"{writes}{unit} sh $dir/probe\n"
    )
    parts = MIMEMultipart(boundary="==imagebuild-probe==")
    parts.attach(MIMEText(hook, "cloud-boothook", "utf-8"))
    return parts.as_string()


def make_config_drive(iso: Path, user_data: str | None, vendor_data: str) -> Path:
    """A ConfigDrive as Nova writes it: ISO 9660 with Joliet and Rock Ridge, label config-2."""
    files = {
        "meta_data.json": json.dumps(
            {
                "uuid": "c0ffee00-0000-4000-8000-000000000001",
                "name": "imagebuild-test",
                "hostname": "imagebuild-test.novalocal",
                "availability_zone": "nova",
                "launch_index": 0,
                "devices": [],
                "project_id": "0" * 32,
                "random_seed": base64.b64encode(os.urandom(512)).decode(),
            }
        ),
        "network_data.json": json.dumps(
            {
                "links": [
                    {"id": "tap0", "type": "ovs", "vif_id": "vif0",
                     "ethernet_mac_address": MAC, "mtu": 1500}
                ],
                "networks": [
                    {"id": "network0", "type": "ipv4_dhcp", "link": "tap0", "network_id": "n0"}
                ],
                "services": [],
            }
        ),
        "vendor_data.json": json.dumps({"cloud-init": vendor_data}),
    }  # fmt: skip
    if user_data is not None:
        files["user_data"] = user_data
    with tempfile.TemporaryDirectory(dir=iso.parent) as tree:
        latest = Path(tree, "openstack/latest")
        latest.mkdir(parents=True)
        for name, text in files.items():
            (latest / name).write_text(text)
        options = ["-quiet", "-J", "-r", "-V", "config-2", "-o", str(iso), tree]
        try:
            run([need("genisoimage"), *options])
        except PreflightError:
            run([need("xorriso"), "-as", "mkisofs", *options])
    return iso


def qemu_argv(
    here: Path,
    overlay: Path,
    iso: Path,
    firmware: Firmware,
    memory_mib: int,
    forwards: Mapping[str, int] | None = None,
) -> list[str]:
    """The whole command; console to `here/console.log`, answers to `here/probe.jsonl`.

    Emulated (TCG) unless IMAGEBUILD_ACCEL says otherwise, because a /dev/kvm that opens
    may still crawl. The machine dies with the thread that starts it, whatever kills that.
    """
    accel = os.environ.get("IMAGEBUILD_ACCEL") or "tcg,thread=multi"
    argv = [
        need("setpriv", "util-linux"), "--pdeathsig", "KILL",
        need("qemu-system-x86_64", "qemu-system-x86"),
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-M", "q35", "-accel", accel, "-m", str(memory_mib), "-smp", "2",
        "-display", "none", "-vga", "std", "-monitor", "none",
        "-serial", f"file:{here / 'console.log'}",
        "-smbios", _SMBIOS,
        # The overlay is thrown away, so nothing need ever reach the disk.
        "-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe,discard=unmap",
        "-drive", f"file={iso},if=virtio,format=raw,readonly=on",
        "-netdev", "user,id=n0,restrict=on" + _forwarding(forwards or {}),
        "-device", f"virtio-net-pci,netdev=n0,mac={MAC},romfile=",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=probe,path={here / 'probe.jsonl'}",
        "-device", f"virtserialport,chardev=probe,name={PORT}",
    ]  # fmt: skip
    if firmware is Firmware.UEFI:
        code, variables = find_ovmf()
        shutil.copyfile(variables, here / "vars.fd")
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={here / 'vars.fd'}"]
    return argv


def _forwarding(forwards: Mapping[str, int]) -> str:
    """Options of qemu's user network: a relay of its own for each connection."""
    relay = Path(__file__).with_name("relay.py")
    # A comma ends an option unless it is doubled.
    command = f"{sys.executable} -I {relay}".replace(",", ",,")
    return "".join(
        f",guestfwd=tcp:{address}-cmd:{command} {port}" for address, port in forwards.items()
    )


def find_ovmf(folder: Path = Path("/usr/share/OVMF")) -> tuple[Path, Path]:
    """UEFI firmware without Secure Boot: code and template of the variables."""
    for code, variables in _OVMF:
        if (folder / code).exists() and (folder / variables).exists():
            return folder / code, folder / variables
    raise PreflightError(
        "there is no UEFI firmware for qemu", where=str(folder), hint="apt-get install ovmf"
    )


@contextlib.contextmanager
def _machine(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running qemu, ended (SIGTERM, then SIGKILL) however the block is left."""
    with log.open("wb") as output:
        machine = spawn(argv, stdout=output, stderr=output, new_session=True)
    try:
        yield machine
    finally:
        machine.send_signal(signal.SIGTERM)
        try:
            machine.wait(10)
        except subprocess.TimeoutExpired:
            machine.kill()
            machine.wait()


@dataclass
class _Watch:
    """Follows console and answers of one machine until the probe has ended."""

    machine: subprocess.Popen[bytes]
    here: Path
    timeout: float
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    answers: dict[str, CommandResult] = field(default_factory=dict)

    def follow(self) -> BootResult:
        while ":end" not in self.answers:
            time.sleep(0.5)
            self._look()
            self._check()
        # getty is started by then, but its prompt may still be on its way.
        grace = self._elapsed() + 15
        while "login" not in self.seconds and self._elapsed() < grace:
            time.sleep(0.5)
            self._look()
        return self._result()

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def console(self) -> str:
        path = self.here / "console.log"
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        return _ESCAPE.sub("", text)

    def _look(self) -> None:
        now = round(self._elapsed(), 1)
        console = self.console()
        if console:
            self.seconds.setdefault("console", now)
        for name, mark in _CONSOLE_MARKS.items():
            if name not in self.seconds and mark.search(console):
                self.seconds[name] = now
        answers = self.here / "probe.jsonl"
        lines = answers.read_bytes().split(b"\n")[:-1] if answers.exists() else []
        for line in lines[len(self.answers) :]:
            answer = json.loads(line)
            out = base64.b64decode(answer["out"]).decode(errors="replace")
            self.answers[answer["name"]] = CommandResult(answer["rc"], out)
            if answer["name"].startswith(":"):
                self.seconds[answer["name"][1:]] = now

    def _check(self) -> None:
        console = self.console()
        if self.machine.poll() is not None:
            why = (self.here / "qemu.log").read_text(errors="replace")
            raise VerifyError(
                f"the machine ended by itself with status {self.machine.returncode}",
                where=str(self.here),
                detail=f"{why}\n{self._tail(console)}".strip(),
            )
        if "Kernel panic - not syncing" in console:
            raise VerifyError(
                "the guest's kernel panicked", where=str(self.here), detail=self._tail(console)
            )
        # A guest that answers is alive, even if its console is silent.
        reached = list(PATIENCE)
        late = [
            name
            for i, name in enumerate(reached)
            if self._elapsed() > PATIENCE[name] * self.timeout
            and not any(later in self.seconds for later in reached[i:])
        ]
        if late:
            raise TimeoutError(
                f"no {late[0]} after {self._elapsed():.0f} s (limit for all:"
                f" {self.timeout:.0f} s); seen: {self.seconds}; logs: {self.here}\n"
                f"{self._tail(console)}"
            )

    @staticmethod
    def _tail(console: str) -> str:
        return "\n".join(console.splitlines()[-60:])

    def _result(self) -> BootResult:
        facts = {
            "kernel": self.answers[":probe"].out.strip(),
            "cloud_init": json.loads(self.answers[":cloud_init_done"].out),
            "system": self.answers[":settled"].out.strip(),
            "failed": [line.split()[0] for line in self.answers[":failed"].out.splitlines()],
        }
        commands = {n: r for n, r in self.answers.items() if not n.startswith(":")}
        return BootResult(self.seconds, self.console(), facts, commands)
