"""The partition table, and the root filesystem as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from imagebuild.host.run import run, which
from imagebuild.stages import disk, gpt
from imagebuild.stages.gpt import SECTOR
from imagebuild.verify.static.question import Problem, Question, skipped, unknown, warning
from imagebuild.verify.static.subject import Subject

_MIB = 1 << 20
#: Below this, the first boot fails (FAILED), or the agent soon does (WARNING). The root
#: filesystem is grown at the first boot by programs that need room themselves.
LEAST_FREE = 32 * _MIB
LITTLE_FREE = 256 * _MIB
LEAST_INODES = 1000
_LIMIT = 300.0


def partitions(subject: Subject) -> Iterator[Problem]:
    """Both tables agree (or it would not have been opened), nothing overlaps, and what
    firmware looks for is there.
    """
    layout = subject.layout
    if layout.kind == "none":
        yield warning("the disk has no partition table: no firmware starts from it")
        return
    lines = tuple(f"{p.name or 'partition'}: sectors {p.first_lba} to {p.last_lba}"
                  for p in layout.partitions)  # fmt: skip
    size = subject.raw.stat().st_size // SECTOR
    first, end = (gpt.FIRST_USABLE_LBA, gpt.last_usable_lba(size * SECTOR))
    if layout.kind == "mbr":
        yield warning("the disk has an MBR: it starts by BIOS only", *lines)
        first, end = 1, size - 1
    for part in sorted(layout.partitions, key=lambda p: p.first_lba):
        if not first <= part.first_lba <= part.last_lba:
            yield Problem("partitions overlap", lines, cause="partition-table-damaged")
        elif part.last_lba > end:
            yield Problem("a partition ends behind the end of the disk", lines,
                          cause="partition-table-damaged")  # fmt: skip
        first = max(first, part.last_lba + 1)
    if layout.kind == "gpt" and layout.of_type(disk.TYPE_ESP) is None:
        yield warning("there is no EFI system partition: it starts by BIOS only", *lines)
    if layout.root.last_lba < max(p.last_lba for p in layout.partitions):
        yield warning("the root is not the last partition: it cannot grow with the disk", *lines)


def clean(subject: Subject) -> Iterator[Problem]:
    """e2fsck finds nothing."""
    if which("e2fsck") is None:
        yield unknown("e2fsck is not installed", hint="apt-get install e2fsprogs")
        return
    device = f"{subject.raw}?offset={subject.tree.offset}"
    done = run(["e2fsck", "-fn", device], check=False, timeout=_LIMIT)
    if done.returncode:
        said = done.stdout.decode(errors="replace").replace(device, "the root filesystem")
        lines = [x for x in said.splitlines() if x and not x.startswith("Pass ")]
        yield Problem("the root filesystem is damaged", tuple(lines),
                      "build the image anew", "filesystem-damaged")  # fmt: skip


def features(subject: Subject) -> Iterator[Problem]:
    """Kernels and e2fsprogs of all supported releases can check and grow it."""
    if young := subject.superblock.young_features:
        yield warning("older kernels and e2fsprogs cannot check or grow the root filesystem",
                      *young, cause="filesystem-too-new")  # fmt: skip


def label(subject: Subject) -> Iterator[Problem]:
    """The label is the profile's."""
    profile = subject.artifact.manifest["profile"] if subject.artifact else {}
    wanted = profile.get("disk", {}).get("label")
    if wanted is None:
        yield skipped("nothing says which label the root filesystem is meant to have")
    elif (have := subject.superblock.label) != wanted:
        yield Problem(
            f"the root filesystem has the label {have!r}, its profile says {wanted!r}",
            (f"LABEL={have}",), cause="root-label-wrong",
            fields={"wanted": f"LABEL={wanted}", "have": f"LABEL={have}"},
        )  # fmt: skip


def room(subject: Subject) -> Iterator[Problem]:
    """There is room for the first boot."""
    block = subject.superblock
    free, total = block.free_blocks * block.block_size, block.blocks * block.block_size
    line = (f"{free / _MIB:.0f} MiB of {total / _MIB:.0f} MiB are free",)
    if free < LEAST_FREE:
        yield Problem("the root filesystem is full", line, "ask for a larger disk.size",
                      "root-full")  # fmt: skip
    elif free < LITTLE_FREE:
        yield warning("the root filesystem is nearly full", *line, cause="root-full")
    if block.free_inodes < LEAST_INODES:
        yield Problem("the root filesystem has no room for more files",
                      (f"{block.free_inodes} inodes of {block.inodes} are free",),
                      "ask for a larger disk.size", "root-full")  # fmt: skip


PARTITIONS = Question("static/disk/partitions", "the partition table is sound", partitions)
_CLEAN = Question("static/filesystem/clean", "the root filesystem is clean", clean)
QUESTIONS = (
    _CLEAN,
    Question("static/filesystem/features", "any supported kernel can read it", features),
    Question("static/filesystem/label", "it has the label of its profile", label),
    Question("static/filesystem/room", "it has room for the first boot", room),
)
#: What waits for other programs, and can be asked beside the rest.
SLOW = (_CLEAN,)
