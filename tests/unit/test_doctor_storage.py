"""Rights, mount options, filesystems, space and inodes; described, and on real mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.doctor.check import Level, Place
from imagebuild.doctor.host import Host, Mount, Usage
from imagebuild.doctor.places import places_of
from tests.unit.doctor_host import CACHE, GIB, Described, Facts, found, profile, subject
from tests.unit.doctor_host import the_one as one

IMAGES = Path("/srv/images")
RW = frozenset({"rw", "relatime"})
ROOMY = Usage(1, 90 * GIB, 10**7)


def mounted(fstype: str, *options: str) -> Described:
    return Described(Facts(mount=Mount("/home", fstype, RW | set(options))))


@pytest.mark.parametrize(("option", "undone"), [("nodev", "dev"), ("noexec", "exec"), ("ro", "rw")])
def test_mount_options_that_break_a_build(option: str, undone: str) -> None:
    finding = one(mounted("ext4", option), "filesystem", Level.MISSING)
    assert finding.what == f"the cache directory is mounted {option}"
    assert finding.where == str(CACHE)
    assert f"mount -o remount,{undone} /home" in finding.advice


def test_mount_options_that_do_not() -> None:
    assert found(mounted("ext4", "nosuid"), "filesystem")[0].what == "ext4 on /home"


@pytest.mark.parametrize("fstype", ["nfs4", "cifs", "9p", "vfat", "fuse.sshfs", "fuseblk"])
def test_filesystems_without_root_s_rights(fstype: str) -> None:
    finding = one(mounted(fstype), "filesystem", Level.MISSING)
    assert finding.what == f"the cache directory is on {fstype}"


def test_encrypted_directory() -> None:
    finding = one(mounted("ecryptfs"), "filesystem", Level.MISSING)
    assert "143 bytes" in finding.detail


@pytest.mark.parametrize(
    ("fstype", "says"), [("tmpfs", "trees take memory"), ("overlay", "overlays do not nest")]
)
def test_filesystems_that_are_poor(fstype: str, says: str) -> None:
    assert says in one(mounted(fstype), "filesystem", Level.WARNING).prevents


def test_scratch_and_store_belong_on_one_filesystem() -> None:
    host = Described(Facts(usage={"/": ROOMY, str(CACHE / "store"): Usage(2, 9 * GIB)}))
    finding = one(host, "filesystem", Level.WARNING)
    assert finding.where == f"{CACHE}/scratch, {CACHE}/store"


def test_every_place_that_cannot_be_written_is_named() -> None:
    host = Described(Facts(unwritable=frozenset({CACHE, IMAGES})))
    asked = subject(places=[Place("--images-dir", IMAGES)])
    bad = [f for f in found(host, "writable", asked) if f.level is Level.MISSING]
    assert [(f.where, f.advice) for f in bad] == [
        (str(CACHE), "choose another place with --cache-dir (IMAGEBUILD_CACHE_DIR)"),
        (str(IMAGES), "choose another place with --images-dir"),
    ]


def test_space_on_one_filesystem_is_the_build_s_alone() -> None:
    asked = subject(places=places_of(profile(), IMAGES))
    tight = Described(Facts(usage={"/": Usage(1, 6 * GIB, 10**7)}))
    assert [f.level for f in found(tight, "space", asked)] == [Level.OK]
    less = Described(Facts(usage={"/": Usage(1, 6 * GIB - 1, 10**7)}))
    finding = one(less, "space", Level.MISSING, asked)
    assert finding.detail == "6.0 GiB free, 6 GiB needed"


def test_copies_come_on_top() -> None:
    files = [Path("/home/me/a.qcow2"), Path("/home/me/b.raw")]
    asked = subject(places=places_of(profile(), IMAGES, files=files))
    host = Described(Facts(usage={"/": Usage(1, 9 * GIB, 10**7)}))
    assert one(host, "space", Level.MISSING, asked).detail == "9.0 GiB free, 10 GiB needed"


def test_another_filesystem_for_images_needs_room_for_them() -> None:
    usage = {"/": ROOMY, "/srv": Usage(2, GIB // 2, 10**7)}
    host = Described(Facts(usage=usage))
    asked = subject(places=places_of(profile(), IMAGES))
    finding = one(host, "space", Level.MISSING, asked)
    assert (finding.where, finding.detail) == (str(IMAGES), "0.5 GiB free, 1 GiB needed")
    small = subject(places=places_of(profile(disk__size="400M"), IMAGES))
    assert {f.level for f in found(host, "space", small)} == {Level.OK}


def test_inodes() -> None:
    few = Described(Facts(usage={"/": Usage(1, 90 * GIB, 5000)}))
    assert one(few, "inodes", Level.MISSING).detail == "5000 free, 100000 needed"
    uncounted = Described(Facts(usage={"/": Usage(1, 90 * GIB, None)}))
    assert found(uncounted, "inodes")[0].what == "inodes are not limited"


def test_temporary_directory() -> None:
    host = Described(Facts(usage={"/": ROOMY, "/tmp": Usage(3, 1 << 20, 10)}))
    finding = one(host, "temporary", Level.MISSING, subject())
    assert finding.detail == "1 MiB free, 64 MiB needed"
    roomy = Described(Facts(usage={"/": ROOMY, "/tmp": Usage(3, GIB, 10)}))
    assert found(roomy, "temporary", subject())[0].level is Level.OK
    # A boot, which is asked for by default here, puts the guest's disk there.
    assert one(roomy, "temporary", Level.MISSING).detail == "1024 MiB free, 2048 MiB needed"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, in a namespace of its own")
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("nodev", "the cache directory is mounted nodev"),
        ("noexec", "the cache directory is mounted noexec"),
        ("size=50m", "too little space for a build"),
        ("nr_inodes=100", "too few inodes for a build"),
    ],
)
def test_real_mounts_stop_a_build_before_it_changes_anything(
    tmp_path: Path, options: str, what: str
) -> None:
    size = "" if "size" in options else ",size=20g"
    script = 'mount -t tmpfs -o "$2" none "$1" && shift 2 && exec "$@"'
    cache = tmp_path / "cache"
    cache.mkdir()
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    build = [sys.executable, "-m", "imagebuild", "build", "debian", "bookworm",
             "--cache-dir", str(cache), "--images-dir", str(cache / "images"),
             "--mirror", "http://127.0.0.1:9/debian", "--keyring", str(keyring)]  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c",
         script + '; code=$?; ls -A "$0" >&2; exit $code', str(cache),
         str(cache), options + size, "sh", "-c",
         '"$@"; code=$?; echo "left: $(ls -A "$0")"; exit $code', str(cache), *build],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith(f"error: {what}\n  where: {cache}\n")
    assert done.stdout == "left: \n"


def test_the_mount_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    host = Host()
    assert host.mount(Path("/proc/self/nothing")) == host.mount(Path("/proc"))
    assert host.mount(Path("/proc")).fstype == "proc"
    assert host.existing(tmp_path / "a/b") == tmp_path
    assert host.usage(tmp_path / "a/b").device == tmp_path.stat().st_dev
