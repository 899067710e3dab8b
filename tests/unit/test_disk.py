"""The disk stage, run for real on a small tree and read back with other tools."""

from __future__ import annotations

import os
import stat
import struct
import time
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, run
from imagebuild.stages import ext4, gpt
from imagebuild.stages.disk import (
    TYPE_BIOS_BOOT,
    TYPE_ESP,
    TYPE_ROOT,
    DiskReport,
    DiskSpec,
    make_disk,
)
from imagebuild.stages.gpt import SECTOR

MIB = 1 << 20
EPOCH = 1_700_000_000
SPEC = DiskSpec(size=220 * MIB, label="test-root", arch="amd64", epoch=EPOCH, seed="c0ffee")

# A capability set as setcap writes it: cap_net_bind_service=ep, revision 2.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
# user::rw-, user:1234:r--, group::r--, mask::r--, other::---
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, ident)
    for tag, perm, ident in [
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1234),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    ]
)

as_root = pytest.mark.skipif(os.getuid() != 0, reason="owners and capabilities need root")


def make_tree(path: Path) -> Path:
    boot = path / "boot/grub"
    for name, content in {
        "i386-pc/boot.img": b"\xeb\x63" + bytes(508) + b"\x55\xaa",
        "i386-pc/core.img": b"core" * 400,
        "x86_64-efi/core.efi": b"MZ amd64" * 1000,
        "arm64-efi/core.efi": b"MZ arm64" * 1000,
    }.items():
        (boot / name).parent.mkdir(parents=True, exist_ok=True)
        (boot / name).write_bytes(content)
    (path / "etc").mkdir()
    (path / "etc/hostname").write_text("guest\n")
    (path / "etc/secret").write_text("s")
    (path / "etc/secret").chmod(0o640)
    (path / "etc/link").symlink_to("hostname")
    (path / "etc/hard").hardlink_to(path / "etc/hostname")
    (path / "usr").mkdir()
    (path / "usr/tool").write_bytes(os.urandom(3 * MIB))
    (path / "usr/tool").chmod(0o4755)
    (path / "usr/größe").write_text("unicode")
    with (path / "usr/sparse").open("wb") as file:
        file.truncate(500 * MIB)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = make_tree(tmp_path_factory.mktemp("in") / "tree")
    os.setxattr(tree / "etc/secret", "user.note", b"kept")
    if os.getuid() == 0:
        os.chown(tree / "etc/secret", 1001, 1002)
        os.setxattr(tree / "usr/größe", "security.capability", CAPABILITY)
        os.setxattr(tree / "etc/hostname", "system.posix_acl_access", ACL)
    os.utime(tree / "etc/secret", (1_600_000_000, 1_600_000_000))
    return tree


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DiskReport]:
    work = tmp_path_factory.mktemp("out")
    return work / "disk.raw", make_disk(tree, work / "disk.raw", SPEC, work)


def debugfs(built: tuple[Path, DiskReport], command: str) -> str:
    raw, report = built
    done = run(["debugfs", "-R", command, f"{raw}?offset={report.root_offset}"])
    return done.stdout.decode()


