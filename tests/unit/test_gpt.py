"""The partition table is written as the UEFI specification says, and damage is noticed."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, VerifyError
from imagebuild.host.run import run, which
from imagebuild.stages import gpt
from imagebuild.stages.gpt import SECTOR, Partition

MIB = 1 << 20
DISK = uuid.UUID("11111111-2222-4333-8444-555555555555")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def partition(name: str, first_mib: int, size_mib: int, attributes: int = 0) -> Partition:
    return Partition(
        name,
        LINUX,
        uuid.uuid5(DISK, name),
        first_mib * MIB // SECTOR,
        (first_mib + size_mib) * MIB // SECTOR - 1,
        attributes,
    )


PARTITIONS = [partition("first", 1, 2, 4), partition("zweite Größe", 3, 4)]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    gpt.write(path, DISK, PARTITIONS)
    return path


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_what_is_written_is_read_back(disk: Path) -> None:
    assert gpt.read(disk) == PARTITIONS
    assert gpt.read(disk)[1].offset == 3 * MIB
    assert gpt.read(disk)[1].size == 4 * MIB


def test_the_protective_mbr_covers_the_disk(disk: Path) -> None:
    sector = disk.read_bytes()[:SECTOR]
    assert sector[446:462] == bytes.fromhex("00000200eeffffff01000000") + (
        8 * MIB // SECTOR - 1
    ).to_bytes(4, "little")
    assert sector[462:510] == bytes(48)


def test_boot_code_is_left_alone(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(b"x" * gpt.BOOT_CODE_SIZE)
    gpt.write(disk, DISK, PARTITIONS)
    assert disk.read_bytes()[: gpt.BOOT_CODE_SIZE] == b"x" * gpt.BOOT_CODE_SIZE


@pytest.mark.parametrize(
    ("offset", "complaint"),
    [
        (510, "no protective MBR"),
        (SECTOR, "sector 1 is missing"),
        (SECTOR + 56, "sector 1 has a wrong checksum"),
        (2 * SECTOR + 40, "array of the GPT header in sector 1 has a wrong checksum"),
        (8 * MIB - 33 * SECTOR, "array of the GPT header in sector 16383 has a wrong"),
        (8 * MIB - SECTOR + 56, "sector 16383 has a wrong checksum"),
    ],
)
def test_one_flipped_bit_is_noticed(disk: Path, offset: int, complaint: str) -> None:
    flip(disk, offset)
    with pytest.raises(VerifyError) as error:
        gpt.read(disk)
    assert complaint in error.value.detail


def test_a_truncated_disk_is_noticed(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.truncate(7 * MIB)
    with pytest.raises(VerifyError):
        gpt.read(disk)


def test_overlapping_partitions_are_refused(disk: Path) -> None:
    with pytest.raises(BuildError, match="second does not fit"):
        gpt.write(disk, DISK, [partition("first", 1, 2), partition("second", 2, 2)])


def test_the_end_of_the_disk_belongs_to_the_backup(disk: Path) -> None:
    with pytest.raises(BuildError, match="tail does not fit"):
        gpt.write(disk, DISK, [partition("tail", 1, 7)])


@pytest.mark.skipif(which("sfdisk") is None, reason="sfdisk is not installed")
def test_sfdisk_reads_the_same(disk: Path) -> None:
    table = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert table["id"].lower() == str(DISK)
    assert table["lastlba"] == gpt.last_usable_lba(8 * MIB)
    assert [
        (p["start"], p["size"], p["uuid"].lower(), p["type"].lower(), p["name"])
        for p in table["partitions"]
    ] == [
        (p.first_lba, p.size // SECTOR, str(p.unique_guid), str(LINUX), p.name) for p in PARTITIONS
    ]


@pytest.mark.skipif(which("sgdisk") is None, reason="sgdisk is not installed")
def test_sgdisk_finds_no_problem(disk: Path) -> None:
    assert b"No problems found" in run(["sgdisk", "-v", disk]).stdout
