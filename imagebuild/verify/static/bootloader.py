"""What firmware starts: GRUB for BIOS and for UEFI, and the menu that it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuild.host.run import base_env, need, run
from imagebuild.stages import disk
from imagebuild.stages.gpt import BOOT_CODE_SIZE, SECTOR
from imagebuild.verify.static.devices import Device, devices
from imagebuild.verify.static.question import Problem, Question, skipped, unknown, warning
from imagebuild.verify.static.subject import Subject

GRUB_CONFIG = "/boot/grub/grub.cfg"
#: Where other distributions and older GRUBs have it.
_CONFIGS = (GRUB_CONFIG, "/boot/grub2/grub.cfg")

# Places that GRUB's installer patches: include/grub/i386/pc/boot.h of GRUB's source.
_BOOT_KERNEL_SECTOR = 0x5C  # boot.img: first sector of core.img, 64 bits
_CORE_BLOCKLIST = SECTOR - 12  # core.img: second sector of core.img, 64 bits

#: What firmware looks for on removable media: UEFI specification 2.10, section 3.5.1.1.
EFI_NAMES = {"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}
#: PE's numbers of machines.
_PE_MACHINES = {0x8664: "amd64", 0xAA64: "arm64", 0x14C: "i386"}
_OUR_EFI = {"amd64": "/boot/grub/x86_64-efi/core.efi", "arm64": "/boot/grub/arm64-efi/core.efi"}
_OUR_CORE = "/boot/grub/i386-pc/core.img"
_LIMIT = 60.0


@dataclass(frozen=True)
class Entry:
    """An entry of GRUB's menu: the lines that load kernel and initramfs, and what they say."""

    kernel: str
    arguments: tuple[str, ...]
    initrds: tuple[str, ...]
    lines: tuple[str, ...]


def bios(subject: Subject) -> Iterator[Problem]:
    """The first sector loads core.img, which knows where the rest of it is."""
    if subject.arch not in ("amd64", "i386"):
        yield skipped(f"{subject.arch} has no BIOS")
        return
    part = subject.layout.of_type(disk.TYPE_BIOS_BOOT)
    with subject.raw.open("rb") as raw:
        code = raw.read(BOOT_CODE_SIZE)
        start = int.from_bytes(code[_BOOT_KERNEL_SECTOR : _BOOT_KERNEL_SECTOR + 8], "little")
        core = b""
        if part is not None:
            raw.seek(part.offset)
            core = raw.read(min(part.size, 1 << 20))
    if not any(code):
        yield Problem("there is no boot code in the first sector", ("440 bytes of zeros",),
                      cause="no-bootloader", fields={"firmware": "BIOS"})  # fmt: skip
        return
    if b"GRUB" not in code:
        yield unknown("the first sector has boot code that is not GRUB's")
        return
    if subject.layout.kind == "mbr":
        return
    if part is None:
        yield Problem("there is no BIOS boot partition for GRUB's second part",
                      cause="no-bootloader", fields={"firmware": "BIOS"})  # fmt: skip
        return
    if start != part.first_lba:
        yield Problem(
            "the boot code does not load what is in the BIOS boot partition",
            (f"it loads sector {start}, the partition begins at {part.first_lba}",),
            cause="no-bootloader", fields={"firmware": "BIOS"},
        )  # fmt: skip
    if not any(core):
        yield Problem("the BIOS boot partition is empty", cause="no-bootloader",
                      fields={"firmware": "BIOS"})  # fmt: skip
        return
    second = int.from_bytes(core[_CORE_BLOCKLIST : _CORE_BLOCKLIST + 8], "little")
    if second != part.first_lba + 1:
        yield Problem(
            "GRUB's core.img does not know where its second sector is",
            (f"it says {second}, that is {part.first_lba + 1}",),
            cause="no-bootloader", fields={"firmware": "BIOS"},
        )  # fmt: skip
    node = subject.tree.resolve(_OUR_CORE)
    if node is not None and node.is_file and not subject.is_foreign:
        wanted = subject.tree.content(node)
        if core[SECTOR : len(wanted)] != wanted[SECTOR:]:
            yield Problem("GRUB's code in the BIOS boot partition is not that of the image",
                          (_OUR_CORE,), cause="no-bootloader",
                          fields={"firmware": "BIOS"})  # fmt: skip


