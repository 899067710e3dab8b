"""An image's kernel and programs without its boot: a shell as init, some seconds after qemu's
start. For what is between host and guest, which no service of the guest takes part in.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from imagebuild.verify import probe
from imagebuild.verify.guest import Guest
from imagebuild.verify.machine import running
from imagebuild.verify.place import place
from imagebuild.verify.spec import MachineSpec
from tests.images.fs import ImageFs

#: No udev runs, so its names for the ports are made here; the cards are asked for their
#: addresses one after the other.
_INIT = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
modprobe -a virtio_net virtio_console
mkdir -p {directory} /dev/virtio-ports
for p in /sys/class/virtio-ports/*; do ln -s /dev/${{p##*/}} /dev/virtio-ports/$(cat $p/name); done
for n in $(cd /sys/class/net && ls -d e*); do
  ip link set $n up; dhclient -1 -lf /run/$n -pf /run/$n.pid $n
done
{shell}
"""


@contextmanager
def tiny_guest(spec: MachineSpec, fs: ImageFs, directory: Path) -> Iterator[Guest]:
    """The guest of a machine with `spec`, whose image `fs` is; root's shell answers."""
    names = sorted(n for n in fs.names("/boot") if n.startswith(("initrd", "vmlinuz")))
    for name in names:
        (directory / name).write_bytes(fs.read_bytes(f"/boot/{name}"))
    initrd, kernel = (directory / name for name in names)
    script = _INIT.format(directory=probe.DIRECTORY, shell=probe.shell_loop())
    packed = base64.b64encode(script.encode()).decode()
    line = (
        "console=ttyS0 root=LABEL=cloudimg-rootfs ro panic=-1 init=/bin/bash --"
        f' -c "echo {packed} | base64 -d | bash"'
    )
    direct = replace(
        spec,
        options=(*spec.options, "-kernel", str(kernel), "-initrd", str(initrd), "-append", line),
    )
    with (
        place(directory / "scratch") as here,
        running(direct, directory / "logs", here) as machine,
        Guest(machine) as guest,
    ):
        yield guest
