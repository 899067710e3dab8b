"""A real image, broken in one way at a time: the static level finds that, and nothing else."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from imagebuild.host.run import run
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.verify.results import Check, Outcome
from imagebuild.verify.static import NAMES, Options, check_static
from tests.images.builds import Built
from tests.images.patient import Patient

pytestmark = pytest.mark.image

_ROOT_TABLE = "static/disk/partitions"


@pytest.fixture(scope="module")
def patient(bookworm: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    work = tmp_path_factory.mktemp("patient")
    subject = Patient(bookworm.fs.tree, work)
    yield subject
    subject.raw.unlink()


@pytest.fixture(scope="module")
def view(bookworm: Built) -> ArtifactView:
    """The artifact as if it had no raw image: what is broken here is a raw copy of the qcow2,
    which its manifest shall say nothing of.
    """
    whole = open_artifact(bookworm.artifact)
    outputs = [o for o in whole.manifest["outputs"] if o["format"] == "qcow2"]
    return ArtifactView(whole.directory, {**whole.manifest, "outputs": outputs})


def bad(checks: list[Check]) -> dict[str, str]:
    """What has not passed, with its cause."""
    return {
        c.name: c.cause.id if c.cause else ""
        for c in checks
        if c.outcome not in (Outcome.PASSED, Outcome.SKIPPED)
    }


def outcomes(checks: list[Check], outcome: Outcome) -> set[str]:
    return {c.name for c in checks if c.outcome is outcome}


def test_healthy_image_passes_everything(built: Built, tmp_path: Path) -> None:
    view = open_artifact(built.artifact)
    series = built.manifest["content"]["agent"]["series"]
    options = Options(max_size=2 << 30, series=series)
    checks = check_static(built.qcow2, tmp_path, artifact=view, options=options)
    assert [c.name for c in checks] == list(NAMES)
    wrong = [(c.name, c.what, c.evidence) for c in checks if c.outcome is not Outcome.PASSED]
    expected = set() if view.content["containers"] else {"static/containers"}
    assert {name for name, _, _ in wrong} == expected, wrong
    assert list(tmp_path.iterdir()) == [], "the copy of the disk is still there"


def test_healthy_image_needs_no_manifest(bookworm: Built, tmp_path: Path) -> None:
    checks = check_static(bookworm.fs.raw, tmp_path)
    assert bad(checks) == {}
    assert "static/manifest/content" in outcomes(checks, Outcome.SKIPPED)
    assert bookworm.fs.raw.exists()


def test_size_over_budget_is_found(bookworm: Built, tmp_path: Path, view: ArtifactView) -> None:
    checks = check_static(bookworm.qcow2, tmp_path, artifact=view, options=Options(max_size=1000))
    assert bad(checks) == {"static/file/budget": "image-too-big"}


Break = Callable[[Patient], AbstractContextManager[None]]


def no_boot_code(p: Patient) -> AbstractContextManager[None]:
    return p.patched(0, bytes(440))


def no_core(p: Patient) -> AbstractContextManager[None]:
    return p.patched(2048 * 512, bytes(64 << 10))


@contextmanager
def no_efi_file(p: Patient) -> Iterator[None]:
    with p.raw.open("rb") as file:
        file.seek(4096 * 512)
        before = file.read(64 << 20)
    p.run_on_esp(["mdel", "::/EFI/BOOT/BOOTX64.EFI"])
    with p.raw.open("r+b") as file:
        try:
            yield
        finally:
            file.seek(4096 * 512)
            file.write(before)


def backup_table_gone(p: Patient) -> AbstractContextManager[None]:
    return p.patched(p.raw.stat().st_size - 512, bytes(512))


def other_label_in_fstab(p: Patient) -> AbstractContextManager[None]:
    return p.changed(*p.edited("/etc/fstab", ("cloudimg-rootfs", "rootfs")))


def other_label_in_grub(p: Patient) -> AbstractContextManager[None]:
    return p.changed(*p.edited("/boot/grub/grub.cfg", ("LABEL=cloudimg-rootfs", "LABEL=rootfs")))


def second_disk_in_fstab(p: Patient) -> AbstractContextManager[None]:
    line = "UUID=4f68bce3-0000-4000-8000-000000000000 /srv ext4 defaults 0 2\n"
    return p.changed(*p.edited("/etc/fstab", ("LABEL", line + "LABEL")))


def no_openstack(p: Patient) -> AbstractContextManager[None]:
    own = "/etc/cloud/cloud.cfg.d/95-imagebuild.cfg"
    return p.changed(*p.edited(own, ("[ ConfigDrive, OpenStack ]", "[ ConfigDrive, Ec2, None ]")))


def cloud_init_disabled(p: Patient) -> AbstractContextManager[None]:
    return p.changed(*p.writing("/etc/cloud/cloud-init.disabled", ""))


def cloud_init_stage_gone(p: Patient) -> AbstractContextManager[None]:
    return p.changed("rm /etc/systemd/system/cloud-init.target.wants/cloud-init-local.service")


def module_file_gone(p: Patient) -> AbstractContextManager[None]:
    site = "/opt/guest-agent-venv/lib/python3.11/site-packages"
    return p.changed(f"rm {site}/oslo_messaging/rpc/client.py")


def module_gone(p: Patient) -> AbstractContextManager[None]:
    site = "/opt/guest-agent-venv/lib/python3.11/site-packages"
    info = next(n for n in p.healthy.names(site) if n.lower().startswith("pymysql-"))
    return p.changed(*p.without(f"{site}/{info}"))


def docker_disabled(p: Patient) -> AbstractContextManager[None]:
    return p.changed("rm /etc/systemd/system/multi-user.target.wants/docker.service")


def agent_masked(p: Patient) -> AbstractContextManager[None]:
    unit = "/etc/systemd/system/guest-agent.service"
    return p.changed(
        f"rm {unit}", "cd /etc/systemd/system", "symlink guest-agent.service /dev/null"
    )


def agents_program_gone(p: Patient) -> AbstractContextManager[None]:
    return p.changed("rm /usr/local/bin/guest-agent")


def other_guest_user(p: Patient) -> AbstractContextManager[None]:
    """Made for a guest user of another name than the manifest and the controller have."""
    return p.changed(
        *p.edited("/etc/passwd", ("ubuntu:x:1000", "trove:x:1000")),
        *p.edited("/etc/cloud/cloud.cfg.d/95-imagebuild.cfg", ("name: ubuntu", "name: trove")),
    )


def no_sudo(p: Patient) -> AbstractContextManager[None]:
    own = "/etc/cloud/cloud.cfg.d/95-imagebuild.cfg"
    return p.changed(
        "rm /etc/sudoers.d/60-trove-guest",
        # Otherwise cloud-init would write the rule at the first boot.
        *p.edited(own, ('    sudo: ["ALL=(ALL) NOPASSWD:ALL"]\n', "    sudo: null\n")),
    )


def not_in_docker(p: Patient) -> AbstractContextManager[None]:
    return p.changed(*p.edited("/etc/group", ("docker:x:109:ubuntu", "docker:x:109:")))


def known_password(p: Patient) -> AbstractContextManager[None]:
    field = re.search("(?m)^root:[^:]*:", p.healthy.read_text("/etc/shadow"))
    assert field
    return p.changed(*p.edited("/etc/shadow", (field[0], "root:$6$salt$hash:")))


def host_key(p: Patient) -> AbstractContextManager[None]:
    key = p.work / "key"
    if not key.exists():
        run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key])
    return p.changed(
        *p.writing("/etc/ssh/ssh_host_ed25519_key", key.read_text(), 0o100600),
        *p.writing("/etc/ssh/ssh_host_ed25519_key.pub", Path(f"{key}.pub").read_text()),
    )


def uid_taken(p: Patient) -> AbstractContextManager[None]:
    line = "debian:x:1001:1000::/home/debian:/bin/bash\n"
    return p.changed(*p.edited("/etc/passwd", ("ubuntu:x:1000", line + "ubuntu:x:1000")))


def uid_will_be_taken(p: Patient) -> AbstractContextManager[None]:
    own = "/etc/cloud/cloud.cfg.d/95-imagebuild.cfg"
    return p.changed(*p.edited(own, ("name: ubuntu", "name: debian")))


def two_routes(p: Patient) -> AbstractContextManager[None]:
    commands = []
    for card in ("eth0", "eth1"):
        text = f"auto {card}\niface {card} inet dhcp\n"
        commands += p.writing(f"/etc/network/interfaces.d/{card}", text)
    return p.changed(*commands)


def wrong_section(p: Patient) -> AbstractContextManager[None]:
    text = "[postgres]\ndocker_image = registry.example/postgres\n"
    return p.changed(*p.writing("/etc/trove/conf.d/50-site.conf", text))


def full_disk(p: Patient) -> AbstractContextManager[None]:
    free = int.from_bytes(p.healthy.fs.bytes_at(1024 + 0xC, 4), "little") - 3000
    return p.changed("cd /var/lib", f"write {p.raw.parent}/empty fill",
                     f"fallocate fill 0 {free - 1}", f"sif fill size {free * 4096}")  # fmt: skip


def other_architecture(p: Patient) -> AbstractContextManager[None]:
    return p.patched(p.place_of("/sbin/init") + 18, (183).to_bytes(2, "little"))


def initramfs_gone(p: Patient) -> AbstractContextManager[None]:
    return p.changed(f"rm {_boot(p, 'initrd.img')}")


def initramfs_cut(p: Patient) -> AbstractContextManager[None]:
    return p.patched(p.place_of(_boot(p, "initrd.img")), bytes(range(256)))


def kernel_gone(p: Patient) -> AbstractContextManager[None]:
    return p.changed(f"rm {_boot(p, 'vmlinuz')}")


def superblock_gone(p: Patient) -> AbstractContextManager[None]:
    return p.patched(p.offset + 1024, bytes(1024))


def dirty_bitmap(p: Patient) -> AbstractContextManager[None]:
    return p.changed("freeb 40000 64")


def _boot(p: Patient, prefix: str) -> str:
    name = next(n for n in p.healthy.names("/boot") if n.startswith(prefix))
    return f"/boot/{name}"


_UNITS, _AGENT = "static/units", "static/agent"
CASES: list[tuple[Break, dict[str, str]]] = [
    (no_boot_code, {"static/bootloader/bios": "no-bootloader"}),
    (no_efi_file, {"static/bootloader/uefi": "no-bootloader"}),
    (backup_table_gone, {_ROOT_TABLE: "partition-table-damaged"}),
    (superblock_gone, {"static/filesystem/readable": "filesystem-damaged"}),
    (other_label_in_fstab, {"static/fstab": "root-label-wrong"}),
    (no_openstack, {"static/cloud-init/datasources": "datasource-missing"}),
    (cloud_init_disabled, {"static/cloud-init/enabled": "cloud-init-off"}),
    (module_file_gone, {f"{_AGENT}/modules": "agent-module-missing"}),
    (docker_disabled, {f"{_UNITS}/docker": "unit-not-enabled"}),
    (other_guest_user, {"static/users/guest-user": "guest-user-missing"}),
    (known_password, {"static/safety/accounts/passwords": "password-known"}),
    # Such a key is a private key, too.
    (host_key, {"static/safety/keys/ssh_host": "host-key-left",
                "static/safety/keys/private": "private-key-left"}),
    (uid_taken, {"static/users/database-uid": "database-user-taken"}),
    (two_routes, {"static/network/routes": "two-default-routes"}),
    (wrong_section, {f"{_AGENT}/config": "agent-section-unknown"}),
    (full_disk, {"static/filesystem/room": "root-full"}),
    (other_architecture, {"static/architecture": "architecture-wrong"}),
    (initramfs_gone, {"static/initramfs": "initramfs-missing"}),
]  # fmt: skip
#: Broken all at once, since each takes seconds: none of them hides another.
TOGETHER: list[tuple[Break, dict[str, str]]] = [
    (no_core, {"static/bootloader/bios": "no-bootloader"}),
    (dirty_bitmap, {"static/filesystem/clean": "filesystem-damaged"}),
    (other_label_in_grub, {"static/bootloader/config": "root-label-wrong"}),
    (second_disk_in_fstab, {"static/fstab": "fstab-device-missing"}),
    (cloud_init_stage_gone, {f"{_UNITS}/cloud-init": "unit-not-enabled"}),
    (module_gone, {f"{_AGENT}/modules": "agent-module-missing"}),
    (agent_masked, {f"{_UNITS}/guest-agent": "unit-not-enabled"}),
    (not_in_docker, {"static/users/docker": "guest-user-no-docker"}),
    (uid_will_be_taken, {"static/users/database-uid": "database-user-taken"}),
    (initramfs_cut, {"static/initramfs": "initramfs-damaged"}),
]
AGAIN: list[tuple[Break, dict[str, str]]] = [
    (agents_program_gone, {f"{_UNITS}/guest-agent": "agent-not-startable"}),
    (no_sudo, {"static/users/sudo": "guest-user-no-sudo"}),
    (kernel_gone, {"static/bootloader/config": "kernel-missing"}),
]
#: After these no file can be read.
UNREADABLE = (backup_table_gone, superblock_gone)


@pytest.mark.parametrize(("break_it", "expected"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_broken_is_named(
    break_it: Break, expected: dict[str, str], patient: Patient, view: ArtifactView, tmp_path: Path
) -> None:
    (patient.work / "empty").touch()
    with break_it(patient):
        checks = check_static(patient.raw, tmp_path, artifact=view)
    assert bad(checks) == expected, [(c.name, c.what, c.evidence) for c in checks if c.cause]
    assert outcomes(checks, Outcome.FAILED) == set(expected)
    for check in checks:
        if check.name in expected:
            assert check.evidence, check.name
            assert check.cause
            assert "{" not in check.cause.title
    if break_it not in UNREADABLE:
        passed = outcomes(checks, Outcome.PASSED)
        assert len(passed) > len(NAMES) - 8, "what has nothing to do with it was not asked"


@pytest.mark.parametrize("cases", [TOGETHER, AGAIN], ids=["first", "second"])
def test_broken_in_many_ways_is_named_in_all(
    cases: list[tuple[Break, dict[str, str]]],
    patient: Patient,
    view: ArtifactView,
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        for break_it, _ in cases:
            stack.enter_context(break_it(patient))
        checks = check_static(patient.raw, tmp_path, artifact=view)
    expected = {name: cause for _, each in cases for name, cause in each.items()}
    found = [(c.name, c.what, c.evidence) for c in checks if c.cause]
    assert len(expected) == len(cases)
    assert bad(checks) == expected, found


def test_patient_is_healthy_again(patient: Patient, view: ArtifactView, tmp_path: Path) -> None:
    """Otherwise a case above could have found what one before it had left."""
    assert bad(check_static(patient.raw, tmp_path, artifact=view)) == {}


def test_agent_newer_than_the_control_plane_is_named(patient: Patient, tmp_path: Path) -> None:
    checks = check_static(patient.raw, tmp_path, options=Options(series="2025.2"))
    assert bad(checks) == {f"{_AGENT}/series": "agent-newer"}


def test_wrong_manifest_is_named(patient: Patient, view: ArtifactView, tmp_path: Path) -> None:
    content = {**view.content, "profile": "site", "elements": {}}
    other = dataclasses.replace(view, manifest={**view.manifest, "content": content})
    checks = check_static(patient.raw, tmp_path, artifact=other)
    assert bad(checks) == {"static/manifest/content": "image-not-the-built-one"}
    (check,) = (c for c in checks if c.name == "static/manifest/content")
    assert any(line.startswith("profile: ") for line in check.evidence)


@pytest.fixture
def copy(bookworm: Built, tmp_path: Path) -> Iterator[Path]:
    """A copy of the qcow2 under its own name, so that the manifest knows it."""
    path = tmp_path / bookworm.qcow2.name
    subprocess.run(["cp", "--reflink=auto", bookworm.qcow2, path], check=True)
    yield path
    path.unlink()


def test_damaged_qcow2_is_named(copy: Path, view: ArtifactView, tmp_path: Path) -> None:
    with copy.open("r+b") as file:
        file.seek(40)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        file.write(b"\x80\0\0\0\x7f\xff\0\0" * 4)
    checks = check_static(copy, tmp_path, artifact=view)
    assert bad(checks) == {
        "static/file/whole": "image-damaged",
        "static/file/digest": "image-not-the-built-one",
    }
    assert _ROOT_TABLE in outcomes(checks, Outcome.SKIPPED)


@pytest.mark.parametrize("known", [True, False])
def test_truncated_file_is_named(
    known: bool, copy: Path, view: ArtifactView, tmp_path: Path
) -> None:
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size * 2 // 3)
    checks = check_static(copy, tmp_path, artifact=view if known else None)
    expected = {"static/file/whole": "image-truncated"}
    if known:
        expected["static/file/digest"] = "image-not-the-built-one"
    assert bad(checks) == expected


def test_file_of_no_image_is_named(copy: Path, view: ArtifactView, tmp_path: Path) -> None:
    copy.write_bytes(b"<html>not found</html>".ljust(4096))
    checks = check_static(copy, tmp_path, artifact=view)
    assert bad(checks)["static/file/format"] == "image-damaged"


def test_overlay_is_no_image_to_publish(copy: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", copy, overlay])
    checks = check_static(overlay, tmp_path)
    assert bad(checks) == {"static/file/standalone": "image-not-standalone"}
    assert _ROOT_TABLE in outcomes(checks, Outcome.SKIPPED)
