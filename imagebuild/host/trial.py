"""What only root can find out: run by the privileged worker, in its namespaces.

Nothing of it can be seen afterwards: files have no name (O_TMPFILE), mounts lie in the
worker's private namespace.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import run

#: A capability set, as the file system stores it (linux/capability.h, struct
#: vfs_cap_data, revision 2): cap_net_raw, what a guest's ping has.
_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def try_files(directory: Path) -> str:
    """Whether root can make files with other owners and file capabilities there; "" or why not."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        # Not every filesystem has files without names (open(2)); those can still do.
        unnamed = (errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL)
        return "" if exc.errno in unnamed else f"root cannot write: {exc.strerror}"
    try:
        os.fchown(descriptor, 65534, 65534)
        os.setxattr(descriptor, "security.capability", _CAPABILITY)
    except OSError as exc:
        return f"owners or file capabilities are not kept: {exc.strerror}"
    finally:
        os.close(descriptor)
    return ""


def try_overlay(place: Path = Path("/dev/shm")) -> str:  # noqa: S108 - the worker's own
    """Whether overlayfs can be mounted; "" or why not. `place` must be a private tmpfs."""
    parts = {n: place / f"overlay-{n}" for n in ("lower", "upper", "work", "root")}
    try:
        for part in parts.values():
            part.mkdir(exist_ok=True)
        layers = "lowerdir={lower},upperdir={upper},workdir={work}".format(**parts)
        run(["mount", "-t", "overlay", "overlay", "-o", layers, parts["root"]])
        run(["umount", parts["root"]])
    except BuildError as exc:
        return exc.detail.strip().splitlines()[-1] if exc.detail.strip() else exc.what
    except OSError as exc:
        return str(exc)
    return ""
