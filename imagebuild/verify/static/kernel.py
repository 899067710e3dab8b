"""The kernel, its modules and its initramfs; whether all is made for one architecture."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from imagebuild.errors import PreflightError
from imagebuild.verify.static import initramfs
from imagebuild.verify.static.bootloader import Entry, find_in_boot, menu
from imagebuild.verify.static.question import Problem, Question, skipped
from imagebuild.verify.static.subject import Subject
from imagebuild.verify.tree import READ_LIMIT, Tree

#: Without these no root filesystem: Nova's disks are on the virtio bus.
NEEDED = ("virtio_pci", "virtio_blk", "ext4")
_MODULE_DIRECTORIES = ("/lib/modules", "/usr/lib/modules")


def _first(subject: Subject) -> Entry | None:
    entries = subject.once(menu)
    return entries[0] if entries else None


def version_of(kernel: str) -> str:
    """The version in a kernel's file name (`vmlinuz-6.1.0-1-cloud-amd64`), or ""."""
    match = re.match(r"(?:vmlinuz|vmlinux|Image|bzImage|linux)-(.+)", posixpath.basename(kernel))
    return match[1] if match else ""


def _modules(tree: Tree, version: str) -> str | None:
    """The directory of that kernel's modules."""
    places = (f"{d}/{version}" for d in _MODULE_DIRECTORIES)
    return next((p for p in places if version and tree.resolve(p)), None)


def modules(subject: Subject) -> Iterator[Problem]:
    """The kernel that starts finds its modules."""
    entry = _first(subject)
    kernel = find_in_boot(subject, entry.kernel) if entry else None
    if kernel is None:
        yield skipped("no kernel is started")
        return
    node = subject.tree.resolve(kernel)
    version = version_of(node.path if node else kernel)
    place = _modules(subject.tree, version)
    if not version:
        yield skipped(f"the name {kernel} tells no version")
    elif place is None:
        have = ", ".join(sorted(subject.tree.names(_MODULE_DIRECTORIES[0]))) or "none"
        yield Problem(f"there are no modules of the kernel {version}", (f"modules of: {have}",),
                      cause="kernel-modules-missing", fields={"version": version})  # fmt: skip
    elif not subject.tree.exists(f"{place}/modules.dep"):
        yield Problem(f"the list of modules of {version} is missing", (f"{place}/modules.dep",),
                      "depmod VERSION in the image", "kernel-modules-missing",
                      {"version": version})  # fmt: skip


def initrd(subject: Subject) -> Iterator[Problem]:
    """It is there, is of the kernel that starts, and finds the root filesystem's disk."""
    entry = _first(subject)
    if entry is None:
        yield skipped("no kernel is started")
        return
    version = version_of(entry.kernel)
    place = _modules(subject.tree, version)
    built_in = _names(subject.tree, f"{place}/modules.builtin") if place else set()
    lacking = [m for m in NEEDED if m not in built_in]
    if not entry.initrds:
        if lacking:
            yield Problem("grub.cfg loads no initramfs, and the kernel needs one", entry.lines,
                          f"not built in: {', '.join(lacking)}", "initramfs-missing",
                          {"file": "an initramfs"})  # fmt: skip
        return
    found = {name: find_in_boot(subject, name) for name in entry.initrds}
    for name, path in found.items():
        if path is None:
            yield Problem("the initramfs that grub.cfg loads is not there", entry.lines[1:],
                          cause="initramfs-missing", fields={"file": name})  # fmt: skip
    main = next(reversed(found.values()))
    if main is None:
        return
    if version and version not in main:
        yield Problem("the initramfs is of another kernel than the one that starts", entry.lines,
                      cause="initramfs-missing",
                      fields={"file": f"an initramfs of {version}"})  # fmt: skip
    try:
        inside = initramfs.names(_whole(subject.tree, main))
    except PreflightError as exc:
        yield skipped(f"what is in the initramfs cannot be seen: {exc.what}")
        return
    except ValueError as exc:
        yield Problem("the initramfs cannot be read", (main, str(exc)),
                      cause="initramfs-damaged", fields={"file": main})  # fmt: skip
        return
    have = {_module(name) for name in inside}
    if absent := [m for m in lacking if m not in have]:
        yield Problem(
            f"the initramfs lacks {', '.join(absent)}", (main,),
            "list them in /etc/initramfs-tools/modules", "initramfs-modules-missing",
            {"modules": ", ".join(absent)},
        )  # fmt: skip


def _whole(tree: Tree, path: str) -> bytes:
    """A file that may be larger than READ_LIMIT; raises ValueError when it is absurdly large."""
    node = tree.resolve(path)
    if node is None or node.size > initramfs.MOST_BYTES:
        raise ValueError("it is larger than any initramfs")
    pieces = range(0, node.size, READ_LIMIT // 2)
    return b"".join(tree.content(node, at, READ_LIMIT // 2) for at in pieces)


def _names(tree: Tree, path: str) -> set[str]:
    return {_module(line) for line in tree.text_or_empty(path).splitlines()}


def _module(path: str) -> str:
    """The name of the module in a file; `.ko` may be compressed."""
    return re.sub(r"\.ko(\.\w+)?$", "", posixpath.basename(path)).replace("-", "_")


def architecture(subject: Subject) -> Iterator[Problem]:
    """Programs and kernel are made for the architecture that the manifest names."""
    machine = subject.machine
    wanted = subject.arch
    if machine is None:
        yield Problem("/sbin/init is no program", cause="init-missing")
        return
    if machine != wanted:
        yield Problem(
            f"the image is said to be for {wanted}, its programs are for {machine}",
            (f"/sbin/init: ELF, {machine}",), cause="architecture-wrong",
            fields={"wanted": str(wanted), "have": machine},
        )  # fmt: skip
    entry = _first(subject)
    path = find_in_boot(subject, entry.kernel) if entry else None
    if path is None:
        return
    node = subject.tree.resolve(path)
    head = subject.tree.content(node, 0, 0x210) if node else b""
    kernel = kernel_machine(head)
    if kernel is None:
        yield Problem("the kernel is no kernel", (path, f"it begins with {head[:8].hex()}"),
                      cause="image-unreadable")  # fmt: skip
    elif kernel not in ("compressed", wanted):
        yield Problem(
            f"the kernel is for {kernel}, the image for {wanted}", (path,),
            cause="architecture-wrong", fields={"wanted": str(wanted), "have": kernel},
        )  # fmt: skip


def kernel_machine(head: bytes) -> str | None:
    """For what a kernel is, by its first bytes; "compressed" hides it, None is no kernel.

    Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst.
    """
    if head[0x202:0x206] == b"HdrS":
        return "amd64"
    if head[0x38:0x3C] == b"ARM\x64":
        return "arm64"
    if head[:2] == b"\x1f\x8b" or head[4:8] == b"zimg":
        return "compressed"
    return None


QUESTIONS = (
    Question("static/kernel/modules", "the kernel finds its modules", modules),
    Question("static/initramfs", "the initramfs is the kernel's and knows the disk", initrd),
    Question("static/architecture", "all is made for one architecture", architecture),
)
