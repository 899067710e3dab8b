"""A guest of a few small files with which every question about files is content."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagebuild.verify.layout import read_layout
from imagebuild.verify.results import Check
from imagebuild.verify.static.level import NOTHING_MORE, OF_TREE
from imagebuild.verify.static.question import answer
from imagebuild.verify.static.subject import Options, Subject
from imagebuild.verify.tree import Tree
from tests.unit.disk_image import File, directory, make_disk, text

ELF = b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + (62).to_bytes(2, "little")
KERNEL = b"\0" * 0x202 + b"HdrS".ljust(64, b"\0")
VERSION = "6.1.0-1-cloud-amd64"
VENV = "/opt/guest-agent-venv"
SITE = f"{VENV}/lib/python3.11/site-packages"
UNITS = "/usr/lib/systemd/system"
WANTS = "/etc/systemd/system/multi-user.target.wants"
CLOUD = "/etc/cloud/cloud.cfg.d"
CONTENT = {
    "arch": "amd64", "guest_username": "ubuntu", "python": "3.11", "mode": "inject",
    "datasources": ["ConfigDrive", "OpenStack"], "agent": {"version": "25.0.0"},
    "packages": {"bash": "5.2"}, "containers": [],
}  # fmt: skip
AGENT_UNIT = "[Service]\nUser=ubuntu\nExecStart=/usr/local/bin/guest-agent --config-dir=/etc\n"
GRUB = f"""menuentry 'Linux' {{
    linux /boot/vmlinuz-{VERSION} root=LABEL=small-root ro console=ttyS0
    initrd /boot/initrd.img-{VERSION}
}}
"""


def cpio(names: Iterable[str]) -> bytes:
    """An archive of empty files, as the kernel reads it."""
    data = b""
    for name in [*names, "TRAILER!!!"]:
        raw = name.encode() + b"\0"
        fields = [0] * 13
        fields[11] = len(raw)
        head = b"070701" + b"".join(b"%08x" % f for f in fields)
        data += (head + raw).ljust(len(head + raw) + 3 & ~3, b"\0")
    return data


MODULES = [f"usr/lib/modules/{VERSION}/kernel/{m}.ko.xz" for m in
           ("drivers/virtio/virtio_pci", "drivers/block/virtio_blk", "fs/ext4/ext4")]  # fmt: skip
INITRAMFS = cpio(["kernel/x86/microcode.bin"]) + bytes(8) + gzip.compress(cpio(MODULES))


def distribution(
    name: str, version: str, *requires: str, files: Iterable[str] = ()
) -> dict[str, File]:
    """An installed Python distribution."""
    info = f"{SITE}/{name}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {r}\n" for r in requires)
    record = "".join(f"{f},,\n" for f in [*files, f"{name}-{version}.dist-info/METADATA"])
    return {
        f"{info}/METADATA": text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}"
        ),
        f"{info}/RECORD": text(record),
        **{f"{SITE}/{f}": text("") for f in files},
    }


def _units() -> dict[str, File]:
    found = {}
    for name in ("docker", "containerd", "ssh", "chrony", "networking", "cloud-init-local",
                 "cloud-init", "cloud-config", "cloud-final"):  # fmt: skip
        found[f"{UNITS}/{name}.service"] = text("[Service]\n")
        found[f"{WANTS}/{name}.service"] = File(link=f"{UNITS}/{name}.service")
    found["/etc/systemd/system/guest-agent.service"] = text(AGENT_UNIT)
    found[f"{WANTS}/guest-agent.service"] = File(link="/etc/systemd/system/guest-agent.service")
    return found


def good() -> dict[str, File]:
    """Its files."""
    return {
        "/sbin/init": File(ELF, 0o755),
        f"/boot/vmlinuz-{VERSION}": File(KERNEL),
        f"/boot/initrd.img-{VERSION}": File(INITRAMFS),
        f"/lib/modules/{VERSION}/modules.dep": text(""),
        "/boot/grub/grub.cfg": text(GRUB),
        "/etc/fstab": text("# comment\nLABEL=small-root / ext4 defaults 0 1\n"),
        "/etc/passwd": text("root:x:0:0::/root:/bin/bash\nubuntu:x:1000:1000::/home/u:/bin/bash\n"),
        "/etc/shadow": text("root:*:1:0:9:7:::\nubuntu:!:1:0:9:7:::\n", 0o640),
        "/etc/group": text("root:x:0:\ndocker:x:109:ubuntu\nubuntu:x:1000:\n"),
        "/etc/sudoers.d/guest": text("ubuntu ALL=(ALL) NOPASSWD:ALL\n", 0o440),
        "/usr/bin/cloud-init": File(b"#!", 0o755),
        "/etc/cloud/cloud.cfg": text(
            "users: [default]\nsystem_info: {default_user: {name: debian}}\n"),
        f"{CLOUD}/90_dpkg.cfg": text("datasource_list: [ Ec2 ]\n"),
        f"{CLOUD}/95-own.cfg": text("datasource_list: [ ConfigDrive, OpenStack ]\n"
                                    "system_info: {default_user: {name: ubuntu}}\n"),
        "/etc/network/interfaces": text("auto lo\niface lo inet loopback\nsource interfaces.d/*\n"),
        "/usr/bin/python3.11": File(ELF, 0o755),
        "/usr/lib/python3.11/os.py": text(""),
        f"{VENV}/pyvenv.cfg": text("version = 3.11.2\n"),
        f"{VENV}/bin/python": File(link="python3"),
        f"{VENV}/bin/python3": File(link="/usr/bin/python3.11"),
        f"{VENV}/bin/trove-guestagent": text(f"#!{VENV}/bin/python\n", 0o755),
        "/usr/local/bin/guest-agent": File(link=f"{VENV}/bin/trove-guestagent"),
        **distribution("trove", "25.0.0", "Six>=1", "tomli; python_version < '3.11'",
                       "extra; extra == 'more'", files=["trove/__init__.py"]),
        **distribution("six", "1.17", files=["six.py"]),
        "/var/lib/dpkg/status": text("Package: bash\nStatus: install ok installed\nVersion: 5.2\n\n"
                                     "Package: gone\nStatus: deinstall ok config-files\n"),
        "/etc/imagebuild/content.json": text(json.dumps(CONTENT)),
        "/tmp": directory(0o1777),
        **_units(),
    }  # fmt: skip


def guest(
    work: Path, changes: Mapping[str, File | None] | None = None, options: Options = NOTHING_MORE
) -> Subject:
    """The guest with other files; None removes one. Its root has the label small-root."""
    files = good() | dict(changes or {})
    kept = {p: f for p, f in files.items() if f is not None}
    raw = make_disk(work, kept, commands=["set_super_value volume_name small-root"])
    layout = read_layout(raw)
    return Subject(raw, work, options, raw_disk=raw, open_layout=layout,
                   open_tree=Tree(raw, layout.partitions, layout.root))  # fmt: skip


def asked(subject: Subject, prefix: str) -> list[Check]:
    """The answers to the questions whose name begins so."""
    found = [answer(q, subject) for q in OF_TREE if q.name.startswith(prefix)]
    assert found, f"no question is called {prefix}"
    return found
