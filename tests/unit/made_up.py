"""A made-up root filesystem and artifacts of it, by the code that makes real ones."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from imagebuild import artifact, components, inventory, sbom
from imagebuild.inputs import Inputs
from imagebuild.plan import content_of
from imagebuild.stages import trees
from imagebuild.stages.collect import collect
from tests.unit.test_plan import make_agent, make_inputs, plan_of

TIME = 1_600_000_000
SITE = "opt/guest-agent-venv/lib/python3.11/site-packages"

STATUS = """\
Package: dpkg
Status: install ok installed
Maintainer: Dpkg Developers <debian-dpkg@lists.debian.org>
Installed-Size: 7
Architecture: amd64
Version: 1.21.22

Package: libstdc++6
Status: install ok installed
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Installed-Size: 3
Architecture: amd64
Multi-Arch: same
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 1:12.2.0-14+deb12u1
Homepage: http://gcc.gnu.org/

Package: libstdc++6
Status: install ok installed
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Installed-Size: 3
Architecture: i386
Multi-Arch: same
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 1:12.2.0-14+deb12u1

Package: zlib1g
Status: install ok installed
Maintainer: Mark Brown <broonie@debian.org>
Installed-Size: 2
Architecture: amd64
Source: zlib
Version: 1:1.2.13.dfsg-1
Homepage: not a web address

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: Zlib

Files: debian/*
Copyright: somebody else
License: GPL-2+ or Expat

License: GPL-2+
 text
"""
METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
License-Expression: Apache-2.0
Author-email: Open Stack <openstack-discuss@lists.openstack.org>
Project-URL: Homepage, https://docs.example/{name}
"""
FILES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n",
    "usr/bin/dpkg": "d" * 5000,
    "usr/bin/dpkg.real": "r" * 300,
    "usr/lib/libz.so.1": "z" * 2000,
    "usr/lib/libstdc++.so.6": "s" * 900,
    "usr/lib/i386/libstdc++.so.6": "t" * 800,
    "usr/share/doc/zlib1g/copyright": COPYRIGHT,
    "boot/initrd.img": "i" * 4000,
    f"{SITE}/oslo_x/__init__.py": "x" * 100,
    f"{SITE}/oslo_x/__pycache__/__init__.cpython-311.pyc": "y" * 150,
    f"{SITE}/oslo.x-1.0.dist-info/METADATA": METADATA.format(name="oslo.x", version="1.0"),
    f"{SITE}/oslo.x-1.0.dist-info/RECORD": (
        "oslo_x/__init__.py,sha256=abc,100\noslo.x-1.0.dist-info/METADATA,,\n"
        "oslo.x-1.0.dist-info/RECORD,,\n../../../bin/oslo-x,,\n"
    ),
    f"{SITE}/trove-25.0.0.dist-info/METADATA": METADATA.format(name="trove", version="25.0.0"),
    "opt/guest-agent-venv/bin/oslo-x": "#!",
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/diversions": "/usr/bin/dpkg\n/usr/bin/dpkg.real\nzlib1g\n",
    "var/lib/dpkg/info/dpkg.list": "/.\n/usr\n/usr/bin\n/usr/bin/dpkg\n",
    "var/lib/dpkg/info/libstdc++6:amd64.list": "/usr/lib/libstdc++.so.6\n/usr/share/doc\n",
    "var/lib/dpkg/info/libstdc++6:i386.list": (
        "/usr/lib/i386/libstdc++.so.6\n/usr/lib/libstdc++.so.6\n"
    ),
    # By the old path, which a link leads away from.
    "var/lib/dpkg/info/zlib1g.list": "/lib/libz.so.1\n/usr/share/doc/zlib1g/copyright\n"
    "/usr/bin/dpkg\n/lib/libz.so.2\n/x\n",
}
LINKS = {
    "lib": "usr/lib",
    "usr/share/doc/libstdc++6": "zlib1g",
    "usr/share/doc/dpkg": "/usr/share/doc/libstdc++6",
    "etc/systemd/system/multi-user.target.wants/guest-agent.service": "../guest-agent.service",
    "etc/systemd/system/sockets.target.wants/docker.socket": "/lib/systemd/system/docker.socket",
    "etc/systemd/system/apt-daily.timer": "/dev/null",
    "etc/systemd/system/sshd.service": "/lib/systemd/system/ssh.service",
}


def make_tree(tree: Path, **changes: str | None) -> Path:
    """The tree. `changes` maps paths to other content, None leaves the file out."""
    for name, text in {**FILES, **changes}.items():
        if text is not None:
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name, target in LINKS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(target)
    os.link(tree / "usr/lib/libz.so.1", tree / "usr/lib/libz.so.2")
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    return tree


def make_artifact(
    tree: Path,
    place: Path,
    *sets: str,
    image: str = "image",
    inputs: Inputs | None = None,
    **content: Any,  # noqa: ANN401 - parts of the manifest's content
) -> Path:
    """The artifact of a tree, below `place`, with one image; returns its directory.

    `sets` are KEY=VALUE of the profile. Owners are made root's, whoever runs this.
    """
    inputs = inputs or make_inputs(*sets, agent=make_agent())
    plan = plan_of(inputs)
    directory = place / plan.name
    directory.mkdir(parents=True)
    entries = [dataclasses.replace(e, uid=0, gid=0) for e in inventory.walk(tree)]
    rootfs = inventory.write(entries, directory / inventory.FILE_NAME)
    made_of = collect(tree, entries, rootfs.sha256)
    components.write(made_of, directory / components.FILE_NAME)
    described = {
        "content": content_of(plan, inputs) | trees.package_lists(tree) | content,
        "rootfs": rootfs.to_json(),
    }
    described["content"]["agent"]["wheels"] = {"trove": "8" * 64}
    file = directory / f"{plan.name}.qcow2"
    file.write_text(image)
    document = artifact.manifest(plan, inputs, described, [file])
    sbom.write(directory, document, made_of, inputs.epoch)
    stages = [{"stage": "base", "seconds": 61.5, "reused": False}]
    stages += [{"stage": s, "seconds": 0.1, "reused": s == "agent"} for s in ("agent", "disk")]
    artifact.write_description(directory, document)
    artifact.write_json(directory / "timing.json", {"seconds": 70, "stages": stages})
    return directory
