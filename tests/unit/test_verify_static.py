"""The questions to the files of an image, each against a small guest that lacks one thing."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import json
import lzma
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.errors import ConfigError, UsageError
from imagebuild.host.run import run
from imagebuild.manifest import ArtifactView
from imagebuild.verify.causes import cause, known_causes
from imagebuild.verify.checks.base import Expected
from imagebuild.verify.results import Outcome
from imagebuild.verify.static import NAMES, Options, check_static, initramfs
from imagebuild.verify.static.kernel import kernel_machine, version_of
from imagebuild.verify.static.level import OF_TREE
from imagebuild.verify.static.question import MOST_EVIDENCE, Problem, Question, answer
from imagebuild.verify.static.safety import expected
from imagebuild.verify.static.units import settings as unit_settings
from tests.unit.disk_image import File, text
from tests.unit.small_guest import (
    CLOUD,
    CONTENT,
    GRUB,
    INITRAMFS,
    MODULES,
    SITE,
    UNITS,
    VENV,
    VERSION,
    WANTS,
    asked,
    cpio,
    distribution,
    good,
    guest,
)

Changes = dict[str, File | None]
PACKAGE = Path(__file__).resolve().parents[2] / "imagebuild/verify/static"
#: Questions that a disk of one partition and a guest without sshd and clean-up cannot please.
OF_WHOLE_DISKS = ("static/bootloader/bios", "static/bootloader/uefi", "static/safety/")


def test_small_guest_is_well(tmp_path: Path) -> None:
    subject = guest(tmp_path)
    checks = [answer(q, subject) for q in OF_TREE if not q.name.startswith(OF_WHOLE_DISKS)]
    wrong = [c for c in checks if c.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    assert [(c.name, c.what) for c in wrong] == [
        ("static/filesystem/room", "the root filesystem is full")
    ]
    assert len(checks) > 30


def stanza(card: str) -> File:
    return text(f"auto {card}\niface {card} inet dhcp\n")


ARM_INIT = b"\x7fELF\x02\x01".ljust(18, b"\0") + (183).to_bytes(2, "little")
ARM_KERNEL = b"MZ".ljust(0x38, b"\0") + b"ARM\x64".ljust(700, b"\0")
ROOT_LINE = "root:x:0:0::/root:/bin/sh\n"
BASH = "Package: bash\nStatus: install ok %s\nVersion: %s\n"
NETPLAN = "network: {ethernets: {a: {dhcp4: true}, b: {dhcp4: true%s}}}\n"
AGENT_SERVICE = "/etc/systemd/system/guest-agent.service"
SIX: Changes = dict.fromkeys(distribution("six", "1.17", files=["six.py"]))
TROVE: Changes = dict.fromkeys(distribution("trove", "25.0.0", files=["trove/__init__.py"]))
CASES: dict[str, tuple[Changes, str, str]] = {
    "section-unknown": (
        {"/etc/trove/conf.d/5.conf": text("[postgres]\ndocker_image = r.example/pg\n")},
        "static/agent/config",
        "agent-section-unknown",
    ),
    "fstab: other uuid": (
        {"/etc/fstab": text("UUID=6c8a2b38-0000-4000-8000-000000000000 / ext4 defaults 0 1\n")},
        "static/fstab",
        "root-label-wrong",
    ),
    "fstab: swap that is not there": (
        {"/etc/fstab": text("LABEL=small-root / ext4 defaults\n/swapfile none swap sw 0 0\n")},
        "static/fstab",
        "fstab-device-missing",
    ),
    "fstab: second disk": (
        {"/etc/fstab": text("LABEL=small-root / ext4 defaults\n/dev/vdb /srv ext4 defaults 0 0\n")},
        "static/fstab",
        "fstab-device-missing",
    ),
    "grub: other uuid": (
        {"/boot/grub/grub.cfg": text(GRUB.replace("small-root", "other"))},
        "static/bootloader/config",
        "root-label-wrong",
    ),
    "grub: no configuration": (
        {"/boot/grub/grub.cfg": None},
        "static/bootloader/config",
        "no-bootloader",
    ),
    "grub: no kernel": (
        {f"/boot/vmlinuz-{VERSION}": None},
        "static/bootloader/config",
        "kernel-missing",
    ),
    "kernel: no modules": (
        {f"/lib/modules/{VERSION}/modules.dep": None, "/lib/modules/5.10/modules.dep": text("")},
        "static/kernel/modules",
        "kernel-modules-missing",
    ),
    "initramfs: of another kernel": (
        {
            f"/boot/initrd.img-{VERSION}": None,
            "/boot/initrd.img-5.10": File(INITRAMFS),
            "/boot/grub/grub.cfg": text(GRUB.replace(f"initrd.img-{VERSION}", "initrd.img-5.10")),
        },
        "static/initramfs",
        "initramfs-missing",
    ),
    "initramfs: none loaded": (
        {"/boot/grub/grub.cfg": text(re.sub("initrd .*", "", GRUB))},
        "static/initramfs",
        "initramfs-missing",
    ),
    "initramfs: no driver": (
        {f"/boot/initrd.img-{VERSION}": File(gzip.compress(cpio(MODULES[:1] + MODULES[2:])))},
        "static/initramfs",
        "initramfs-modules-missing",
    ),
    "initramfs: empty": (
        {f"/boot/initrd.img-{VERSION}": File(b"not one")},
        "static/initramfs",
        "initramfs-damaged",
    ),
    "architecture: init of arm64": (
        {"/sbin/init": File(ARM_INIT)},
        "static/architecture",
        "architecture-wrong",
    ),
    "architecture: kernel of arm64": (
        {f"/boot/vmlinuz-{VERSION}": File(ARM_KERNEL)},
        "static/architecture",
        "architecture-wrong",
    ),
    "architecture: no init": (
        {"/sbin/init": File(link="/lib/systemd/systemd")},
        "static/architecture",
        "init-missing",
    ),
    "units: docker not enabled": (
        {f"{WANTS}/docker.service": None},
        "static/units/docker",
        "unit-not-enabled",
    ),
    "units: docker not installed": (
        {f"{UNITS}/docker.service": None},
        "static/units/docker",
        "unit-missing",
    ),
    "units: clock masked": (
        {"/etc/systemd/system/chrony.service": File(link="/dev/null")},
        "static/units/time",
        "unit-not-enabled",
    ),
    "units: network off": (
        {f"{WANTS}/networking.service": None},
        "static/units/network",
        "unit-not-enabled",
    ),
    "units: agent's user": (
        {AGENT_SERVICE: text("[Service]\nUser=trove\nExecStart=/sbin/init\n")},
        "static/units/guest-agent",
        "guest-user-missing",
    ),
    "units: agent's program not executable": (
        {f"{VENV}/bin/trove-guestagent": text(f"#!{VENV}/bin/python\n")},
        "static/units/guest-agent",
        "agent-not-startable",
    ),
    "units: agent's drop-in": (
        {f"{AGENT_SERVICE}.d/x.conf": text("[Service]\nExecStart=\nExecStart=/no\n")},
        "static/units/guest-agent",
        "agent-not-startable",
    ),
    "users: none": (
        {"/etc/passwd": text("root:x:0:0::/root:/bin/bash\n")},
        "static/users/guest-user",
        "guest-user-missing",
    ),
    "users: no shell": (
        {"/etc/passwd": text(ROOT_LINE + "ubuntu:x:1000:1000::/:/usr/sbin/nologin\n")},
        "static/users/guest-user",
        "guest-user-missing",
    ),
    "users: sudo asks": (
        {"/etc/sudoers.d/guest": text("ubuntu ALL=(ALL) ALL\n")},
        "static/users/sudo",
        "guest-user-no-sudo",
    ),
    "users: sudo ignores the file": (
        {
            "/etc/sudoers.d/guest": None,
            "/etc/sudoers.d/a.b": text("ubuntu ALL=(ALL) NOPASSWD:ALL\n"),
        },
        "static/users/sudo",
        "guest-user-no-sudo",
    ),
    "users: no docker group": (
        {"/etc/group": text("root:x:0:\nubuntu:x:1000:\n")},
        "static/users/docker",
        "guest-user-no-docker",
    ),
    "users: 1001 is somebody's": (
        {"/etc/passwd": text("ubuntu:x:1000:1000::/:/bin/sh\nme:x:1001:1000::/:/bin/sh\n")},
        "static/users/database-uid",
        "database-user-taken",
    ),
    "users: 1001 will be cloud-init's": (
        {f"{CLOUD}/95-own.cfg": text("datasource_list: [ConfigDrive, OpenStack]\n")},
        "static/users/database-uid",
        "database-user-taken",
    ),
    "users: database has another uid": (
        {"/etc/passwd": text("ubuntu:x:1000:1000::/:/bin/sh\ndatabase:x:999:1000::/:/bin/sh\n")},
        "static/users/database-uid",
        "database-user-taken",
    ),
    "cloud-init: a later file wins": (
        {f"{CLOUD}/99-last.cfg": text("datasource_list: [ NoCloud ]\n")},
        "static/cloud-init/datasources",
        "datasource-missing",
    ),
    "cloud-init: ds-identify knows better": (
        {"/etc/cloud/ds-identify.cfg": text("datasource: Ec2\n")},
        "static/cloud-init/datasources",
        "datasource-missing",
    ),
    "cloud-init: policy": (
        {"/etc/cloud/ds-identify.cfg": text("policy: disabled\n")},
        "static/cloud-init/enabled",
        "cloud-init-off",
    ),
    "cloud-init: command line": (
        {"/boot/grub/grub.cfg": text(GRUB.replace(" ro ", " ro cloud-init=disabled "))},
        "static/cloud-init/enabled",
        "cloud-init-off",
    ),
    "cloud-init: not there": (
        {"/usr/bin/cloud-init": None},
        "static/cloud-init/enabled",
        "cloud-init-off",
    ),
    "cloud-init: no yaml": (
        {f"{CLOUD}/99-last.cfg": text("a: [\n")},
        "static/cloud-init/datasources",
        "image-unreadable",
    ),
    "network: two of ifupdown": (
        {
            "/etc/network/interfaces.d/eth0": stanza("eth0"),
            "/etc/network/interfaces.d/eth1": stanza("eth1"),
        },
        "static/network/routes",
        "two-default-routes",
    ),
    "network: two of netplan": (
        {"/etc/netplan/50.yaml": text(NETPLAN % "")},
        "static/network/routes",
        "two-default-routes",
    ),
    "network: two of networkd": (
        {
            "/etc/systemd/network/1.network": text("[Match]\nName=ens3\n[Network]\nDHCP=yes\n"),
            "/etc/systemd/network/2.network": text(
                "[Match]\nName=ens4\n[Network]\nGateway=10.0.0.1\n"
            ),
        },
        "static/network/routes",
        "two-default-routes",
    ),
    "agent: link to nothing": (
        {"/usr/bin/python3.11": None},
        "static/agent/python",
        "agent-python-missing",
    ),
    "agent: other interpreter": (
        {
            f"{VENV}/bin/python3": File(link="/usr/bin/python3.12"),
            "/usr/bin/python3.12": good()["/sbin/init"],
        },
        "static/agent/python",
        "agent-python-missing",
    ),
    "agent: no library": (
        {"/usr/lib/python3.11/os.py": None},
        "static/agent/python",
        "agent-python-missing",
    ),
    "agent: file missing": (
        {f"{SITE}/six.py": None},
        "static/agent/modules",
        "agent-module-missing",
    ),
    "agent: requirement missing": (SIX, "static/agent/modules", "agent-module-missing"),
    "agent: requirement too old": (
        {**distribution("trove", "25.0.0", "six>=2")},
        "static/agent/modules",
        "agent-module-missing",
    ),
    "agent: other version": (
        {**TROVE, **distribution("trove", "24.0.0")},
        "static/agent/version",
        "image-not-the-built-one",
    ),
    "agent: no program": (
        {f"{VENV}/bin/trove-guestagent": None},
        "static/agent/entry-point",
        "agent-not-startable",
    ),
    "agent: program without interpreter": (
        {f"{VENV}/bin/trove-guestagent": text("#!/usr/bin/python3.9\n", 0o755)},
        "static/agent/entry-point",
        "agent-not-startable",
    ),
    "packages: other version": (
        {"/var/lib/dpkg/status": text(BASH % ("installed", "5.3"))},
        "static/manifest/packages",
        "image-not-the-built-one",
    ),
    "packages: half installed": (
        {"/var/lib/dpkg/status": text(BASH % ("half-configured", "5.2"))},
        "static/manifest/packages",
        "package-half-installed",
    ),
    "safety: a password": (
        {"/etc/shadow": text("root:$6$x$y:1:0:9:7:::\n", 0o640)},
        "static/safety/accounts/passwords",
        "password-known",
    ),
}


@pytest.mark.parametrize(("changes", "name", "wanted"), CASES.values(), ids=CASES)
def test_what_is_wrong_has_its_cause(
    changes: Changes, name: str, wanted: str, tmp_path: Path
) -> None:
    (check,) = asked(guest(tmp_path, changes), name)
    assert check.outcome is Outcome.FAILED, check.what
    assert check.cause
    assert check.cause.id == wanted
    assert not re.search(r"\{[a-z_]+\}", check.cause.title + "".join(check.cause.advice))


GOOD: dict[str, tuple[Changes, str, Outcome]] = {
    "fstab: may be missing": (
        {
            "/etc/fstab": text(
                "LABEL=small-root / ext4 defaults\n/dev/vdb /srv ext4 nofail 0 0\n"
                "tmpfs /tmp tmpfs size=1G 0 0\n"
            )
        },
        "static/fstab",
        Outcome.PASSED,
    ),
    "fstab: name of a bus": (
        {"/etc/fstab": text("/dev/vda1 / ext4 defaults 0 1\n")},
        "static/fstab",
        Outcome.WARNING,
    ),
    "grub: name of a bus": (
        {"/boot/grub/grub.cfg": text(GRUB.replace("LABEL=small-root", "/dev/sda1"))},
        "static/bootloader/config",
        Outcome.WARNING,
    ),
    "grub: a second entry is broken": (
        {"/boot/grub/grub.cfg": text(GRUB + GRUB.replace("small-root", "other"))},
        "static/bootloader/config",
        Outcome.WARNING,
    ),
    "initramfs: drivers are built in": (
        {
            f"/boot/initrd.img-{VERSION}": File(cpio(["init"])),
            f"/lib/modules/{VERSION}/modules.builtin": text(
                "kernel/a/virtio_blk.ko\nkernel/virtio-pci.ko\nkernel/fs/ext4/ext4.ko\n"
            ),
        },
        "static/initramfs",
        Outcome.PASSED,
    ),
    "units: netplan starts networkd": (
        {
            f"{WANTS}/networking.service": None,
            f"{UNITS}/systemd-networkd.service": text("[Service]\n"),
            "/usr/lib/systemd/system-generators/netplan": File(link="/sbin/init"),
        },
        "static/units/network",
        Outcome.PASSED,
    ),
    "users: database was made before": (
        {
            "/etc/passwd": text("ubuntu:x:1000:1000::/:/bin/sh\ndatabase:x:1001:1000::/:/bin/sh\n"),
            f"{CLOUD}/95-own.cfg": text(""),
        },
        "static/users/database-uid",
        Outcome.PASSED,
    ),
    "users: cloud-init makes none": (
        {f"{CLOUD}/95-own.cfg": text("users: []\n")},
        "static/users/database-uid",
        Outcome.PASSED,
    ),
    "network: one card": (
        {
            "/etc/network/interfaces.d/eth0": stanza("eth0"),
            "/etc/network/interfaces.d/eth1": text("iface eth1 inet dhcp\n"),
        },
        "static/network/routes",
        Outcome.PASSED,
    ),
    "network: the second without a route": (
        {"/etc/netplan/50.yaml": text(NETPLAN % ", dhcp4-overrides: {use-routes: false}")},
        "static/network/routes",
        Outcome.PASSED,
    ),
    "cloud-init: no list is all": (
        {f"{CLOUD}/95-own.cfg": text(""), f"{CLOUD}/90_dpkg.cfg": None},
        "static/cloud-init/datasources",
        Outcome.PASSED,
    ),
    "cloud-init: leaves the network": (
        {f"{CLOUD}/99.cfg": text("network: {config: disabled}\n")},
        "static/cloud-init/network",
        Outcome.WARNING,
    ),
    "manifest: somebody else's image": (
        {"/etc/imagebuild/content.json": None},
        "static/manifest/content",
        Outcome.SKIPPED,
    ),
    "agent: somebody else's image": (
        {
            **dict.fromkeys(p for p in good() if p.startswith(VENV)),
            "/etc/imagebuild/content.json": None,
        },
        "static/agent/modules",
        Outcome.UNKNOWN,
    ),
}


@pytest.mark.parametrize(("changes", "name", "outcome"), GOOD.values(), ids=GOOD)
def test_what_works_does_not_fail(
    changes: Changes, name: str, outcome: Outcome, tmp_path: Path
) -> None:
    (check,) = asked(guest(tmp_path, changes), name)
    assert check.outcome is outcome, (check.what, check.evidence)


@pytest.mark.parametrize(
    ("series", "outcome"),
    [("2025.1", Outcome.FAILED), ("2025.2", Outcome.FAILED), ("2026.1", Outcome.PASSED),
     ("2026.2", Outcome.PASSED), (None, Outcome.SKIPPED)],
)  # fmt: skip
def test_agent_is_compared_with_the_control_plane(
    series: str | None, outcome: Outcome, tmp_path: Path
) -> None:
    (check,) = asked(guest(tmp_path, options=Options(series=series)), "static/agent/series")
    assert check.outcome is outcome
    assert (check.cause.id if check.cause else "") == (
        "agent-newer" if series and series < "2026" else ""
    )


def test_agent_of_two_series_before_is_a_warning(tmp_path: Path) -> None:
    changes: Changes = {**TROVE, **distribution("trove", "23.1.0")}
    (check,) = asked(guest(tmp_path, changes, Options(series="2025.2")), "static/agent/series")
    assert check.outcome is Outcome.PASSED
    (check,) = asked(
        guest(tmp_path / "2", changes, Options(series="2026.1")), "static/agent/series"
    )
    assert check.outcome is Outcome.WARNING


@pytest.mark.parametrize(
    "pack", [gzip.compress, lzma.compress, bz2.compress, bytes,
             lambda d: run(["zstd", "-c"], input=d).stdout],
    ids=["gzip", "xz", "bzip2", "plain", "zstd"],
)  # fmt: skip
def test_initramfs_of_each_kind_is_read(pack: object) -> None:
    assert callable(pack)
    early = cpio(["kernel/x86/microcode/x.bin"])
    assert initramfs.names(early + bytes(12) + pack(cpio(MODULES)) + bytes(8)) == {
        "kernel/x86/microcode/x.bin", *MODULES,
    }  # fmt: skip


@given(st.integers(0, len(INITRAMFS) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_initramfs_is_read_or_refused(at: int, junk: bytes) -> None:
    damaged = INITRAMFS[:at] + junk + INITRAMFS[at + len(junk) :]
    subject = Question("x", "", lambda _: iter(map(Problem, initramfs.names(damaged))))
    assert answer(subject, None).name == "x"  # type: ignore[arg-type]


def test_kernel_tells_its_architecture() -> None:
    assert kernel_machine(b"") is None
    assert kernel_machine(b"\x1f\x8b" + bytes(600)) == "compressed"
    assert version_of("/boot/vmlinuz-6.1.0-1-cloud-amd64") == "6.1.0-1-cloud-amd64"
    assert version_of("/vmlinuz") == ""


def test_units_settings_are_read_as_systemd_does() -> None:
    unit = "ExecStart=/a\nExecStart=\nExecStart=/b \\\n  --c\n#ExecStart=/d\n"
    assert unit_settings(unit, "ExecStart") == ["/b    --c"]


def test_every_cause_is_used_and_every_used_one_is_there() -> None:
    source = "\n".join(p.read_text() for p in PACKAGE.glob("*.py"))
    quoted = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', source))
    for name in set(re.findall(r'cause="([a-z0-9-]+)"', source)):
        assert cause(name).title
    assert set(known_causes()) <= quoted
    with pytest.raises(KeyError):
        cause("no-such-cause")


def test_evidence_is_short_and_printable() -> None:
    lines = tuple(f"\x1b[31m{n}" + "x" * 5000 for n in range(100))
    question = Question("x", "", lambda _: iter([Problem("\x07bad", lines, cause="init-missing")]))
    check = answer(question, None)  # type: ignore[arg-type]
    assert len(check.evidence) == MOST_EVIDENCE
    assert all(x.isprintable() and len(x) <= 300 for x in (*check.evidence, check.what))


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_static(tmp_path / "none.qcow2", tmp_path)
    image = tmp_path / "x.raw"
    image.write_bytes(bytes(512))
    with pytest.raises(ConfigError):
        check_static(image, tmp_path, options=Options(series="queens"))
    with pytest.raises(UsageError):
        check_static(image, tmp_path, options=Options(secrets={"A": b"abc"}))


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guest(tmp_path_factory.mktemp("small")).raw


_MIB = 1 << 20
#: Partition table, superblock and groups, what e2fsprogs put first, anything.
_REGIONS = ((0, 40 * 512), (_MIB, 1088 << 10), (_MIB + 8192, 3 * _MIB), (_MIB, 25 * _MIB))
_DAMAGE = st.sampled_from(_REGIONS).flatmap(
    lambda r: st.lists(
        st.tuples(st.integers(*r), st.binary(min_size=1, max_size=16)), min_size=1, max_size=20
    )
)


@given(damage=_DAMAGE)
@settings(max_examples=40)
def test_damaged_disk_gives_checks_and_no_traceback(
    damage: list[tuple[int, bytes]], small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("damaged")
    raw = work / "disk.raw"
    subprocess.run(["cp", "--sparse=always", small_disk, raw], check=True)
    with raw.open("r+b") as file:
        for at, junk in damage:
            file.seek(at)
            file.write(junk)
    assert [c.name for c in check_static(raw, work)] == list(NAMES)
    raw.unlink()


@given(size=st.integers(0, 200_000), form=st.sampled_from(["raw", "qcow2"]))
@settings(max_examples=15)
def test_cut_file_gives_checks_and_no_traceback(
    size: int, form: str, small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("cut")
    image = work / f"disk.{form}"
    subprocess.run(["qemu-img", "convert", "-O", form, small_disk, image], check=True)
    with image.open("r+b") as file:
        file.truncate(size)
    checks = check_static(image, work)
    assert [c.name for c in checks] == list(NAMES)
    assert any(c.outcome is Outcome.FAILED for c in checks)
    image.unlink()


ODD = st.sampled_from(
    ["{a: [1, {b: 2}]}", "[1, 2]", "text", "5", "null", "{name: [1]}", "[[], {}]"]
)


@given(one=ODD, other=ODD, third=ODD)
@settings(max_examples=12)
def test_settings_of_odd_shapes_are_no_traceback(
    one: str, other: str, third: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = f"datasource_list: {one}\nsystem_info: {{default_user: {other}}}\nusers: {third}\n"
    changes: Changes = {
        f"{CLOUD}/99.cfg": text(f"{own}network: {one}\n"),
        "/etc/netplan/x.yaml": text(f"network: {{ethernets: {other}, bridges: {third}}}\n"),
        "/etc/fstab": text(f"{one}\n{other} {third} x\n"),
        "/etc/imagebuild/content.json": text(f'{{"agent": {json.dumps(one)}, "arch": 5}}'),
    }
    work = tmp_path_factory.mktemp("odd")
    subject = guest(work, changes)
    assert [c.name for c in asked(subject, "static/")] == [q.name for q in OF_TREE]
    subject.raw.unlink()


def test_filesystem_that_is_not_read_is_unknown(small_disk: Path, tmp_path: Path) -> None:
    """Others may use features that this reader does not know: no reason to call it bad."""
    raw = tmp_path / "disk.raw"
    run(["cp", "--sparse=always", small_disk, raw])
    with raw.open("r+b") as file:
        file.seek(_MIB + 1024 + 0x60)
        bits = int.from_bytes(file.read(4), "little") | 0x8000
        file.seek(_MIB + 1024 + 0x60)
        file.write(bits.to_bytes(4, "little"))
    checks = {c.name: c for c in check_static(raw, tmp_path)}
    assert checks["static/filesystem/readable"].outcome is Outcome.UNKNOWN
    assert checks["static/fstab"].outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("content", "manifest", "wanted"),
    [
        ({}, {}, Expected("ubuntu")),
        ({"dev": True}, {"dev": {"key_fingerprint": "SHA256:x", "root_password": False}},
         Expected("ubuntu", dev_key="/etc/trove/dev/id_ed25519")),
        ({"dev": True}, {"dev": {"key_fingerprint": None, "root_password": True}},
         Expected("ubuntu", root_password=True)),
        # What the manifest says of a dev image is of no use to one that is none.
        ({"dev": False}, {"dev": {"key_fingerprint": "SHA256:x", "root_password": True}},
         Expected("ubuntu")),
        ({}, {"stages": [{"name": "base", "inputs": {"registries": [{"credentials": "ab"}]}}]},
         Expected("ubuntu", credentials=("/root/.docker/config.json",
                                         "/home/u/.docker/config.json"))),
    ],
    ids=["production", "key", "password", "not-dev", "registry"],
)  # fmt: skip
def test_safety_expects_what_the_manifest_says(
    content: dict[str, object], manifest: dict[str, object], wanted: Expected, tmp_path: Path
) -> None:
    whole = {"content": {**CONTENT, **content}, "stages": [], **manifest}
    subject = dataclasses.replace(guest(tmp_path), artifact=ArtifactView(tmp_path, whole))
    assert expected(subject) == wanted
