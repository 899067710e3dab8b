"""A qcow2 file made from one that differs in few clusters: these alone are compressed.

qemu-img compresses the clusters that changed, as a small image of their own. The new file
is then put together from the compressed clusters of both images, in the order of the disk
and without gaps, so that it is no larger than a conversion and depends on nothing else.
Layout: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from imagebuild.config.words import Compression, Format
from imagebuild.errors import BuildError
from imagebuild.stages import formats

#: What qemu-img makes unless told otherwise; nothing else is read here.
CLUSTER = 1 << 16

_SECTOR = 512
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_SIZE_SHIFT = 62 - (16 - 8)
_OFFSET = (1 << 56) - CLUSTER
_ZERO = 1
_L2_ENTRIES = CLUSTER // 8
_REFCOUNTS = CLUSTER // 2
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQIIB")
#: The compression type is told by a field of its own; the only feature that may be set.
_TYPE_FEATURE = 1 << 3
_BUFFER = 1 << 20
#: Byte in the header: where the L1 table is, where the table of reference counts is, its size.
_L1_FIELD = 40


class _Blob(NamedTuple):
    """Content of a cluster of the disk: `size` bytes at `offset` of a file."""

    source: IO[bytes]
    offset: int
    size: int
    compressed: bool


@dataclass(frozen=True)
class _Image:
    """What is in a qcow2: its first cluster, and the blobs by number of the disk's cluster."""

    header: bytes
    size: int
    zstd: bool
    l1_entries: int
    blobs: dict[int, _Blob]


def patch(
    base: Path,
    before: Path,
    after: Path,
    out: Path,
    compression: Compression,
    *,
    threads: int,
    work: Path,
    timeout: float | None = None,
) -> None:
    """Write `out`, a qcow2 that holds the raw image `after`.

    `base` is a qcow2 that holds the raw image `before`, which is as large as `after`, and
    is compressed as `out` shall be. `out` appears only when it is whole. `work` is an
    existing directory for temporary files, `timeout` (of the compression) in seconds.
    Raises BuildError, PreflightError.
    """
    partial = out.with_name(f".{out.name}.partial")
    with (
        tempfile.TemporaryDirectory(prefix="qcow2-", dir=work) as directory,
        base.open("rb", buffering=0) as base_file,
    ):
        image = _read(base_file)
        sizes = {image.size, before.stat().st_size, after.stat().st_size}
        wants_zstd = compression is Compression.ZSTD
        if len(sizes) != 1 or image.zstd != wants_zstd or image.size % CLUSTER:
            raise BuildError(
                "a qcow2 cannot be made from another one that differs in size or compression",
                where=str(base),
            )
        changed = changed_clusters(before, after)
        new_raw, new = Path(directory, "new.raw"), Path(directory, "new.qcow2")
        _gather(after, changed, new_raw)
        formats.convert(
            new_raw, new, Format.QCOW2, compression,
            threads=threads, seed="", epoch=0, timeout=timeout,
        )  # fmt: skip
        new_raw.unlink()
        try:
            with new.open("rb", buffering=0) as new_file, partial.open("wb") as file:
                fresh = _read(new_file).blobs
                for number, cluster in enumerate(changed):
                    image.blobs.pop(cluster, None)
                    if number in fresh:
                        image.blobs[cluster] = fresh[number]
                _write(file, image)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


def changed_clusters(before: Path, after: Path) -> list[int]:
    """Numbers of the clusters in which two raw images of one size differ."""
    found = []
    ours, theirs = bytearray(_BUFFER), bytearray(_BUFFER)
    with before.open("rb", buffering=0) as one, after.open("rb", buffering=0) as other:
        for start in sorted({*_with_data(one), *_with_data(other)}):
            size = _fill(one, ours, start)
            if _fill(other, theirs, start) == size and ours == theirs:
                continue
            found += [
                (start + i) // CLUSTER
                for i in range(0, size, CLUSTER)
                if ours[i : i + CLUSTER] != theirs[i : i + CLUSTER]
            ]
    return found


