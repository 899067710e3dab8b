"""Debian with what Trove's Dockerfile asks for, in a registry: the base of backup images.

It stands in for the image that Trove's own ones are made from, which is not to be had here. All
packages but the databases' own tools are in it, so that a build has little left to install.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from imagebuild.host.run import need, run
from tests.container_images import Image, image
from tests.databases.images import make_image
from tests.databases.recipes import Recipe

#: Its name and tag in a registry.
NAME = "trove/debian:bookworm"


_PROGRAMS = ("dash", "env", "sleep", "mktemp", "chmod", "cat", "cp", "cmp", "mv", "rm", "sed", "ls")


class _Base(Recipe):
    """A recipe that leaves the system whole: packages are installed on it."""

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("/var/lib/apt/lists/*", "/var/cache/apt/*.bin", "/var/cache/apt/archives/*.deb",
                "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")  # fmt: skip


BASE = _Base(
    "backup-base",
    "12",
    # Those of the Dockerfile's own steps.
    ("apt", "gnupg2", "lsb-release", "apt-utils", "apt-transport-https", "ca-certificates",
     "software-properties-common", "curl", "netbase", "python3", "python3-venv", "dumb-init"),
    entrypoint=(),
    command=("/bin/sh",),
    environment={"LANG": "C.UTF-8"},
)  # fmt: skip


def make_base(directory: Path) -> Image:
    """Make it, or take it from `directory`, where it is kept. Raises as make_image does."""
    # No descriptions of packages in other languages, no waiting for the disk.
    settings = b'Acquire::Languages "none";\n'
    unsafe = b"force-unsafe-io\n"
    return make_image(
        BASE, directory,
        {"etc/apt/apt.conf.d/90test": settings, "etc/dpkg/dpkg.cfg.d/90test": unsafe},
    )  # fmt: skip


def make_small_base() -> Image:
    """A shell and a few programs of this host's, for builds that install nothing."""
    files = {}
    for name in _PROGRAMS:
        program = Path(need(name)).resolve()
        libraries = run(["ldd", program]).stdout.decode()
        for path in (program, *map(Path, re.findall(r"(/\S+) \(0x", libraries))):
            files[str(path).lstrip("/")] = path.read_bytes()
        files[f"usr/bin/{name}"] = program.read_bytes()
    files["bin/sh"] = files["usr/bin/dash"]
    return image([_layer(files)], config={"Env": ["PATH=/usr/bin:/bin"]})


def _layer(files: Mapping[str, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, mode in (("tmp", 0o1777), ("opt", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), 1, mtime=0)
