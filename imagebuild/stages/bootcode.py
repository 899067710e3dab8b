"""Boot code on a disk image: GRUB for BIOS, and the EFI system partition.

grub-install and grub-bios-setup want block devices, so their work is done here on a
plain file. The code itself comes from the image's own GRUB: the element imagebuild-boot
leaves it in the tree.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, need, run
from imagebuild.stages.gpt import BOOT_CODE_SIZE, SECTOR, Partition

#: The element that puts the files below into a tree.
ELEMENT = "imagebuild-boot"

# Places that GRUB's installer patches: include/grub/i386/pc/boot.h of GRUB's source.
_BOOT_KERNEL_SECTOR = 0x5C  # boot.img: first sector of core.img, 64 bits
_BOOT_DRIVE_CHECK = 0x66  # boot.img: a jump that distrusts the BIOS's drive number
_CORE_BLOCKLIST = SECTOR - 12  # core.img: second sector of core.img, 64 bits
_NOP_NOP = b"\x90\x90"

_MBR_TABLE = 446
_MBR_TABLE_SIZE = 64
_FAT32_BACKUP_SECTOR = 6


@dataclass(frozen=True)
class BootFiles:
    """Boot code in a tree, as paths; `boot` and `core` only where a BIOS exists."""

    efi: Path
    efi_name: str
    boot: Path | None = None
    core: Path | None = None


def find_boot_files(tree: Path, arch: str) -> BootFiles:
    """The boot code of the architecture ("amd64" or "arm64") in `tree`.

    Raises BuildError naming the first file that is missing and the element it is from.
    """
    grub = tree / "boot/grub"
    if arch == "arm64":
        files = BootFiles(grub / "arm64-efi/core.efi", "BOOTAA64.EFI")
    elif arch == "amd64":
        files = BootFiles(
            grub / "x86_64-efi/core.efi", "BOOTX64.EFI",
            boot=grub / "i386-pc/boot.img", core=grub / "i386-pc/core.img",
        )  # fmt: skip
    else:
        raise BuildError(f"there is no boot code for the architecture {arch}")
    for path in (files.boot, files.core, files.efi):
        if path is not None and not path.is_file():
            raise BuildError(
                f"the tree lacks {path.relative_to(tree)}",
                where=str(tree),
                detail=f"the element {ELEMENT} makes this file in finalise.d",
                hint=f"add {ELEMENT} to the elements of the image",
            )
    return files


def write_bios(disk: Path, partition: Partition, files: BootFiles) -> None:
    """Put boot.img into the first sector and core.img into the BIOS boot partition.

    Does for GPT what grub-bios-setup does: tells boot.img where core.img starts, and
    core.img's first sector where the rest of it is. Raises BuildError when they are not
    what GRUB makes or do not fit.
    """
    if files.boot is None or files.core is None:
        raise BuildError("this architecture has no BIOS boot code", where=str(disk))
    boot = bytearray(files.boot.read_bytes())
    core = bytearray(files.core.read_bytes())
    if len(boot) != SECTOR:
        raise _unexpected(files.boot, f"it has {len(boot)} bytes, GRUB's has {SECTOR}")
    if not 2 * SECTOR <= len(core) <= partition.size:
        raise _unexpected(files.core, f"it has {len(core)} bytes, room is for {partition.size}")
    struct.pack_into("<Q", boot, _BOOT_KERNEL_SECTOR, partition.first_lba)
    boot[_BOOT_DRIVE_CHECK : _BOOT_DRIVE_CHECK + 2] = _NOP_NOP
    struct.pack_into("<Q", core, _CORE_BLOCKLIST, partition.first_lba + 1)
    with disk.open("r+b") as file:
        file.write(boot[:BOOT_CODE_SIZE])
        file.seek(partition.offset)
        file.write(core)


def write_esp(
    disk: Path, partition: Partition, files: BootFiles, *, serial: str, epoch: int, work: Path
) -> None:
    """Make the EFI system partition: FAT32 (UEFI specification 2.10, section 13.3).

    The boot code gets the name that firmware looks for on removable media (section
    3.5.1.1), since a new guest has no boot entries. `serial` is 8 hex digits.
    """
    image = f"{disk}@@{partition.offset}"
    # One sector a cluster: FAT32 by definition has at least 65,525 clusters.
    _mtools(
        epoch, "mformat", "-i", image, "-F", "-c", "1", "-h", "16", "-s", "63",
        "-T", str(partition.size // SECTOR), "-H", str(partition.first_lba),
        "-N", serial, "-v", "ESP", "::",
    )  # fmt: skip
    _erase_partition_table(disk, partition)
    _mtools(epoch, "mmd", "-i", image, "::/EFI", "::/EFI/BOOT")
    staged = work / files.efi_name
    staged.write_bytes(files.efi.read_bytes())
    os.utime(staged, (epoch, epoch))
    _mtools(epoch, "mcopy", "-m", "-i", image, str(staged), f"::/EFI/BOOT/{files.efi_name}")


def _erase_partition_table(disk: Path, esp: Partition) -> None:
    """Zero the partition table that mformat puts into the boot sector and its backup.

    GRUB in the guest would take it for a nested table and warn about it 24 times whenever
    update-grub runs.
    """
    with disk.open("r+b") as file:
        for sector in (0, _FAT32_BACKUP_SECTOR):
            file.seek(esp.offset + sector * SECTOR + _MBR_TABLE)
            file.write(bytes(_MBR_TABLE_SIZE))


def _mtools(epoch: int, tool: str, *args: str) -> None:
    """Run one of the mtools with the clock at the epoch and no configuration file."""
    env = base_env(SOURCE_DATE_EPOCH=str(epoch), MTOOLSRC="/dev/null", MTOOLS_SKIP_CHECK="1")
    run(
        [need(tool, "mtools"), *args],
        env=env,
        what=f"{tool} could not write the EFI system partition",
    )


def _unexpected(path: Path, why: str) -> BuildError:
    return BuildError(
        f"{path.name} is not what GRUB makes", where=str(path), detail=why,
        hint=f"look at what the element {ELEMENT} did in finalise.d",
    )  # fmt: skip