def test_partitions(built: tuple[Path, DiskReport]) -> None:
    raw, report = built
    found = gpt.read(raw)
    assert tuple(found) == report.partitions
    assert [(p.name, p.type_guid, p.offset // MIB, p.size // MIB) for p in found] == [
        ("bios-boot", TYPE_BIOS_BOOT, 1, 1),
        ("esp", TYPE_ESP, 2, 64),
        ("root", TYPE_ROOT["amd64"], 66, 220 - 66 - 1),
    ]
    assert len({p.unique_guid for p in found}) == 3
    assert raw.stat().st_size == SPEC.size


def test_filesystem_is_clean_and_has_the_features_of_old_guests(
    built: tuple[Path, DiskReport],
) -> None:
    raw, report = built
    device = f"{raw}?offset={report.root_offset}"
    check = run(["e2fsck", "-fn", device])
    assert b"Pass 5" in check.stdout
    stats = debugfs(built, "stats -h")
    fields = dict(line.split(":", 1) for line in stats.splitlines() if ":" in line)
    assert fields["Filesystem volume name"].strip() == "test-root"
    assert fields["Filesystem UUID"].strip() == str(SPEC.derive_uuid("root-filesystem"))
    features = set(fields["Filesystem features"].split())
    assert {"has_journal", "resize_inode", "metadata_csum", "64bit", "extent"} <= features
    assert not {"metadata_csum_seed", "orphan_file"} & features
    # Descriptors are reserved for growing online to (nearly) 1024 times the size.
    groups = int(fields["Reserved GDT blocks"]) * (4096 // 64)
    assert groups * 128 * MIB > 900 * report.root_bytes


def test_report_counts_the_filesystem(built: tuple[Path, DiskReport]) -> None:
    raw, report = built
    assert report.used_bytes + report.free_bytes == report.root_bytes
    stats = debugfs(built, "stats -h")
    assert f"Free blocks:              {report.free_bytes // 4096}\n" in stats
    assert 3 * MIB < report.content_bytes < 4 * MIB  # the sparse 500 MiB do not count
    assert raw.stat().st_blocks * 512 < 16 * MIB


def test_content_modes_and_links(built: tuple[Path, DiskReport], tree: Path) -> None:
    assert debugfs(built, "cat /etc/hostname") == "guest\n"
    assert debugfs(built, "cat /usr/größe") == "unicode"
    assert "Mode:  04755" in debugfs(built, "stat /usr/tool")
    assert "Mode:  0755" in debugfs(built, "stat /")
    assert 'Fast link dest: "hostname"' in debugfs(built, "stat /etc/link")
    inodes = {debugfs(built, f"stat /etc/{name}").split()[1] for name in ("hostname", "hard")}
    assert len(inodes) == 1
    assert "kept" in debugfs(built, "ea_get /etc/secret user.note")
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755


def test_times_do_not_come_from_the_build_host(built: tuple[Path, DiskReport]) -> None:
    text = debugfs(built, "stat /etc/secret")
    times = {
        line.split(":")[0].strip(): int(line.split(":")[1], 16)
        for line in text.splitlines()
        if "time:" in line
    }
    assert times == {"ctime": EPOCH, "atime": EPOCH, "mtime": 1_600_000_000, "crtime": EPOCH}


@as_root
def test_owners_capabilities_and_acls_survive(
    built: tuple[Path, DiskReport], tmp_path: Path
) -> None:
    secret = debugfs(built, "stat /etc/secret")
    assert "User:  1001" in secret
    assert "Group:  1002" in secret
    value = tmp_path / "value"
    debugfs(built, f"ea_get -f {value} /usr/größe security.capability")
    assert value.read_bytes() == CAPABILITY
    acl = debugfs(built, "ea_list /etc/hostname")
    assert "system.posix_acl_access" in acl


def test_bios_boot_code(built: tuple[Path, DiskReport], tree: Path) -> None:
    raw, report = built
    bios = report.partitions[0]
    with raw.open("rb") as file:
        mbr = file.read(SECTOR)
        file.seek(bios.offset)
        core = file.read(1600)
    assert mbr[:2] == b"\xeb\x63"
    assert struct.unpack_from("<Q", mbr, 0x5C) == (bios.first_lba,)
    assert mbr[0x66:0x68] == b"\x90\x90"
    assert struct.unpack_from("<Q", core, 0x1F4) == (bios.first_lba + 1,)
    original = (tree / "boot/grub/i386-pc/core.img").read_bytes()
    assert core[:0x1F4] + original[0x1F4:0x1FC] + core[0x1FC:] == original


def esp(raw: Path, report: DiskReport, tool: str, *args: str) -> bytes:
    offset = next(p.offset for p in report.partitions if p.name == "esp")
    env = base_env(MTOOLS_SKIP_CHECK="1")
    return run([tool, "-i", f"{raw}@@{offset}", *args], env=env).stdout


def test_efi_system_partition(built: tuple[Path, DiskReport], tree: Path) -> None:
    raw, report = built
    loader = esp(raw, report, "mtype", "::/EFI/BOOT/BOOTX64.EFI")
    assert loader == (tree / "boot/grub/x86_64-efi/core.efi").read_bytes()
    listing = esp(raw, report, "mdir", "::/EFI/BOOT").decode()
    assert listing.count("2023-11-14  22:13") == 3
    assert "Volume in drive : is ESP" in listing
    # FAT32 by its own boot sector, which also names its place on the disk.
    with raw.open("rb") as file:
        file.seek(report.partitions[1].offset)
        boot = file.read(SECTOR)
        file.seek(report.partitions[1].offset + 6 * SECTOR)
        assert file.read(SECTOR) == boot  # the backup, which fsck.vfat compares
    assert boot[82:90] == b"FAT32   "
    assert boot[446:] == bytes(64) + b"\x55\xaa"  # no table nested in the partition
    assert struct.unpack_from("<I", boot, 28) == (report.partitions[1].first_lba,)


def test_arm64_boots_by_efi_alone(tree: Path, tmp_path: Path) -> None:
    spec = DiskSpec(SPEC.size, SPEC.label, "arm64", EPOCH, SPEC.seed)
    raw = tmp_path / "arm64.raw"
    report = make_disk(tree, raw, spec, tmp_path)
    assert [(p.name, p.type_guid) for p in gpt.read(raw)] == [
        ("esp", TYPE_ESP),
        ("root", TYPE_ROOT["arm64"]),
    ]
    loader = esp(raw, report, "mtype", "::/EFI/BOOT/BOOTAA64.EFI")
    assert loader.startswith(b"MZ arm64")
    with raw.open("rb") as file:
        assert file.read(440) == bytes(440)


def test_where_files_have_holes_does_not_matter(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with (tree / "usr/sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.write(b"start")
    os.utime(tree / "usr/sparse", (EPOCH, EPOCH))
    images = []
    for how in ("always", "never"):
        copy, raw = tmp_path / how, tmp_path / f"{how}.raw"
        run(["cp", "-a", f"--sparse={how}", tree, copy])
        report = make_disk(copy, raw, SPEC, tmp_path)
        images.append(raw)
    blocks = [(tmp_path / how / "usr/sparse").stat().st_blocks for how in ("always", "never")]
    assert blocks[0] < blocks[1]
    run(["cmp", *images])
    root = tmp_path / "root.ext4"
    with images[0].open("rb") as file:
        file.seek(report.root_offset)
        root.write_bytes(file.read(report.root_bytes))
    run(["e2fsck", "-fn", root])
    # Also by a copy of the superblock, which has a checksum of its own.
    for copy_at in ("0", "32768"):
        options = ["-o", f"superblock={copy_at}", "-o", "blocksize=4096"] if copy_at != "0" else []
        text = run(["dumpe2fs", "-h", *options, root]).stdout.decode()
        assert "Checksum:" in text
        assert "Lifetime writes" not in text


def test_same_input_same_bytes(built: tuple[Path, DiskReport], tree: Path, tmp_path: Path) -> None:
    # FAT counts in steps of two seconds. Reading and a changed mode leave other access
    # and change times behind, which must not show.
    time.sleep(2.1)
    (tree / "usr/tool").read_bytes()
    (tree / "usr/tool").chmod(0o755)
    (tree / "usr/tool").chmod(0o4755)
    raw = tmp_path / "again.raw"
    make_disk(tree, raw, SPEC, tmp_path)
    run(["cmp", raw, built[0]])


def test_another_seed_gives_other_identities(
    built: tuple[Path, DiskReport], tree: Path, tmp_path: Path
) -> None:
    spec = DiskSpec(SPEC.size, SPEC.label, SPEC.arch, EPOCH, "5eed")
    report = make_disk(tree, tmp_path / "other.raw", spec, tmp_path)
    ids = {p.unique_guid for p in report.partitions}
    assert not ids & {p.unique_guid for p in built[1].partitions}
    assert spec.derive_uuid("root-filesystem") != SPEC.derive_uuid("root-filesystem")


def test_order_of_the_directory_does_not_matter(tmp_path: Path) -> None:
    """Names are read sorted, whatever order the host's filesystem keeps."""
    images = []
    for name, order in (("up", range(60)), ("down", range(59, -1, -1))):
        tree = make_tree(tmp_path / name)
        (tree / "usr/tool").write_bytes(b"the same")
        for i in order:
            (tree / f"usr/f{i}").write_text(str(i))
        for path in [tree, *tree.rglob("*")]:
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
        images.append(tmp_path / f"{name}.raw")
        make_disk(tree, images[-1], SPEC, tmp_path)
    run(["cmp", *images])


def fill(tree: Path, mib: int) -> Path:
    (tree / "usr/data").write_bytes(os.urandom(MIB) * mib)
    return tree


def test_too_small_names_a_size_that_does(tmp_path: Path) -> None:
    tree = fill(make_tree(tmp_path / "tree"), 120)
    raw = tmp_path / "disk.raw"
    spec = DiskSpec(200 * MIB, "test-root", "amd64", EPOCH, "c0ffee")
    with pytest.raises(BuildError, match=r"does not fit on a disk of 200 MiB") as error:
        make_disk(tree, raw, spec, tmp_path)
    assert "(123 MiB in" in error.value.what
    least = int(error.value.what.split()[-2])
    assert f"{least}M" in error.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]

    enough = DiskSpec(least * MIB, "test-root", "amd64", EPOCH, "c0ffee")
    report = make_disk(tree, raw, enough, tmp_path)
    assert raw.stat().st_size == least * MIB
    # "smallest" is meant: not much more than the filesystem's own needs is left.
    assert report.free_bytes < 16 * MIB


def test_too_many_files_count_as_too_small(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    # 153 MiB of root filesystem hold about 9,800 inodes.
    for i in range(100):
        (tree / f"usr/{i}").mkdir()
        for j in range(105):
            (tree / f"usr/{i}/{j}").touch()
    with pytest.raises(BuildError, match="does not fit") as error:
        make_disk(tree, tmp_path / "disk.raw", SPEC, tmp_path)
    least = int(error.value.what.split()[-2])
    assert 220 < least < 260
    make_disk(
        tree,
        tmp_path / "disk.raw",
        DiskSpec(least * MIB, "test-root", "amd64", EPOCH, "c0ffee"),
        tmp_path,
    )
    assert gpt.read(tmp_path / "disk.raw")[-1].name == "root"


@pytest.mark.parametrize("size", [64, 67, 100])
def test_no_room_for_any_root(tree: Path, tmp_path: Path, size: int) -> None:
    spec = DiskSpec(size * MIB, "test-root", "amd64", EPOCH, "c0ffee")
    with pytest.raises(BuildError, match=f"on a disk of {size} MiB; the smallest"):
        make_disk(tree, tmp_path / "disk.raw", spec, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mke2fs_running_out_of_room_is_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What measuring cannot foresee ends in the same message, and nothing is left."""
    copy = fill(make_tree(tmp_path / "tree"), 100)
    monkeypatch.setattr(ext4, "fits", lambda *_: True)
    spec = DiskSpec(200 * MIB, "test-root", "amd64", EPOCH, "c0ffee")
    with pytest.raises(BuildError, match="the smallest disk") as error:
        make_disk(copy, tmp_path / "disk.raw", spec, tmp_path)
    assert "Could not allocate" in error.value.detail
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize(
    ("arch", "missing"),
    [
        ("amd64", "boot/grub/i386-pc/boot.img"),
        ("amd64", "boot/grub/i386-pc/core.img"),
        ("amd64", "boot/grub/x86_64-efi/core.efi"),
        ("arm64", "boot/grub/arm64-efi/core.efi"),
    ],
)
def test_a_missing_boot_file_names_file_and_element(
    tmp_path: Path, arch: str, missing: str
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / missing).unlink()
    spec = DiskSpec(SPEC.size, SPEC.label, arch, EPOCH, SPEC.seed)
    with pytest.raises(BuildError, match=f"lacks {missing}") as error:
        make_disk(tree, tmp_path / "disk.raw", spec, tmp_path)
    assert "imagebuild-boot" in error.value.hint
    assert not (tmp_path / "disk.raw").exists()


def test_core_image_larger_than_its_partition(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "boot/grub/i386-pc/core.img").write_bytes(bytes(MIB + 1))
    with pytest.raises(BuildError, match=r"core\.img is not what GRUB makes"):
        make_disk(tree, tmp_path / "disk.raw", SPEC, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


def test_bad_spec_is_refused(tree: Path, tmp_path: Path) -> None:
    for spec, complaint in (
        (DiskSpec(SPEC.size + 1, "l", "amd64", EPOCH, "s"), "whole MiB"),
        (DiskSpec(SPEC.size, "a-label-of-17-chr", "amd64", EPOCH, "s"), "label"),
        (DiskSpec(SPEC.size, "l", "riscv64", EPOCH, "s"), "riscv64"),
    ):
        with pytest.raises(BuildError, match=complaint):
            make_disk(tree, tmp_path / "disk.raw", spec, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tree_is_not_written_to(tree: Path, tmp_path: Path) -> None:
    before = {p: (p.lstat().st_ctime_ns, p.lstat().st_size) for p in tree.rglob("*")}
    make_disk(tree, tmp_path / "disk.raw", SPEC, tmp_path)
    assert {p: (p.lstat().st_ctime_ns, p.lstat().st_size) for p in tree.rglob("*")} == before
