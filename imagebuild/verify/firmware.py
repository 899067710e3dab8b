"""What starts a machine before its bootloader does, and where the host has it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path

from imagebuild.errors import PreflightError


class Firmware(str, enum.Enum):
    """What starts the machine before the bootloader."""

    BIOS = "bios"
    UEFI = "uefi"


#: Debian's architecture -> (package, files of code and of the variables' template).
_UEFI: dict[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "amd64": (
        "ovmf",
        (
            ("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"),
            ("OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd"),
        ),
    ),
    "arm64": ("qemu-efi-aarch64", (("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd"),)),
}


def find_uefi(arch: str = "amd64", folder: Path = Path("/usr/share")) -> tuple[Path, Path]:
    """UEFI firmware without Secure Boot: code, and the template of its variables.

    Raises PreflightError naming the package that has it.
    """
    package, pairs = _UEFI[arch]
    for code, variables in pairs:
        if (folder / code).exists() and (folder / variables).exists():
            return folder / code, folder / variables
    raise PreflightError(
        f"there is no UEFI firmware for a machine of {arch}",
        where=str(folder),
        hint=f"apt-get install {package}",
    )
