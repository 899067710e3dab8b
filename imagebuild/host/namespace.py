"""Inside the worker's private mount namespace: a /dev of its own, and removal that is safe.

DIB binds /dev into the tree that it composes. A build that is cut off leaves that mount
in the namespace, and removing its scratch must then not reach through it. Two guards:
the worker's /dev is not the host's, and nothing is removed while something is mounted
below it.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import run

#: The nodes that programs expect (Linux, Documentation/admin-guide/devices.txt): numbers, mode.
_NODES = {
    "null": (1, 3, 0o666),
    "zero": (1, 5, 0o666),
    "full": (1, 7, 0o666),
    "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666),
    "tty": (5, 0, 0o666),
}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def private_dev(dev: Path = Path("/dev")) -> bool:
    """Mount a small /dev over the host's, in this mount namespace only.

    Returns False, leaving /dev as it is, where device nodes may not be made (some
    containers); then `remove_tree` is the only guard.
    """
    if not _may_make_nodes():
        return False
    run(["mount", "-t", "tmpfs", "-o", "mode=755,nosuid,noexec,size=1m", "tmpfs", dev])
    for name, (major, minor, mode) in _NODES.items():
        os.mknod(dev / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (dev / name).chmod(mode)
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    for name, argv in {
        "pts": ["-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts"],
        "shm": ["-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs"],
    }.items():
        (dev / name).mkdir()
        run(["mount", *argv, dev / name])
    return True


def _may_make_nodes() -> bool:
    # Tried in a directory of our own: /dev is still the host's here.
    with tempfile.TemporaryDirectory() as directory:
        try:
            os.mknod(Path(directory, "null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except OSError:
            return False
    return True


def mounts_below(path: Path) -> list[Path]:
    """Mount points at or below a path in this namespace, the deepest first (proc(5), mountinfo)."""
    below = os.fspath(path.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4])
        if point == below or point.startswith(below.rstrip("/") + "/"):
            found.append(Path(point))
    return sorted(found, reverse=True)


def remove_tree(path: Path) -> None:
    """Remove a file or directory; what is mounted below it is unmounted first.

    Raises BuildError, and removes nothing, when a mount cannot be undone.
    """
    if not os.path.lexists(path):
        return
    for point in mounts_below(path):
        run(["umount", "--lazy", point], check=False)
    left = mounts_below(path)
    if left:
        raise BuildError(
            "something is still mounted below what is to be removed",
            where=str(path),
            detail="\n".join(map(str, left)),
            hint="unmount it, then try again",
        )
    run(["rm", "-rf", "--one-file-system", "--", path], what=f"cannot remove {path}")
