"""Nothing gives more rights than it is known to need."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Any

from imagebuild.verify.checks.base import (
    Check,
    Found,
    Severity,
    Subject,
    glob_matches,
    is_known,
    known,
)
from imagebuild.verify.tree import Node

_SPECIAL = stat.S_ISUID | stat.S_ISGID
_CAPABILITY = "security.capability"
# include/uapi/linux/capability.h, by number.
_CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
#: Programs and settings that root runs or obeys: only root may own them.
_ROOTS_OWN = (
    "/usr/bin/*", "/usr/sbin/*", "/usr/local/bin/*", "/usr/local/sbin/*", "/usr/lib/systemd/**",
    "/etc/systemd/**", "/etc/cron*", "/etc/cron*/*", "/etc/sudoers*", "/etc/sudoers.d/*",
    "/etc/ssh/**", "/etc/pam.d/*", "/etc/apt/**", "/etc/profile*", "/etc/profile.d/*",
    "/etc/ld.so*", "/etc/ld.so.conf.d/*", "/etc/udev/**", "/etc/docker/**", "/etc/cloud/**",
)  # fmt: skip


def privileged(subject: Subject) -> Iterator[Found]:
    """Setuid and setgid files: those of known.yaml, with their owners and modes."""
    for node in subject.own_nodes:
        if not node.is_file or not node.permissions & _SPECIAL:
            continue
        owner, group = subject.user_name(node.uid), subject.group_name(node.gid)
        have = f"{node.permissions:04o} {owner}:{group}"
        entries = _entries("privileged", node)
        if not entries:
            kind = "setuid" if node.permissions & stat.S_ISUID else "setgid"
            yield Found(node.path, f"it is {kind} ({have}), and not known to need it")
        elif not any(_agrees(e, node, owner, group) for e in entries):
            wanted = ", ".join(f"{e['mode']} {e['owner']}:{e['group']}" for e in entries)
            yield Found(node.path, f"it has {have}, known is {wanted}")


def _entries(kind: str, node: Node) -> list[dict[str, Any]]:
    return [e for e in known()[kind] if glob_matches(node.path, e["path"])]


def _agrees(entry: dict[str, Any], node: Node, owner: str, group: str) -> bool:
    mode = int(entry["mode"], 8)
    # Fewer rights for people than the package gives are a site's good choice.
    return owner == entry["owner"] and group == entry["group"] and not node.permissions & ~mode


def capabilities(subject: Subject) -> Iterator[Found]:
    """Files with capabilities: those of known.yaml."""
    for node in subject.own_nodes:
        value = subject.tree.xattrs(node).get(_CAPABILITY)
        if value is None:
            continue
        have = capability_names(value)
        entries = _entries("capabilities", node)
        if not any(have <= set(e["capabilities"]) for e in entries):
            listed = ", ".join(sorted(have)) or "capabilities that cannot be read"
            yield Found(node.path, f"it has {listed}, and is not known to need it")


def capability_names(value: bytes) -> set[str]:
    """Permitted and inheritable capabilities of a `security.capability` attribute.

    Its layout is `struct vfs_ns_cap_data` of include/uapi/linux/capability.h; revision 1
    has one pair of words, 2 and 3 have two. {"?"} when it is none of these.
    """
    if len(value) < 12:
        return {"?"}
    revision = value[3]
    words = struct.unpack_from("<4I", value.ljust(20, b"\0"), 4)
    bits = words[0] | words[1]
    if revision in (2, 3) and len(value) >= 20:
        bits |= (words[2] | words[3]) << 32
    elif revision != 1:
        return {"?"}
    numbers = (n for n in range(64) if bits >> n & 1)
    return {f"cap_{_CAPABILITIES[n]}" if n < len(_CAPABILITIES) else f"cap_{n}" for n in numbers}


def writable(subject: Subject) -> Iterator[Found]:
    """What all may write: sticky directories alone."""
    for node in subject.own_nodes:
        if node.is_link or not node.permissions & stat.S_IWOTH:
            continue
        if node.is_file:
            yield Found(node.path, "all may write this file", "chmod o-w")
        elif node.is_dir and not node.permissions & stat.S_ISVTX:
            what = "all may write this directory, and remove what others have there"
            yield Found(node.path, what, "chmod o-w, or +t")


def owners(subject: Subject) -> Iterator[Found]:
    """Owners and groups exist, and root's own things are root's."""
    users = {int(f[2]) for f in subject.users.values() if f[2].isdigit()}
    groups = {int(f[2]) for f in subject.groups.values() if f[2].isdigit()}
    for node in subject.own_nodes:
        if node.uid not in users:
            what = f"its owner, uid {node.uid}, does not exist"
            yield Found(node.path, what, "an account made later would own it: chown it")
        elif node.gid not in groups:
            what = f"its group, gid {node.gid}, does not exist"
            yield Found(node.path, what, "a group made later would own it: chgrp it")
        elif node.uid and glob_matches(node.path, *_ROOTS_OWN):
            owner = subject.user_name(node.uid)
            yield Found(node.path, f"{owner} owns it, and root runs or obeys it", "chown root")


def devices(subject: Subject) -> Iterator[Found]:
    """Device nodes: the few of known.yaml in /dev."""
    for node in subject.own_nodes:
        if stat.S_ISBLK(node.mode) or (
            stat.S_ISCHR(node.mode) and not is_known("devices", node.path)
        ):
            kind = "block" if stat.S_ISBLK(node.mode) else "character"
            severity = Severity.WARNING if node.path.startswith("/dev/") else Severity.ERROR
            yield Found(node.path, f"it is a {kind} device", severity=severity)


CHECKS = (
    Check(
        "permissions.privileged",
        "only known files are setuid or setgid",
        "whoever finds a fault in one becomes its owner, mostly root",
        "chmod ug-s; if a package needs it, add it to known.yaml with the reason",
        privileged,
    ),
    Check(
        "permissions.capabilities",
        "only known files have capabilities",
        "whoever finds a fault in one has its capabilities",
        "setcap -r; if a package needs it, add it to known.yaml with the reason",
        capabilities,
    ),
    Check(
        "permissions.writable",
        "nothing is writable for all but sticky directories",
        "any process could change what others rely on",
        "chmod o-w",
        writable,
    ),
    Check(
        "permissions.owners",
        "all files have an owner that exists, and root's are root's",
        "an account other than root could change what root runs",
        "chown it",
        owners,
    ),
    Check(
        "permissions.devices",
        "there are no device nodes but /dev's first few",
        "a node is a door to a device, whatever the device's own permissions are",
        "remove it: udev makes those that are needed",
        devices,
    ),
)  # fmt: skip
