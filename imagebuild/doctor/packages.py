"""What packages are called, and how they are installed, on the families of distributions.

Debian's names are ours. Fedora's come from its own spec files and from the package lists
of other tools that compose Debian trees on Fedora.
"""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterable, Mapping


class Family(str, enum.Enum):
    """Distributions that share package names."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    FEDORA = "fedora"
    OTHER = "other"

    def __str__(self) -> str:
        return self.value


_NAMES: Mapping[Family, Mapping[str, str]] = {
    # Debian packages Ubuntu's keys under the name of what they are.
    Family.DEBIAN: {"ubuntu-keyring": "ubuntu-archive-keyring"},
    Family.UBUNTU: {},
    Family.FEDORA: {
        "binfmt-support": "",  # systemd's own, there
        "debian-archive-keyring": "debian-keyring",
        "docker-registry": "docker-distribution",
        "docker.io": "moby-engine",
        "genisoimage": "xorriso",
        "gnupg": "gnupg2",
        "gpgv": "gnupg2",
        "mount": "util-linux",
        "ovmf": "edk2-ovmf",
        "procps": "procps-ng",
        "python3-venv": "python3",
        "qemu-system-x86": "qemu-system-x86-core",
        "qemu-utils": "qemu-img",
        "ubuntu-keyring": "ubu-keyring",
    },
    Family.OTHER: {},
}


def family(os_release: Mapping[str, str]) -> Family:
    """The family that os-release(5) tells of: by ID, else by ID_LIKE."""
    for name in (os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()):
        if name in (Family.DEBIAN, Family.UBUNTU):
            return Family(name)
        if name in ("fedora", "rhel", "centos"):
            return Family.FEDORA
    return Family.OTHER


def local_names(names: Iterable[str], where: Family) -> list[str]:
    """Debian's names in a family's own words, sorted, each once."""
    return sorted({_NAMES[where].get(n, n) for n in names} - {""})


def install_command(names: Iterable[str], where: Family, *, is_root: bool = True) -> str:
    """The command that installs all of `names` (Debian's names)."""
    local = shlex.join(local_names(names, where))
    sudo = "" if is_root else "sudo "
    if where is Family.FEDORA:
        return f"{sudo}dnf install {local}"
    if where is Family.OTHER:
        return f"install, by Debian's names: {local}"
    return f"{sudo}apt-get install {local}"
