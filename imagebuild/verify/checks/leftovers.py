"""Nothing is left of the build: no caches, logs, temporary files, traces of people."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuild.verify.checks.base import Check, Found, Severity, Subject, is_known
from imagebuild.verify.tree import Node

_HISTORIES = re.compile(
    r"\.(\w+_history|\w*history|viminfo|lesshst|wget-hsts|python_history|selected_editor)"
)
#: The image's, not ours.
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108
_CACHES = ("/var/lib/apt/lists/*", "/var/lib/apt/lists/partial/*", "/var/cache/apt/*.bin",
           "/var/cache/apt/archives/*.deb", "/var/cache/apt/archives/partial/*")  # fmt: skip
_TOOLS = (
    "/.dockerenv",
    "/run/.containerenv",
    "/usr/sbin/policy-rc.d",
    "/etc/dib-manifests",
    "/etc/apt/apt.conf.d/99imagebuild-build",
    "/etc/apt/apt.conf.d/99mmdebstrap",
    "/etc/apt/imagebuild-build-ca.pem",
    "/usr/share/pkg-map",
    "/usr/share/svc-map",
    "/usr/lib/diskimage-builder",
    "/usr/bin/qemu-*-static",
)
#: dpkg and the passwd programs keep the file before their last change.
_BACKUPS = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-", "/etc/subuid-",
            "/etc/subgid-", "/var/lib/dpkg/*-old", "/etc/**.dpkg-old")  # fmt: skip


def caches(subject: Subject) -> Iterator[Found]:
    """apt's lists and archives, pip's and people's caches."""
    for node in subject.present(_CACHES):
        if not node.is_dir:
            yield Found(node.path, "it is apt's cache", "apt-get clean, rm /var/lib/apt/lists/*")
    for node in subject.own_nodes:
        if node.is_dir and (node.name == ".cache" or node.path == "/var/cache/pip"):
            yield Found(node.path, "it is somebody's cache")


def temporary(subject: Subject) -> Iterator[Found]:
    """The two directories for temporary files."""
    for directory in _TEMPORARY:
        for name in sorted(subject.tree.names(directory)):
            yield Found(f"{directory}/{name}", "it is a temporary file of the build")


def tools(subject: Subject) -> Iterator[Found]:
    """What the build put into the tree for its own use."""
    for node in subject.present((*_TOOLS, *_BACKUPS)):
        yield Found(node.path, "the build needed it, the guest does not")


def people(subject: Subject) -> Iterator[Found]:
    """Homes hold their skeleton and what the image is meant to have; no history of commands."""
    for node in subject.own_nodes:
        if node.is_file and _HISTORIES.fullmatch(node.name):
            yield Found(node.path, "it tells what somebody did while the image was made")
    for node in [*subject.tree.below("/root"), *subject.tree.below("/home")]:
        if not _HISTORIES.fullmatch(node.name) and not _in_skeleton(subject, node):
            what = "it is in nobody's skeleton"
            todo = "if an element means it, it belongs outside of homes"
            yield Found(node.path, what, todo, Severity.WARNING)


def _in_skeleton(subject: Subject, node: Node) -> bool:
    if is_known("homes", node.path) or subject.expected.holds(node.path):
        return True
    match = re.fullmatch(r"/home/[^/]+(/.*)?", node.path)
    return match is not None and (not match[1] or subject.tree.exists("/etc/skel" + match[1]))


def logs(subject: Subject) -> Iterator[Found]:
    """Logs of the build, which hold its paths and mirrors."""
    for node in subject.tree.below("/var/log"):
        if node.is_file and node.size:
            yield Found(node.path, "it is a log of the build", severity=Severity.WARNING)


CHECKS = (
    Check(
        "leftovers.caches",
        "there is no cache",
        "it makes every instance larger, and tells of the build's network",
        "remove it",
        caches,
    ),
    Check(
        "leftovers.temporary",
        "temporary directories are empty",
        "nobody has looked at what lies there",
        "remove it",
        temporary,
    ),
    Check(
        "leftovers.tools",
        "nothing is left of the build's own tools",
        "it keeps the guest from working as its packages mean it to, or holds old passwords",
        "remove it",
        tools,
    ),
    Check(
        "leftovers.people",
        "homes hold their skeleton alone",
        "what people leave behind while they try things out is often secret",
        "remove it",
        people,
    ),
    Check(
        "leftovers.logs",
        "there is no log",
        "it is read as the instance's own",
        "empty it",
        logs,
    ),
)  # fmt: skip
