"""fstab(5): what the guest mounts is there."""

from __future__ import annotations

from collections.abc import Iterator

from imagebuild.verify.static.bootloader import names_of_root
from imagebuild.verify.static.devices import devices
from imagebuild.verify.static.question import Problem, Question, warning
from imagebuild.verify.static.subject import Subject

FSTAB = "/etc/fstab"
_TAGS = ("LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=")
#: Not of a device: the kernel's own, network and bound directories.
_NO_DEVICE = {"proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "debugfs",
              "securityfs", "nfs", "nfs4", "cifs", "overlay", "hugetlbfs", "mqueue"}  # fmt: skip


def fstab(subject: Subject) -> Iterator[Problem]:
    """Its root is the root filesystem, and no other device is waited for that nobody has."""
    lines = subject.tree.text_or_empty(FSTAB).splitlines()
    rows = [(line, line.split()) for line in lines if line.strip() and line.strip()[0] != "#"]
    known = subject.once(devices)
    seen_root = False
    for line, words in rows:
        if len(words) < 3:
            yield warning("a line of fstab has too few words", line)
            continue
        device, place, kind = words[:3]
        options = words[3].split(",") if len(words) > 3 else []
        matching = [d for d in known if d.answers_to(device)]
        if place == "/":
            seen_root = True
            if device.startswith(_TAGS) and not any(d.is_root for d in matching):
                yield Problem(
                    f"fstab mounts {device} as root, which is not the root filesystem",
                    (line, names_of_root(known)), cause="root-label-wrong",
                    fields={"wanted": device, "have": names_of_root(known)},
                )  # fmt: skip
            elif not device.startswith(_TAGS):
                yield warning(f"fstab names the root filesystem as {device}: it has another "
                              "name on another bus", line)  # fmt: skip
        elif kind in _NO_DEVICE or {"noauto", "nofail", "bind"} & set(options):
            continue
        elif not matching and _is_absent(subject, device):
            yield _absent(device, line)
    if not seen_root:
        yield warning("fstab does not name the root filesystem: it stays as the kernel mounted it",
                      *lines[:5])  # fmt: skip


def _is_absent(subject: Subject, device: str) -> bool:
    """A name that no partition answers to, a device that not every machine has, or a file
    (swap, an image) that is not there.
    """
    if device.startswith((*_TAGS, "/dev/")):
        return True
    return device.startswith("/") and subject.tree.resolve(device) is None


def _absent(device: str, line: str) -> Problem:
    return Problem(
        f"fstab mounts {device}, which the image does not have", (line,),
        "remove the line, or give it the option nofail", "fstab-device-missing",
        {"device": device},
    )  # fmt: skip


QUESTIONS = (Question("static/fstab", "fstab mounts what is there", fstab),)
