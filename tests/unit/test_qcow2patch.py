"""A patched qcow2 holds the new disk, is clean, and no larger than a conversion."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.config.words import Compression, Format
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.stages import formats, qcow2patch
from imagebuild.stages.qcow2patch import CLUSTER, changed_clusters, patch

MIB = 1 << 20
SIZE = 16 * MIB
COUNT = SIZE // CLUSTER


def noise(seed: int, size: int = CLUSTER) -> bytes:
    """Bytes that do not compress."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


#: What may be in a cluster, by name, and a number that makes each different.
CONTENTS: Mapping[str, Callable[[int], bytes]] = {
    "zeros": lambda _: bytes(CLUSTER),
    "text": lambda n: (b"line %d\n" % n * CLUSTER)[:CLUSTER],
    "noise": noise,
    "half": lambda n: noise(n, CLUSTER // 2) + bytes(CLUSTER // 2),
    "end": lambda n: bytes(CLUSTER - 1) + bytes([n % 255 + 1]),
}


def make_raw(path: Path, clusters: Mapping[int, bytes], size: int = SIZE) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for number, content in clusters.items():
            file.seek(number * CLUSTER)
            file.write(content)
    return path


def convert(raw: Path, compression: Compression) -> Path:
    out = raw.with_name(f"{raw.name}-{compression}.qcow2")
    formats.convert(raw, out, Format.QCOW2, compression, threads=2, seed="", epoch=0)
    return out


def patched(base: Path, before: Path, after: Path, compression: Compression) -> Path:
    """What `patch` makes of `base`; it holds the bytes of `after`, and is clean."""
    out = base.with_name("out.qcow2")
    work = base.with_name("work")
    work.mkdir(exist_ok=True)
    patch(base, before, after, out, compression, threads=2, work=work)
    assert list(work.iterdir()) == []
    # The status tells errors (2) from leaked clusters (3).
    run(["qemu-img", "check", "-q", out])
    run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", after, out])
    return out


@pytest.fixture
def before(tmp_path: Path) -> Path:
    kinds = list(CONTENTS.values())
    return make_raw(tmp_path / "before", {i: kinds[i % 5](i) for i in range(0, COUNT, 2)})


@pytest.fixture
def after(tmp_path: Path) -> Path:
    kinds = list(CONTENTS.values())
    clusters = {i: kinds[i % 5](i) for i in range(0, COUNT, 2)}
    clusters |= {i: kinds[i % 4](-i) for i in range(0, COUNT, 7)}
    return make_raw(tmp_path / "after", clusters)


@pytest.mark.parametrize("compression", list(Compression))
def test_it_holds_the_new_disk_and_no_more(
    before: Path, after: Path, tmp_path: Path, compression: Compression
) -> None:
    base, whole = convert(before, compression), convert(after, compression)
    out = patched(base, before, after, compression)
    assert out.stat().st_size <= whole.stat().st_size
    described = [run(["qemu-img", "info", "-U", p]).stdout.splitlines()[1:] for p in (out, whole)]
    assert [line for line in described[0] if b"disk size" not in line] == [
        line for line in described[1] if b"disk size" not in line
    ]
    again = out.rename(tmp_path / "first.qcow2")
    run(["cmp", again, patched(base, before, after, compression)])


@pytest.mark.parametrize("compression", list(Compression))
def test_clusters_that_stay_are_those_of_the_base(
    before: Path, after: Path, compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what changed is compressed, and what comes out is what compressing all gives."""
    base, whole = convert(before, compression), convert(after, compression)
    sizes = []
    original = formats.convert

    def count(raw: Path, *args: object, **keywords: object) -> None:
        sizes.append(raw.stat().st_size)
        original(raw, *args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(formats, "convert", count)
    out = patched(base, before, after, compression)
    assert sizes == [len(changed_clusters(before, after)) * CLUSTER]
    # Put together from the conversion of the new disk alone, it is the same file.
    copy = out.rename(out.with_name("copy.qcow2"))
    run(["cmp", copy, patched(whole, after, after, compression)])


def test_a_patched_file_is_patched_again(before: Path, after: Path) -> None:
    first = patched(convert(before, Compression.ZLIB), before, after, Compression.ZLIB)
    base = first.rename(first.with_name("base.qcow2"))
    back = patched(base, after, before, Compression.ZLIB)
    whole = convert(before, Compression.ZLIB)
    again = back.rename(back.with_name("again.qcow2"))
    run(["cmp", again, patched(whole, before, before, Compression.ZLIB)])


def test_far_away_and_at_the_end(tmp_path: Path) -> None:
    """Each table of the second level covers 512 MiB; one is new, one is needed no more."""
    size = 1100 * MIB
    last = size // CLUSTER - 1
    before = make_raw(tmp_path / "before", {0: noise(1), 9000: noise(2), 17000: b"x"}, size)
    after = make_raw(tmp_path / "after", {0: noise(1), 17000: b"y", last: b"end"}, size)
    assert changed_clusters(before, after) == [9000, 17000, last]
    patched(convert(before, Compression.ZSTD), before, after, Compression.ZSTD)


def test_holes_and_zeros_are_the_same(tmp_path: Path) -> None:
    hole = make_raw(tmp_path / "hole", {})
    zeros = make_raw(tmp_path / "zeros", {i: bytes(CLUSTER) for i in range(COUNT)})
    assert zeros.stat().st_blocks > hole.stat().st_blocks
    assert changed_clusters(hole, zeros) == changed_clusters(zeros, hole) == []
    out = patched(convert(hole, Compression.ZLIB), hole, zeros, Compression.ZLIB)
    assert out.stat().st_size <= 4 * CLUSTER


def test_all_of_it_vanishes(before: Path, tmp_path: Path) -> None:
    empty = make_raw(tmp_path / "empty", {})
    out = patched(convert(before, Compression.ZSTD), before, empty, Compression.ZSTD)
    assert out.stat().st_size <= 4 * CLUSTER


def test_a_cluster_that_is_kept_for_later_holds_zeros(tmp_path: Path) -> None:
    before = make_raw(tmp_path / "before", {3: noise(3), 4: noise(4)})
    base = convert(before, Compression.NONE)
    run(["qemu-io", "-f", "qcow2", "-c", f"write -z {3 * CLUSTER} {CLUSTER}", base])
    zeroed = make_raw(tmp_path / "zeroed", {4: noise(4)})
    patched(base, zeroed, zeroed, Compression.NONE)


def test_nothing_is_left_of_a_file_that_could_not_be_written(
    before: Path, after: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = convert(before, Compression.ZLIB)
    there = set(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(qcow2patch, "_count", full)
    with pytest.raises(OSError, match="No space"):
        patch(base, before, after, tmp_path / "out", Compression.ZLIB, threads=2, work=tmp_path)
    assert set(tmp_path.iterdir()) == there


disks = st.dictionaries(
    st.integers(0, 19), st.tuples(st.sampled_from(sorted(CONTENTS)), st.integers(0, 3))
)


@settings(max_examples=25, deadline=None)
@given(disks, disks, st.sampled_from(list(Compression)))
def test_any_two_disks(
    one: dict[int, tuple[str, int]], other: dict[int, tuple[str, int]], compression: Compression
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        before, after = (
            make_raw(
                Path(directory, name), {n: CONTENTS[k](i) for n, (k, i) in disk.items()}, 2 * MIB
            )
            for name, disk in (("before", one), ("after", other))
        )
        patched(convert(before, compression), before, after, compression)


def test_files_that_are_not_as_expected_are_refused(
    before: Path, after: Path, tmp_path: Path
) -> None:
    good = convert(before, Compression.ZSTD)
    text = tmp_path / "text.qcow2"
    text.write_text("no image")
    cut = tmp_path / "cut.qcow2"
    cut.write_bytes(good.read_bytes()[: 2 * CLUSTER])
    half = tmp_path / "half.qcow2"
    whole = convert(before, Compression.NONE).read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    small, old, above = (tmp_path / f"{name}.qcow2" for name in ("small", "old", "above"))
    for out, option in ((small, "cluster_size=32k"), (old, "compat=0.10")):
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", option, before, out])
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", good, above])
    longer = make_raw(tmp_path / "longer", {}, SIZE + MIB)
    out = tmp_path / "out.qcow2"
    out.write_text("the image of yesterday")
    for base, new, compression, complaint in [
        (text, after, Compression.ZLIB, "not as qemu-img makes it"),
        (cut, after, Compression.ZSTD, "not as qemu-img makes it"),
        (half, after, Compression.NONE, "not as qemu-img makes it"),
        (small, after, Compression.ZLIB, "not as qemu-img makes it"),
        (old, after, Compression.ZLIB, "not as qemu-img makes it"),
        (above, after, Compression.ZLIB, "not as qemu-img makes it"),
        (good, after, Compression.ZLIB, "differs in size or compression"),
        (good, longer, Compression.ZSTD, "differs in size or compression"),
    ]:
        with pytest.raises(BuildError, match=complaint) as error:
            patch(base, before, new, out, compression, threads=2, work=tmp_path)
        assert error.value.where == str(base)
    assert out.read_text() == "the image of yesterday"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "qcow2-"))]
