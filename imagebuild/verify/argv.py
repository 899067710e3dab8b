"""The command line of qemu: everything that a machine is, in one place."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import need
from imagebuild.verify.firmware import Firmware, find_uefi
from imagebuild.verify.nic import METADATA_ADDRESS, Nic
from imagebuild.verify.spec import MachineSpec

#: Names of the virtio-serial ports: the probe's answers, and the root shell.
PROBE_PORT = "org.imagebuild.verify"
SHELL_PORT = "org.imagebuild.shell"

#: File names below the directory of logs.
CONSOLE, PROBE, METADATA_LOG, QEMU_LOG = "console.log", "probe.jsonl", "metadata.log", "qemu.log"
#: File names below the scratch directory, which is qemu's working directory: the path of a
#: socket may have 107 bytes only.
OVERLAY, VARIABLES, SHELL_SOCKET, QMP_SOCKET = "disk.qcow2", "vars.fd", "shell", "qmp"

#: As Nova's libvirt driver writes it (nova/virt/libvirt/driver.py, _get_guest_config_sysinfo).
_SMBIOS = (
    "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=31.0.0,"
    "family=Virtual Machine"
)
#: Debian's architecture -> program, package.
PROGRAMS = {
    "amd64": ("qemu-system-x86_64", "qemu-system-x86"),
    "arm64": ("qemu-system-aarch64", "qemu-system-arm"),
}
#: Architecture, firmware -> machine. `pc` is Nova's own choice for x86_64 as long as nobody
#: sets hw_machine_type; where UEFI is set, q35 mostly is, too.
_MACHINES = {
    ("amd64", Firmware.BIOS): "pc",
    ("amd64", Firmware.UEFI): "q35",
    ("arm64", Firmware.UEFI): "virt",
}


def qemu_argv(spec: MachineSpec, logs: Path, scratch: Path) -> list[str]:
    """The whole command, to be run in `scratch`, where the overlay is already.

    Copies the firmware's variables into `scratch`. Raises PreflightError for what the host
    does not have.
    """
    machine = _MACHINES.get((spec.arch, spec.firmware))
    if machine is None:
        raise PreflightError(f"a machine of {spec.arch} has no BIOS", hint="--firmware uefi")
    argv = [
        need(*PROGRAMS[spec.arch]),
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-M", machine, *spec.accelerator.options,
        "-m", str(spec.memory_mib), "-smp", str(spec.cpus),
        "-display", "none", "-monitor", "none",
        "-serial", f"file:{_value(logs / CONSOLE)}",
        "-qmp", f"unix:{QMP_SOCKET},server=on,wait=off",
        "-smbios", _SMBIOS,
        *_processor(spec), *_firmware(spec, scratch), *_disks(spec, machine),
        *_channels(spec, logs),
        "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for number, nic in enumerate(spec.nics):
        argv += ["-netdev", f"user,id=n{number}," + _network(spec, nic, logs)]
        argv += ["-device", f"virtio-net-pci,netdev=n{number},mac={nic.mac},romfile="]
    return [*argv, *spec.options]


def _processor(spec: MachineSpec) -> list[str]:
    if spec.arch == "amd64":
        return ["-vga", "std"]
    return ["-cpu", "cortex-a72"] if spec.accelerator.is_emulated else []


def _firmware(spec: MachineSpec, scratch: Path) -> list[str]:
    if spec.firmware is Firmware.BIOS:
        return []
    code, variables = find_uefi(spec.arch)
    shutil.copyfile(variables, scratch / VARIABLES)
    return [
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(code)}",
        "-drive", f"if=pflash,unit=1,format=raw,file={VARIABLES}",
    ]  # fmt: skip


def _disks(spec: MachineSpec, machine: str) -> list[str]:
    """The root disk is vda, the volumes follow: Trove counts on it.

    The ConfigDrive is a CD-ROM, as Nova makes it (nova/virt/libvirt/blockinfo.py), where the
    machine has an IDE controller. Elsewhere it is the last disk, as with
    config_drive_format=vfat: Nova's would be on SATA or SCSI, for which the kernels of the
    cloud images have no driver.

    All of it is thrown away, so nothing need ever reach the disk; the volumes are the
    caller's, and a crash of the host is not what is tried here.
    """
    drives = [f"file={OVERLAY},if=virtio,format=qcow2,cache=unsafe,discard=unmap"]
    drives += [
        f"file={_value(v.resolve())},if=virtio,format=raw,cache=unsafe,discard=unmap"
        for v in spec.volumes
    ]
    if spec.config_drive:
        iso = _value(spec.config_drive.resolve())
        bus = "ide,media=cdrom" if machine == "pc" else "virtio"
        drives.append(f"file={iso},if={bus},format=raw,readonly=on")
    return [word for drive in drives for word in ("-drive", drive)]


def _channels(spec: MachineSpec, logs: Path) -> list[str]:
    argv = [
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=probe,path={_value(logs / PROBE)}",
        "-device", f"virtserialport,chardev=probe,name={PROBE_PORT}",
    ]  # fmt: skip
    if spec.shell:
        argv += [
            "-chardev", f"socket,id=shell,path={SHELL_SOCKET},server=on,wait=off",
            "-device", f"virtserialport,chardev=shell,name={SHELL_PORT}",
        ]  # fmt: skip
    return argv


def _network(spec: MachineSpec, nic: Nic, logs: Path) -> str:
    """Options of qemu's user network: what the guest reaches there, and nothing else.

    A program for each connection: qemu's own `guestfwd=...-tcp:` makes one connection in all.
    """
    net = nic.network
    options = [
        f"net={net.cidr}", f"host={net.gateway}", f"dns={net.resolver}",
        f"dhcpstart={net.guest}", "restrict=on",
    ]  # fmt: skip
    for address, port in spec.forwards.items():
        if net.has(address.rpartition(":")[0]):
            options.append(f"guestfwd=tcp:{address}-cmd:{_script('relay.py', str(port))}")
    if spec.metadata:
        server = _script("metadata_server.py", str(spec.metadata), str(logs / METADATA_LOG))
        options.append(f"guestfwd=tcp:{METADATA_ADDRESS}:80-cmd:{server}")
    for forward in spec.host_forwards:
        if spec.nics[forward.nic] is nic:
            host = f"127.0.0.1:{forward.host_port}"
            options.append(f"hostfwd=tcp:{host}-{net.guest}:{forward.guest_port}")
    return ",".join(options)


def _script(name: str, *words: str) -> str:
    """A command that qemu splits as a shell would, then runs without one."""
    script = Path(__file__).with_name(name)
    return _value(shlex.join([sys.executable, "-I", "-S", str(script), *words]))


def _value(value: object) -> str:
    """As the value of an option: a comma ends one unless it is doubled."""
    return str(value).replace(",", ",,")
