"""The database files of containerd (bbolt), read and written anew.

What bbolt writes depends on the order and the time of what was done, and old pages stay in the
file. Written here, a database of the same content is the same file. The format is that of
go.etcd.io/bbolt (its files page.go, bucket.go, db.go): a bucket is one leaf page, however
long, which bbolt itself splits at the next change; the list of free pages, which is
optional, is left out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = 0xED0CDAED
_VERSION = 2
_NO_FREE_LIST = 0xFFFFFFFFFFFFFFFF
_PAGE = struct.Struct("<QHHI")  # number, flags, entries, further pages
_ENTRY = struct.Struct("<IIII")  # flags, offset from here, length of the key, of the value
_BRANCH = struct.Struct("<IIQ")  # offset, length of the key, page
_BUCKET = struct.Struct("<QQ")  # page (0: it follows), sequence
_META = struct.Struct("<IIIIQQQQQ")
_IS_BRANCH, _IS_LEAF, _IS_META = 1, 2, 4
_IS_BUCKET = 1


@dataclass
class Bucket:
    """Values and buckets by key; `sequence` is the bucket's own counter."""

    sequence: int = 0
    items: dict[bytes, bytes | Bucket] = field(default_factory=dict)


def read(path: Path) -> tuple[Bucket, int]:
    """The content of a database that nobody has open, and its page size in bytes.

    Raises ValueError for what is none, or of another version.
    """
    data = path.read_bytes()
    try:
        return _read(data)
    except (struct.error, IndexError, RecursionError) as exc:
        raise ValueError(f"{path}: the database is damaged: {exc}") from exc


def _read(data: bytes) -> tuple[Bucket, int]:
    size = struct.unpack_from("<I", data, _PAGE.size + 8)[0]
    found = []
    # Two copies of the head, of which the one is written while the other is valid.
    for offset in (0, size):
        start = offset + _PAGE.size
        head = data[start : start + _META.size]
        magic, version, _, _, root, sequence, _, _, number = _META.unpack(head)
        (checksum,) = struct.unpack_from("<Q", data, start + _META.size)
        if (magic, version) == (_MAGIC, _VERSION) and checksum == _fnv(head):
            found.append((number, root, sequence))
    if not found:
        raise ValueError("this is no database of bbolt, version 2")
    _, root, sequence = max(found)
    return Bucket(sequence, _items(data, root * size, size)), size


def _items(data: bytes, start: int, size: int) -> dict[bytes, bytes | Bucket]:
    """The entries of the page at `start` and of all that it leads to."""
    _, flags, count, _ = _PAGE.unpack_from(data, start)
    found: dict[bytes, bytes | Bucket] = {}
    for number in range(count):
        place = start + _PAGE.size + _ENTRY.size * number
        if flags & _IS_BRANCH:
            found |= _items(data, _BRANCH.unpack_from(data, place)[2] * size, size)
            continue
        kind, offset, key_length, value_length = _ENTRY.unpack_from(data, place)
        middle = place + offset + key_length
        key, value = data[place + offset : middle], data[middle : middle + value_length]
        if kind & _IS_BUCKET:
            page, sequence = _BUCKET.unpack_from(value)
            inside = (data, page * size) if page else (value, _BUCKET.size)
            found[key] = Bucket(sequence, _items(inside[0], inside[1], size))
        else:
            found[key] = value
    return found


def write(root: Bucket, path: Path, page_size: int) -> None:
    """Write a database over the file. The same content gives the same bytes."""
    pages: list[bytes] = []
    top = _store(root, pages, page_size)
    head = b""
    for number in (0, 1):
        meta = _META.pack(
            _MAGIC, _VERSION, page_size, 0, top, root.sequence, _NO_FREE_LIST,
            2 + len(pages), number,
        )  # fmt: skip
        page = _PAGE.pack(number, _IS_META, 0, 0) + meta + struct.pack("<Q", _fnv(meta))
        head += page.ljust(page_size, b"\0")
    path.write_bytes(head + b"".join(pages))


def _store(bucket: Bucket, pages: list[bytes], size: int) -> int:
    """Add a bucket's pages, those of the buckets in it before; returns its own page's number."""
    entries = []
    for key, value in sorted(bucket.items.items()):
        if isinstance(value, bytes):
            entries.append((0, key, value))
            continue
        leaves = [(0, k, v) for k, v in sorted(value.items.items()) if isinstance(v, bytes)]
        inside = _leaf(0, leaves, 0)
        # As bbolt has it: small buckets without others in them lie within their parent.
        if len(leaves) == len(value.items) and _BUCKET.size + len(inside) <= size // 4:
            entries.append((_IS_BUCKET, key, _BUCKET.pack(0, value.sequence) + inside))
        else:
            page = _store(value, pages, size)
            entries.append((_IS_BUCKET, key, _BUCKET.pack(page, value.sequence)))
    number = 2 + len(pages)
    content = _leaf(number, entries, size)
    pages += [content[i : i + size] for i in range(0, len(content), size)]
    return number


def _leaf(number: int, entries: list[tuple[int, bytes, bytes]], size: int) -> bytes:
    """A leaf page, filled up to whole pages of `size` bytes (0: not filled up)."""
    heads, data = b"", b""
    for index, (kind, key, value) in enumerate(entries):
        offset = _ENTRY.size * (len(entries) - index) + len(data)
        heads += _ENTRY.pack(kind, offset, len(key), len(value))
        data += key + value
    length = _PAGE.size + len(heads) + len(data)
    further = (length - 1) // size if size else 0
    page = _PAGE.pack(number, _IS_LEAF, len(entries), further) + heads + data
    return page.ljust((further + 1) * size, b"\0") if size else page


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
