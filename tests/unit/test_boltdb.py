"""containerd's database files: read whole, written so that the same content is the same file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.stages import boltdb, dockerstore
from imagebuild.stages.boltdb import Bucket

PAGE = 4096
VALUES = st.dictionaries(st.binary(max_size=40), st.binary(max_size=3000), max_size=4)
BUCKETS = st.recursive(
    st.builds(Bucket, st.integers(0, 9), VALUES),
    lambda below: st.builds(
        Bucket,
        st.integers(0, 9),
        st.dictionaries(
            st.binary(max_size=20), st.one_of(st.binary(max_size=50), below), max_size=4
        ),
    ),
    max_leaves=8,
)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "db"

    @settings(max_examples=60)
    @given(BUCKETS)
    def check(bucket: Bucket) -> None:
        boltdb.write(bucket, path, PAGE)
        data = path.read_bytes()
        assert boltdb.read(path) == (bucket, PAGE)
        assert len(data) % PAGE == 0
        boltdb.write(Bucket(bucket.sequence, dict(reversed(bucket.items.items()))), path, PAGE)
        assert path.read_bytes() == data

    check()


def test_a_long_page_says_how_long_it_is(tmp_path: Path) -> None:
    """bbolt frees so many pages when it writes the bucket elsewhere."""
    path = tmp_path / "db"
    boltdb.write(Bucket(0, {b"a": bytes(2 * PAGE), b"b": b""}), path, PAGE)
    data = path.read_bytes()
    assert struct.unpack_from("<QHHI", data, 2 * PAGE) == (2, 2, 2, 2)
    assert len(data) == 5 * PAGE
    high_water = struct.unpack_from("<Q", data, 16 + 40)[0]
    assert high_water == 5


def page(number: int, flags: int, count: int, content: bytes) -> bytes:
    return (struct.pack("<QHHI", number, flags, count, 0) + content).ljust(PAGE, b"\0")


def test_a_file_of_bbolts_own(tmp_path: Path) -> None:
    """A branch over two leaves, and an older head that is valid too."""
    leaves = [boltdb._leaf(3 + n, [(0, bytes([n]), b"v")], PAGE) for n in (0, 1)]
    entries = b"".join(
        struct.pack("<IIQ", 32 - 16 * n + n, 1, 3 + n) for n in (0, 1)
    )  # offset to the key, its length, the page
    branch = page(2, 1, 2, entries + b"\x00\x01")
    heads = []
    for number, root in ((6, 2), (5, 3)):
        meta = boltdb._META.pack(0xED0CDAED, 2, PAGE, 0, root, 0, 9, 5, number)
        heads.append(page(number % 2, 4, 0, meta + struct.pack("<Q", boltdb._fnv(meta))))
    path = tmp_path / "db"
    path.write_bytes(b"".join([*heads, branch, *leaves]))
    assert boltdb.read(path)[0].items == {b"\x00": b"v", b"\x01": b"v"}
    # The newest head was being written when the power went.
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    assert boltdb.read(path)[0].items == {b"\x00": b"v"}


def test_the_checksum_is_fnv() -> None:
    # From the reference vectors of the algorithm (draft-eastlake-fnv).
    assert boltdb._fnv(b"foobar") == 0x85944171F73967E8


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(3 * PAGE)])
def test_what_is_no_database(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "db").write_bytes(data)
    with pytest.raises(ValueError, match="database"):
        boltdb.read(tmp_path / "db")


def test_only_times_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
    path.parent.mkdir(parents=True)
    inside = {b"createdat": b"then", b"name": b"x", b"updatedat": b"then"}
    boltdb.write(Bucket(3, {b"v1": Bucket(4, dict(inside))}), path, PAGE)
    dockerstore.rewrite_databases(tmp_path, "overlayfs", 0)
    content, _ = boltdb.read(path)
    v1 = content.items[b"v1"]
    assert isinstance(v1, Bucket)
    assert v1.sequence == 4
    # 1970-01-01T00:00:00Z as Go's time.MarshalBinary has it.
    moment = bytes.fromhex("01 0000000e7791f700 00000000 ffff")
    assert v1.items == {b"createdat": moment, b"name": b"x", b"updatedat": moment}