def uefi(subject: Subject) -> Iterator[Problem]:
    """The EFI system partition has boot code for this architecture at the removable path."""
    part = subject.layout.of_type(disk.TYPE_ESP)
    name = EFI_NAMES.get(subject.arch or "")
    if name is None:
        yield unknown(f"what firmware of {subject.arch or 'this architecture'} looks for")
        return
    if part is None:
        missing = "there is no EFI system partition"
        if subject.is_foreign:
            yield skipped(missing)
        else:
            yield Problem(missing, cause="no-bootloader", fields={"firmware": "UEFI"})
        return
    tool = need("mcopy", "mtools")
    env = base_env(MTOOLSRC="/dev/null", MTOOLS_SKIP_CHECK="1")
    esp = f"{subject.raw}@@{part.offset}"
    argv = [tool, "-n", "-i", esp, f"::/EFI/BOOT/{name}", "-"]
    done = run(argv, env=env, check=False, timeout=_LIMIT)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        yield Problem(f"the EFI system partition has no EFI/BOOT/{name}", tuple(said),
                      cause="no-bootloader", fields={"firmware": "UEFI"})  # fmt: skip
        return
    code = done.stdout
    at = int.from_bytes(code[0x3C:0x40], "little")
    machine = int.from_bytes(code[at + 4 : at + 6], "little")
    if code[:2] != b"MZ" or code[at : at + 4] != b"PE\0\0":
        yield Problem(f"EFI/BOOT/{name} is no program", (f"{len(code)} bytes",),
                      cause="no-bootloader", fields={"firmware": "UEFI"})  # fmt: skip
    elif _PE_MACHINES.get(machine) != subject.arch:
        yield Problem(
            f"EFI/BOOT/{name} is made for another architecture",
            (f"it is for {_PE_MACHINES.get(machine, hex(machine))}, not {subject.arch}",),
            cause="architecture-wrong",
            fields={"wanted": str(subject.arch), "have": _PE_MACHINES.get(machine, hex(machine))},
        )  # fmt: skip
    else:
        ours = subject.tree.resolve(_OUR_EFI[str(subject.arch)])
        if ours is not None and not subject.is_foreign and subject.tree.content(ours) != code:
            yield Problem(f"EFI/BOOT/{name} is not the GRUB of the image", (ours.path,),
                          cause="no-bootloader", fields={"firmware": "UEFI"})  # fmt: skip


def menu(subject: Subject) -> list[Entry] | None:
    """The entries of GRUB's menu that load a kernel; None when there is no grub.cfg."""
    tree = subject.tree
    path = next((p for p in _CONFIGS if tree.resolve(p)), None)
    if path is None:
        return None
    found: list[Entry] = []
    for line in tree.read_text(path).splitlines():
        words = line.split()
        if len(words) > 1 and re.fullmatch(r"linux(16|efi)?", words[0]):
            found.append(Entry(words[1], tuple(words[2:]), (), (line.strip(),)))
        elif len(words) > 1 and re.fullmatch(r"initrd(16|efi)?", words[0]) and found:
            last = found[-1]
            found[-1] = Entry(last.kernel, last.arguments, tuple(words[1:]),
                              (*last.lines, line.strip()))  # fmt: skip
    return found


def config(subject: Subject) -> Iterator[Problem]:
    """The menu starts a kernel that is there, with the root filesystem that is there."""
    entries = subject.once(menu)
    if entries is None and boot_is_elsewhere(subject):
        yield unknown("what starts: /boot is on a partition of its own")
        return
    if entries is None:
        yield Problem("there is no grub.cfg", (GRUB_CONFIG,), cause="no-bootloader",
                      fields={"firmware": "GRUB"})  # fmt: skip
        return
    if not entries:
        text = "grub.cfg starts no kernel"
        if "blscfg" in subject.tree.text_or_empty("/boot/grub2/grub.cfg"):
            yield unknown(f"{text}: its entries are elsewhere (blscfg)")
        else:
            yield Problem(text, (GRUB_CONFIG,), cause="no-bootloader", fields={"firmware": "GRUB"})
        return
    known = subject.once(devices)
    for number, entry in enumerate(entries):
        for problem in _entry(subject, entry, known):
            # Nobody chooses another one than the first on a cloud's console.
            yield problem if number == 0 else warning(problem.what, *problem.evidence)


def _entry(subject: Subject, entry: Entry, known: list[Device]) -> Iterator[Problem]:
    if find_in_boot(subject, entry.kernel) is None:
        yield Problem("the kernel that grub.cfg starts is not there", entry.lines[:1],
                      cause="kernel-missing", fields={"file": entry.kernel})  # fmt: skip
    root = next((a[5:] for a in entry.arguments if a.startswith("root=")), None)
    if root is None:
        yield Problem("grub.cfg does not tell the kernel its root filesystem", entry.lines[:1],
                      cause="root-label-wrong",
                      fields={"wanted": "no root", "have": names_of_root(known)})  # fmt: skip
    elif root.startswith("/dev/"):
        yield warning(f"grub.cfg names the root filesystem as {root}: it has another name on "
                      "another bus", *entry.lines[:1])  # fmt: skip
    elif not any(d.is_root and d.answers_to(root) for d in known):
        yield Problem(
            f"grub.cfg looks for the root filesystem as {root}, which is not its name",
            (*entry.lines[:1], names_of_root(known)), cause="root-label-wrong",
            fields={"wanted": root, "have": names_of_root(known)},
        )  # fmt: skip


def names_of_root(known: list[Device]) -> str:
    """How the root filesystem can be named."""
    return " ".join(name for d in known if d.is_root for name in d.names) or "none"


def boot_is_elsewhere(subject: Subject) -> bool:
    """Does fstab mount another filesystem at /boot? Our own images never have one."""
    rows = (line.split() for line in subject.tree.text_or_empty("/etc/fstab").splitlines())
    return any(len(r) > 1 and r[1] == "/boot" and r[0][0] != "#" for r in rows)


def find_in_boot(subject: Subject, path: str) -> str | None:
    """Where a path of grub.cfg is in the root filesystem: /boot can be one of its own."""
    for place in (path, f"/boot{path}"):
        node = subject.tree.resolve(place)
        if node is not None and node.is_file:
            return node.path
    return None


QUESTIONS = (
    Question("static/bootloader/bios", "a BIOS finds GRUB", bios),
    Question("static/bootloader/uefi", "UEFI firmware finds GRUB", uefi),
    Question("static/bootloader/config", "grub.cfg starts a kernel with its root", config),
)