def _with_data(file: IO[bytes]) -> Iterator[int]:
    """Offsets of the buffers that are not in a hole."""
    fd, end = file.fileno(), 0
    while True:
        try:
            data = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, data, os.SEEK_HOLE)
        yield from range(data // _BUFFER * _BUFFER, end, _BUFFER)


def _fill(file: IO[bytes], buffer: bytearray, start: int) -> int:
    """Read from `start` until the buffer is full, or to the end; returns how many bytes."""
    size, fd = 0, file.fileno()
    while more := os.preadv(fd, [memoryview(buffer)[size:]], start + size):
        size += more
    return size


def _gather(raw: Path, clusters: Sequence[int], out: Path) -> None:
    """Write some clusters of `raw`, one after the other, to `out`."""
    with raw.open("rb", buffering=0) as source, out.open("wb") as file:
        for cluster in clusters:
            file.write(os.pread(source.fileno(), CLUSTER, cluster * CLUSTER))


def _read(file: IO[bytes]) -> _Image:
    """Read where everything is. Raises BuildError when it is no qcow2 that qemu-img makes."""
    header = os.pread(file.fileno(), CLUSTER, 0)
    if len(header) < CLUSTER:
        raise _strange(file)
    (magic, version, backing, _backing_size, cluster_bits, size, crypt, l1_entries, l1_at,
     _refcounts_at, _refcounts_size, snapshots, _snapshots_at, incompatible, _compatible,
     autoclear, refcount_order, _length, kind) = _HEADER.unpack_from(header)  # fmt: skip
    if (
        (magic, version, 1 << cluster_bits, refcount_order) != (b"QFI\xfb", 3, CLUSTER, 4)
        or backing or crypt or snapshots or autoclear or incompatible & ~_TYPE_FEATURE
    ):  # fmt: skip
        raise _strange(file)
    blobs: dict[int, _Blob] = {}
    for slot, entry in enumerate(_table(file, l1_at, l1_entries)):
        if not entry & _OFFSET:
            continue
        for i, descriptor in enumerate(_table(file, entry & _OFFSET, _L2_ENTRIES)):
            if descriptor & _COMPRESSED:
                offset = descriptor & ((1 << _SIZE_SHIFT) - 1)
                sectors = ((descriptor & (_COMPRESSED - 1)) >> _SIZE_SHIFT) + 1
                blob = _Blob(file, offset, sectors * _SECTOR - offset % _SECTOR, True)
            elif descriptor & _OFFSET and not descriptor & _ZERO:
                blob = _Blob(file, descriptor & _OFFSET, CLUSTER, False)
            else:
                continue
            blobs[slot * _L2_ENTRIES + i] = blob
    return _Image(header, size, kind == 1, l1_entries, dict(_trim(file, blobs, kind == 1)))


def _trim(file: IO[bytes], blobs: Mapping[int, _Blob], zstd: bool) -> Iterator[tuple[int, _Blob]]:
    """The blobs without what is not theirs in the last sector: descriptors count sectors.

    Those that lie between two others end where the next one begins.
    """
    following = 0
    for cluster, blob in sorted(blobs.items(), key=lambda item: -item[1].offset):
        room = following - blob.offset
        if blob.compressed and 0 < room <= blob.size:
            blob = blob._replace(size=room)
        elif blob.compressed:
            data = os.pread(file.fileno(), blob.size, blob.offset)
            try:
                size = _zstd_size(data) if zstd else _deflate_size(data)
            except (ValueError, zlib.error) as exc:
                raise _strange(file) from exc
            blob = blob._replace(size=size)
        following = blob.offset
        yield cluster, blob


def _deflate_size(data: bytes) -> int:
    """Bytes of the raw deflate stream that `data` begins with. Raises ValueError, zlib.error."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    stream.decompress(data)
    if not stream.eof:
        raise ValueError("the stream has no end")
    return len(data) - len(stream.unused_data)


def _zstd_size(data: bytes) -> int:
    """Bytes of the zstd frame that `data` begins with (RFC 8878, 3.1.1). Raises ValueError."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 5:
        raise ValueError("this is no frame")
    flags = data[4]
    one_segment = flags >> 5 & 1
    at = 5 + (not one_segment) + (0, 1, 2, 4)[flags & 3] + (one_segment, 2, 4, 8)[flags >> 6]
    last = 0
    while not last:
        header = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        # The one byte of a run stands once.
        at += 3 + (1 if kind == 1 else size)
        if at > len(data):
            raise ValueError("the frame has no end")
    return at + 4 * (flags >> 2 & 1)


def _table(file: IO[bytes], offset: int, entries: int) -> tuple[int, ...]:
    data = os.pread(file.fileno(), entries * 8, offset)
    if len(data) < entries * 8:
        raise _strange(file)
    return struct.unpack(f">{entries}Q", data)


def _write(file: IO[bytes], image: _Image) -> None:
    """Write header, tables, clusters as they are, compressed clusters, reference counts."""
    slots = sorted({cluster // _L2_ENTRIES for cluster in image.blobs})
    l1_clusters = -(-image.l1_entries * 8 // CLUSTER)
    at = (1 + l1_clusters) * CLUSTER
    l1 = [0] * image.l1_entries
    l2 = {slot: [0] * _L2_ENTRIES for slot in slots}
    for slot in slots:
        l1[slot] = at | _COPIED
        at += CLUSTER
    counts = Counter(range(at // CLUSTER))
    file.seek(at)
    # Clusters that cannot be compressed are aligned: first, so that none of them leaves a gap.
    order = sorted(image.blobs.items(), key=lambda item: (item[1].compressed, item[0]))
    for cluster, blob in order:
        end = at + blob.size
        counts.update(range(at // CLUSTER, (end - 1) // CLUSTER + 1))
        if blob.compressed:
            sectors = (end - 1) // _SECTOR - at // _SECTOR
            descriptor = at | sectors << _SIZE_SHIFT | _COMPRESSED
        else:
            descriptor = at | _COPIED
        l2[cluster // _L2_ENTRIES][cluster % _L2_ENTRIES] = descriptor
        at = end
    for source, offset, size, _ in _runs(blob for _, blob in order):
        while size:
            data = os.pread(source.fileno(), min(_BUFFER, size), offset)
            if not data:
                raise _strange(source)
            file.write(data)
            offset, size = offset + len(data), size - len(data)
    tables, fields = _count(at, counts)
    file.seek(-(-at // CLUSTER) * CLUSTER)
    file.write(tables)
    header = bytearray(image.header)
    struct.pack_into(">QQI", header, _L1_FIELD, CLUSTER, *fields)
    file.seek(0)
    file.write(header)
    file.write(struct.pack(f">{len(l1)}Q", *l1).ljust(l1_clusters * CLUSTER, b"\0"))
    for slot in slots:
        file.write(struct.pack(f">{_L2_ENTRIES}Q", *l2[slot]))


def _runs(blobs: Iterable[_Blob]) -> Iterator[_Blob]:
    """The blobs, those that lie next to each other as one."""
    run: _Blob | None = None
    for blob in blobs:
        if run and (blob.source, blob.offset) == (run.source, run.offset + run.size):
            run = run._replace(size=run.size + blob.size)
            continue
        if run:
            yield run
        run = blob
    if run:
        yield run


def _count(end: int, counts: Counter[int]) -> tuple[bytes, tuple[int, int]]:
    """Reference counts: their blocks and the table of these, and where the table is and how
    many clusters it takes. They stand after the data, which ends at `end`.
    """
    first = -(-end // CLUSTER)
    blocks = table = total = 0
    while first + blocks + table > total:
        total = first + blocks + table
        blocks = -(-total // _REFCOUNTS)
        table = -(-blocks * 8 // CLUSTER)
    numbers = [counts[i] for i in range(first)] + [1] * (blocks + table)
    data = struct.pack(f">{len(numbers)}H", *numbers).ljust(blocks * CLUSTER, b"\0")
    places = [(first + i) * CLUSTER for i in range(blocks)]
    data += struct.pack(f">{blocks}Q", *places).ljust(table * CLUSTER, b"\0")
    return data, ((first + blocks) * CLUSTER, table)


def _strange(file: IO[bytes]) -> BuildError:
    return BuildError(
        "this qcow2 file is not as qemu-img makes it",
        where=str(file.name),
        hint="clear the cache: the file is made anew then",
    )
