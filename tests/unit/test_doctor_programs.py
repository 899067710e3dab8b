"""Python, programs, versions; and what packages are called."""

from __future__ import annotations

import pytest

from imagebuild.doctor.check import Level, Need
from imagebuild.doctor.examine import examine, remedies, remedy
from imagebuild.doctor.packages import Family, family, install_command, local_names
from tests.unit.doctor_host import OS_RELEASE, VERSIONS, Described, Facts, found, profile, subject
from tests.unit.doctor_host import the_one as one

ALL = Facts().programs


@pytest.mark.parametrize(
    ("name", "expected"),
    [("debian", "debian"), ("ubuntu", "ubuntu"), ("fedora", "fedora"), ("mint", "ubuntu"),
     ("rocky", "fedora"), ("arch", "other")],
)  # fmt: skip
def test_family_of_a_distribution(name: str, expected: str) -> None:
    assert family(OS_RELEASE[name]) == Family(expected)
    assert family({}) is Family.OTHER


def test_a_package_is_named_once_in_each_family_s_words() -> None:
    names = ["gnupg", "gpgv", "ubuntu-keyring", "qemu-utils"]
    assert local_names(names, Family.FEDORA) == ["gnupg2", "qemu-img", "ubu-keyring"]
    assert "ubuntu-archive-keyring" in local_names(names, Family.DEBIAN)
    assert "ubuntu-keyring" in local_names(names, Family.UBUNTU)
    assert install_command(["mtools"], Family.FEDORA, is_root=False) == "sudo dnf install mtools"


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        ("debian", "apt-get install e2fsprogs gpgv procps qemu-utils"),
        ("ubuntu", "apt-get install e2fsprogs gpgv procps qemu-utils"),
        ("fedora", "dnf install e2fsprogs gnupg2 procps-ng qemu-img"),
        ("arch", "install, by Debian's names: e2fsprogs gpgv procps qemu-utils"),
    ],
)
def test_missing_programs(distribution: str, command: str) -> None:
    without = ALL - {"mke2fs", "debugfs", "gpgv", "qemu-img", "ps"}
    host = Described(Facts(distribution, programs=without))
    finding = one(host, "build-programs", Level.MISSING)
    assert finding.what == "5 programs that a build needs are not installed"
    assert finding.detail == "ps, gpgv, mke2fs, debugfs, qemu-img"
    assert remedies(host, [finding]) == [command]


def test_git_is_needed_for_an_agent_from_git_alone() -> None:
    host = Described(Facts(programs=ALL - {"git"}))
    assert found(host, "build-programs")[0].level is Level.OK
    source = profile(agent__source="git+https://g.example/trove@main")
    finding = one(host, "build-programs", Level.MISSING, subject(of=source))
    assert (finding.detail, finding.install) == ("git", ("git",))


@pytest.mark.parametrize(
    ("distribution", "command"),
    [("debian", "apt-get install genisoimage qemu-system-x86"),
     ("fedora", "dnf install qemu-system-x86-core xorriso")],
)  # fmt: skip
def test_missing_boot_programs(distribution: str, command: str) -> None:
    lost = {"qemu-system-x86_64", "genisoimage", "xorriso"}
    host = Described(Facts(distribution, programs=ALL - lost))
    finding = one(host, "boot-programs", Level.MISSING)
    assert finding.detail == "qemu-system-x86_64, genisoimage or xorriso"
    assert remedy(host, finding) == command
    with_one = Described(Facts(distribution, programs=ALL - {"genisoimage"}))
    assert found(with_one, "boot-programs")[0].level is Level.OK


def test_missing_services_of_a_verification() -> None:
    host = Described(Facts("debian", programs=ALL - {"rabbitmq-server", "epmd", "mariadbd"}))
    finding = one(host, "verify-programs", Level.MISSING, subject(Need.VERIFY))
    assert finding.detail == "rabbitmq-server, epmd, mariadbd"
    assert finding.prevents == "verifying an agent and its database"
    assert remedy(host, finding) == "apt-get install mariadb-server rabbitmq-server"
    report = examine(host, subject(Need.BUILD, Need.VERIFY), ask_network=False)
    assert report.prevented == [Need.VERIFY]


def test_python_that_is_too_old() -> None:
    finding = one(Described(Facts(python=(3, 9, 18))), "python", Level.MISSING)
    assert finding.what == "Python 3.9.18 is too old"


@pytest.mark.parametrize(
    ("version", "what"),
    [("3.42.1", "diskimage-builder 3.42.1 is too old"),
     (None, "diskimage-builder is not installed")],
)  # fmt: skip
def test_dib_that_is_too_old_or_absent(version: str | None, what: str) -> None:
    finding = one(Described(Facts(dib=version)), "diskimage-builder", Level.MISSING)
    assert finding.what == what
    assert finding.run == ("python3 -m pip install 'diskimage-builder>=3.43'",)


def test_qemu_img_without_zstd_is_missed_where_zstd_is_wanted() -> None:
    old = Described(Facts(versions=VERSIONS | {"qemu-img": "qemu-img version 4.2.1"}))
    finding = one(old, "versions", Level.MISSING)
    assert finding.what == "qemu-img 4.2.1 is too old"
    assert "--set compression=zlib" in finding.advice
    for does_without in (profile(compression="zlib"), profile(formats=["raw"])):
        levels = {f.level for f in found(old, "versions", subject(of=does_without))}
        assert levels == {Level.OK}


@pytest.mark.parametrize(
    ("program", "says"), [("mmdebstrap", "mmdebstrap 0.7.5"), ("mke2fs", "mke2fs 1.42.9")]
)
def test_programs_that_are_too_old(program: str, says: str) -> None:
    host = Described(Facts(versions=VERSIONS | {program: says}))
    assert one(host, "versions", Level.MISSING).what == f"{says} is too old"


def test_a_program_without_a_version_is_only_a_warning() -> None:
    host = Described(Facts(versions=VERSIONS | {"mke2fs": "?"}))
    assert one(host, "versions", Level.WARNING).what == "mke2fs does not say its version"
