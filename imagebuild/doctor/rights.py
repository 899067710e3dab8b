"""Checks: root, sudo, and what the privileged worker can do."""

from __future__ import annotations

from collections.abc import Iterator

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, ok, skipped
from imagebuild.doctor.host import Host

GROUP = "rights"


def root(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Root, or sudo."""
    if host.is_root:
        yield ok("running as root")
        return
    if not host.which("sudo"):
        yield Finding(
            Level.MISSING,
            "you are not root, and there is no sudo",
            prevents="a build: composing trees needs root",
            advice="run it as root, or let root install sudo and allow you to use it",
        )
        return
    answer = host.sudo()
    if answer.status == 0:
        yield ok("sudo, without a password")
    elif not _asks(answer.text):
        yield Finding(
            Level.MISSING,
            "sudo refuses",
            detail=answer.text[-300:],
            prevents="a build: composing trees needs root",
            advice="let root allow it: visudo",
        )
    elif host.has_terminal:
        yield Finding(
            Level.WARNING,
            "sudo asks for a password",
            prevents="builds that nobody watches: the password is asked on the terminal",
            advice="for those, allow it without one: visudo, NOPASSWD",
        )
    else:
        yield Finding(
            Level.MISSING,
            "sudo asks for a password, and there is no terminal",
            prevents="a build: composing trees needs root",
            advice="run it on a terminal or as root, or allow sudo without one: visudo, NOPASSWD",
        )


def _asks(text: str) -> bool:
    return "password is required" in text or "authentication is required" in text


def worker(host: Host, subject: Subject) -> Iterator[Finding]:
    """Private namespaces, and what root can do in them: tried, as a build does it."""
    absent = [t for t in ("unshare", "setpriv", "mount") if not host.which(t)]
    if absent:
        yield skipped(f"private namespaces: not tried without {', '.join(absent)}")
        return
    if not host.is_root and (not host.which("sudo") or host.sudo().status != 0):
        yield skipped("private namespaces: not tried, root is needed for it")
        return
    trial = host.trial(subject.cache)
    if trial.start:
        yield Finding(
            Level.MISSING,
            "no private mount and pid namespaces",
            detail=trial.start,
            prevents="a build: everything that it runs as root runs in them",
            advice="in a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined; for a "
            "user's Python that root cannot read, use the system's",
        )
        return
    yield ok("private mount and pid namespaces")
    if trial.files:
        yield Finding(
            Level.MISSING,
            "the cache directory's filesystem does not keep what root writes",
            where=str(subject.cache),
            detail=trial.files,
            prevents="a build: trees hold other owners' files, and capabilities",
            advice="choose a local ext4, xfs or btrfs with --cache-dir (IMAGEBUILD_CACHE_DIR)",
        )
    if trial.overlay:
        yield Finding(
            Level.WARNING,
            "overlayfs cannot be mounted",
            detail=trial.overlay,
            prevents="compiling agent packages that have no wheel",
            run=("modprobe overlay",),
        )
    else:
        yield ok("overlayfs")


_BUILD = frozenset({Need.BUILD})
CHECKS = (
    Check("root", GROUP, "root or sudo", _BUILD, root),
    Check("namespaces", GROUP, "private namespaces", _BUILD, worker),
)
