"""What building and booting need of the host: facts; imagebuild.doctor looks for them."""

from __future__ import annotations

#: program -> Debian and Ubuntu package that brings it.
BUILD_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    # DIB asks debootstrap for its version even where mmdebstrap does the work.
    "debootstrap": "debootstrap",
    # mmdebstrap works with the host's; other distributions do not have them by nature.
    "apt-get": "apt",
    "dpkg": "dpkg",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "findmnt": "util-linux",
    "mount": "mount",
    "chroot": "coreutils",
    "ps": "procps",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "lsattr": "e2fsprogs",
    "mformat": "mtools",
    "mcopy": "mtools",
    "qemu-img": "qemu-utils",
}

#: The same for booting an image; of programs in one key, one is enough.
BOOT_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "genisoimage|xorriso": "genisoimage",
}

#: The same for a control plane, which the levels agent and database of a verification have
#: beside the machine.
VERIFY_TOOLS = {
    "rabbitmq-server": "rabbitmq-server",
    "epmd": "rabbitmq-server",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-server",
    "setpriv": "util-linux",
}

#: distribution's registry, which `mirror serve` starts, as Debian and as upstream call it.
REGISTRY_PROGRAMS = ("docker-registry", "registry")

#: Debian's architecture -> what `uname -m` says, and wheels' platform tags.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

#: Space that a build uses at its peak, in bytes: two trees, the sparse disk, the images,
#: and DIB's copy while it works.
SCRATCH_SPACE = 6 << 30
