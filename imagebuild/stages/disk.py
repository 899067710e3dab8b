"""The disk stage: a root filesystem tree becomes a raw disk image that boots.

    1 MiB   BIOS boot partition, 1 MiB (amd64 only): GRUB's core.img
            EFI system partition, 64 MiB, FAT32: GRUB as EFI/BOOT/BOOT*.EFI
            root, ext4, up to the last whole MiB: last so that a guest can grow it

Partition types are those of the Discoverable Partitions Specification. No mount, loop
device, device-mapper or udev is used. The image is a pure function of tree and spec: the
same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.layers import Layer
from imagebuild.stages import bootcode, ext4, ext4patch, gpt
from imagebuild.stages.gpt import SECTOR, Partition

MIB = 1 << 20
ESP_SIZE = 64 * MIB
BIOS_SIZE = MIB

TYPE_BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
TYPE_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
TYPE_ROOT = {
    "amd64": uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    "arm64": uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
}


@dataclass(frozen=True)
class DiskSpec:
    """What disk is wanted.

    `size` in bytes, whole MiB; `label` of the root filesystem; `arch` "amd64" or
    "arm64"; `epoch` in seconds, the time of everything that is made; `seed` any text (a
    hex id), from which every UUID, the hash seed and the FAT serial are derived.
    """

    size: int
    label: str
    arch: str
    epoch: int
    seed: str

    def derive_uuid(self, purpose: str) -> uuid.UUID:
        """A stable UUID (RFC 9562 version 8 would be exact; tools expect version 4)."""
        return uuid.UUID(bytes=self._digest(purpose)[:16], version=4)

    def derive_serial(self) -> str:
        """The serial number of the FAT filesystem: 8 hex digits."""
        return self._digest("esp-serial")[:4].hex()

    def _digest(self, purpose: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()


@dataclass(frozen=True)
class DiskReport:
    """What was made. Sizes in bytes; `used_bytes` and `free_bytes` of the root filesystem."""

    partitions: tuple[Partition, ...]
    root_offset: int
    root_bytes: int
    used_bytes: int
    free_bytes: int
    content_bytes: int


def plan_partitions(spec: DiskSpec) -> tuple[Partition, ...]:
    """The partitions of the disk, root last. Raises BuildError when the spec is impossible."""
    if spec.arch not in TYPE_ROOT:
        raise BuildError(
            f"cannot make a disk for the architecture {spec.arch}",
            hint="architectures: " + ", ".join(TYPE_ROOT),
        )
    if spec.size % MIB:
        raise BuildError(f"a disk of {spec.size} bytes is not whole MiB")
    wanted = [("esp", TYPE_ESP, ESP_SIZE)]
    if spec.arch == "amd64":
        wanted.insert(0, ("bios-boot", TYPE_BIOS_BOOT, BIOS_SIZE))
    overhead = _overhead(spec.arch)
    if spec.size <= overhead:
        raise BuildError(
            f"a disk of {spec.size // MIB} MiB has no room for a root filesystem",
            detail=f"partition tables and boot partitions alone take {overhead // MIB} MiB",
            hint="ask for a larger disk.size",
        )
    wanted.append(("root", TYPE_ROOT[spec.arch], spec.size - overhead))
    partitions, start = [], MIB
    for name, type_guid, size in wanted:
        partitions.append(
            Partition(
                name=name,
                type_guid=type_guid,
                unique_guid=spec.derive_uuid(f"partition-{name}"),
                first_lba=start // SECTOR,
                last_lba=(start + size) // SECTOR - 1,
            )
        )
        start += size
    return tuple(partitions)


def make_disk(tree: Path, raw: Path, spec: DiskSpec, scratch: Path) -> DiskReport:
    """Make the sparse disk image `raw` from `tree`, which is only read.

    `scratch` is an existing directory for temporary files. `raw` appears only when it is
    whole. Raises BuildError when a boot file is missing from the tree or the content does
    not fit; the latter says which disk.size would do.
    """
    files = bootcode.find_boot_files(tree, spec.arch)
    content = ext4.measure(tree)
    partial = raw.with_name(f".{raw.name}.partial")
    with tempfile.TemporaryDirectory(prefix="disk-", dir=scratch) as directory:
        work = Path(directory)
        _require_room(tree, content, spec, work)
        partitions = plan_partitions(spec)
        root = partitions[-1]
        try:
            with partial.open("wb") as file:
                file.truncate(spec.size)
            gpt.write(partial, spec.derive_uuid("disk"), partitions)
            _write_boot_code(partial, partitions, files, spec, work)
            usage = ext4.make(partial, root.offset, root.size, tree, _ext4_spec(spec), work)
            partial.replace(raw)
        except ext4.NoRoomError as exc:
            # What the measuring did not see (large extended attributes) took the rest.
            least = ext4.smallest(content, work) + _overhead(spec.arch)
            least = max(least, spec.size) // MIB * 11 // 10 * MIB
            raise _too_small(tree, content, spec, least, str(exc)) from exc
        finally:
            partial.unlink(missing_ok=True)
    return DiskReport(
        partitions=partitions,
        root_offset=root.offset,
        root_bytes=root.size,
        used_bytes=usage.used,
        free_bytes=usage.free,
        content_bytes=content.size,
    )


def add_layer(raw: Path, layer: Layer, files: Path, spec: DiskSpec, scratch: Path) -> None:
    """Add a layer to the root filesystem of a disk that `make_disk` made.

    `files` is the directory with the layer's files. When it fails, `raw` is of no use any
    more. Raises BuildError, which says what disk.size would do when there is no room.
    """
    root = plan_partitions(spec)[-1]
    with tempfile.TemporaryDirectory(prefix="layer-", dir=scratch) as directory:
        work = Path(directory)
        try:
            ext4patch.apply(
                raw, root.offset, layer.entries, layer.removed, files, epoch=spec.epoch, work=work
            )
        except ext4.NoRoomError as exc:
            raise _no_room(layer, spec, str(exc)) from exc


def _overhead(arch: str) -> int:
    """Bytes of a disk that are not root: both partition tables and the boot partitions."""
    return 2 * MIB + ESP_SIZE + (BIOS_SIZE if arch == "amd64" else 0)


def _ext4_spec(spec: DiskSpec) -> ext4.Ext4Spec:
    return ext4.Ext4Spec(
        label=spec.label,
        fs_uuid=spec.derive_uuid("root-filesystem"),
        hash_seed=spec.derive_uuid("root-hash-seed"),
        epoch=spec.epoch,
    )


def _write_boot_code(
    disk: Path,
    partitions: tuple[Partition, ...],
    files: bootcode.BootFiles,
    spec: DiskSpec,
    work: Path,
) -> None:
    for partition in partitions:
        if partition.type_guid == TYPE_BIOS_BOOT:
            bootcode.write_bios(disk, partition, files)
        elif partition.type_guid == TYPE_ESP:
            bootcode.write_esp(
                disk, partition, files,
                serial=spec.derive_serial(), epoch=spec.epoch, work=work,
            )  # fmt: skip


def _require_room(tree: Path, content: ext4.Content, spec: DiskSpec, work: Path) -> None:
    overhead = _overhead(spec.arch)
    if not ext4.fits(content, spec.size - overhead, work):
        least = ext4.smallest(content, work) + overhead
        raise _too_small(tree, content, spec, least, "")


def _no_room(layer: Layer, spec: DiskSpec, detail: str) -> BuildError:
    size = sum(-(-e.size // ext4.BLOCK) * ext4.BLOCK for e in layer.entries if not e.same_as)
    least = (spec.size + size) // MIB * 11 // 10
    return BuildError(
        f"the image's content does not fit on a disk of {spec.size // MIB} MiB: "
        f"another {size // MIB} MiB in {len(layer.entries)} files are to be added",
        detail=detail,
        hint=f"use --image-size or disk.size: {least}M would do",
    )


def _too_small(
    tree: Path, content: ext4.Content, spec: DiskSpec, least: int, detail: str
) -> BuildError:
    return BuildError(
        f"the image's content ({content.size // MIB} MiB in {content.inodes} files) does not "
        f"fit on a disk of {spec.size // MIB} MiB; the smallest disk.size that would do is "
        f"{least // MIB} MiB",
        where=str(tree),
        detail=detail,
        hint=f"use --image-size or disk.size: {least // MIB}M or more",
    )
