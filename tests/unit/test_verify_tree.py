"""The reader of images, against e2fsprogs: what mke2fs wrote is what it reads."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, VerifyError
from imagebuild.host.run import run
from imagebuild.verify.tree import READ_LIMIT, Tree, open_image
from tests.unit.disk_image import MIB, File, debugfs, directory, make_disk, text

CONTENT = random.Random(1).randbytes(300_000)  # noqa: S311


@pytest.fixture(scope="module", params=[1024, 4096])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    files = {
        "/etc/large": File(CONTENT, 0o600, 70_000, 80_000),
        "/etc/empty": File(),
        "/etc/one": text("one\n"),
        "/usr/bin/tool": File(b"#!", 0o4755, 0, 5),
        "/bin": File(link="usr/bin"),
        "/etc/long": File(link="/" + "a/" * 100 + "one"),
        "/etc/sixty": File(link="x" * 60),
        "/etc/fifty-nine": File(link="x" * 59),
        "/etc/loop": File(link="loop"),
        "/etc/out": File(link="../../../../etc/one"),
        "/etc/abs": File(link="/bin/../../etc/one"),
        "/var/tagged": File(b"x", xattrs={"user.small": b"1", "user.large": CONTENT[:700]}),
        "/dev/null": File(device="c 1 3", mode=0o666),
        "/many": directory(),
    } | {f"/many/{'n' * 30}-{n}": File(str(n).encode()) for n in range(1500)}
    work = tmp_path_factory.mktemp("disk")
    raw = make_disk(work, files, commands=["sif /etc/one mtime @3000000000"], block=request.param)
    return Tree(raw)


def test_every_path_is_there(tree: Tree) -> None:
    assert len(tree.names("/many")) == 1500
    assert {p for p in tree.nodes if p.count("/") == 1} == {
        "/", "/bin", "/dev", "/etc", "/many", "/usr", "/var", "/lost+found",
    }  # fmt: skip
    assert tree.names("/etc") == {
        "abs", "empty", "fifty-nine", "large", "long", "loop", "one", "out", "sixty",
    }  # fmt: skip
    assert {n.path for n in tree.below("/usr")} == {"/usr/bin", "/usr/bin/tool"}


def test_content_is_what_was_written(tree: Tree) -> None:
    assert tree.read_bytes("/etc/large") == CONTENT
    assert tree.read_bytes("/etc/empty") == b""
    large = tree.nodes["/etc/large"]
    assert tree.content(large, 4090, 20) == CONTENT[4090:4110]
    assert tree.content(large, len(CONTENT) - 3, 100) == CONTENT[-3:]
    assert tree.read_text(f"/many/{'n' * 30}-1499") == "1499"


def test_owner_mode_and_time(tree: Tree) -> None:
    large, tool = tree.nodes["/etc/large"], tree.nodes["/usr/bin/tool"]
    assert (large.uid, large.gid, large.mode) == (70_000, 80_000, 0o100600)
    assert (tool.uid, tool.gid, tool.permissions) == (0, 5, 0o4755)
    assert tree.nodes["/etc/one"].inode.mtime == 3_000_000_000
    assert stat.S_ISCHR(tree.nodes["/dev/null"].mode)


def test_links_are_followed_inside_the_image(tree: Tree) -> None:
    assert tree.nodes["/etc/sixty"].link == "x" * 60
    assert tree.nodes["/etc/fifty-nine"].link == "x" * 59
    assert tree.nodes["/etc/long"].link == "/" + "a/" * 100 + "one"
    assert tree.read_text("/etc/out") == "one\n"
    assert tree.read_text("/etc/abs") == "one\n"
    assert tree.exists("/bin/tool")
    assert tree.exists("/etc/loop")
    assert tree.resolve("/etc/loop") is None
    assert tree.resolve("/etc/long") is None
    assert not tree.exists("/etc/one/two")
    with pytest.raises(VerifyError):
        tree.read_bytes("/etc/loop")


def test_extended_attributes(tree: Tree) -> None:
    expected = {"user.small": b"1", "user.large": CONTENT[:700]}
    assert tree.xattrs(tree.nodes["/var/tagged"]) == expected
    assert tree.xattrs(tree.nodes["/etc/one"]) == {}


def test_extract_copies_a_directory(tree: Tree, tmp_path: Path) -> None:
    copy = tree.extract("/etc", tmp_path)
    assert (copy / "large").read_bytes() == CONTENT
    assert (copy / "out").readlink() == Path("../../../../etc/one")


def test_place_names_the_owner_of_a_byte(tree: Tree) -> None:
    with tree.raw.open("rb") as file:
        at = file.read().find(CONTENT[100:200])
    place = tree.place(at)
    assert (place.where, place.offset, place.slack) == ("/etc/large", 100, False)
    behind = tree.place(at - 100 + len(CONTENT))
    assert (behind.where, behind.slack) == ("/etc/large", True)
    assert tree.place(100).where == "outside of all partitions"
    assert tree.place(MIB + 1024).node is None


def test_fragments_and_holes(tmp_path: Path) -> None:
    """A file in many pieces, whose extents do not fit into its inode, and one with holes."""
    content = CONTENT[:160_000]
    source, holes = tmp_path / "source", tmp_path / "holes"
    source.write_bytes(content)
    holes.write_bytes(b"begin".ljust(40960, b"\0") + b"end")
    filler = {f"/fill/{n:04}": File(b"f" * 4096) for n in range(400)}
    gaps = [f"rm /fill/{n:04}" for n in range(0, 400, 2)]
    raw = make_disk(tmp_path / "work", filler, commands=[*gaps, f"write {source} pieces",
                                                         f"write {holes} holes"])  # fmt: skip
    tree = Tree(raw)
    assert len(tree.extents(tree.nodes["/pieces"])) > 30
    assert tree.read_bytes("/pieces") == content
    assert tree.read_bytes("/holes") == holes.read_bytes()


def test_name_that_is_no_utf8(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "work", {os.fsdecode(b"/caf\xe9"): File(b"x")})
    assert os.fsdecode(b"/caf\xe9") in Tree(raw).nodes


def test_allocated_but_unwritten_blocks_are_zeros(tmp_path: Path) -> None:
    work = tmp_path / "work"
    raw = make_disk(work, {"/file": File(b"12345")})
    debugfs(raw, ["fallocate /file 1 3", "sif /file size 16384"])
    (unwritten,) = (e for e in Tree(raw).extents(Tree(raw).nodes["/file"]) if not e.written)
    with raw.open("r+b") as file:
        file.seek(MIB + unwritten.physical * 4096)
        file.write(b"what was there before")
    assert Tree(raw).read_bytes("/file") == b"12345".ljust(16384, b"\0")


def test_file_that_is_too_large_to_read(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "work", {"/file": File(b"x")}, commands=[
        f"sif /file size {READ_LIMIT + 1}"])  # fmt: skip
    with pytest.raises(VerifyError, match="too large"):
        Tree(raw).read_bytes("/file")


def test_qcow2_is_read_like_raw(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "work", {"/etc/one": text("one\n")})
    image = tmp_path / "image.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for path in (raw, image):
        with open_image(path, scratch) as tree:
            assert tree.read_text("/etc/one") == "one\n"
    assert raw.exists()
    assert not list(scratch.iterdir())


def test_qcow2_that_is_damaged(tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"QFI\xfb" + bytes(2000))
    with pytest.raises(BuildError, match=r"cannot read image\.qcow2"), open_image(image, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0x38, 0, "no ext4 filesystem"),
        (0x18, 60, "makes no sense"),
        (0x28, 0, "makes no sense"),
        (0x60, 0x80C2, "inline_data"),
        (0x60, 0xC6, "journal that waits"),
        (0x60, 0x400000C2, "incompatible features 0x40000000"),
        (0x64, 0x200, "bigalloc"),
    ],
)
def test_filesystem_that_cannot_be_read_is_refused(
    tmp_path: Path, at: int, value: int, why: str
) -> None:
    raw = make_disk(tmp_path / "work", {"/etc/one": text("one\n")})
    with raw.open("r+b") as file:
        file.seek(MIB + 1024 + at)
        file.write(value.to_bytes(4, "little"))
    with pytest.raises(VerifyError) as caught:
        Tree(raw)
    assert why in caught.value.detail


def test_damage_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    """Bytes of the metadata are changed at random: an answer or a VerifyError, in finite time."""
    files = {"/etc/one": text("one"), "/etc/l": File(link="l" * 99), "/x": File(b"x" * 9000)}
    raw = make_disk(tmp_path / "work", files)
    whole = raw.read_bytes()
    used = [at for at in range(MIB + 1024, len(whole), 4) if whole[at : at + 4] != bytes(4)]
    dice = random.Random(2)  # noqa: S311
    refused = 0
    for _ in range(300):
        at = dice.choice(used)
        with raw.open("r+b") as file:
            file.seek(at)
            file.write(dice.randbytes(4))
        try:
            tree = Tree(raw)
            for node in tree.nodes.values():
                tree.xattrs(node)
                if node.is_file and node.size < READ_LIMIT:
                    tree.content(node)
            tree.place(MIB + 4096 * 100)
        except VerifyError:
            refused += 1
        with raw.open("r+b") as file:
            file.seek(at)
            file.write(whole[at : at + 4])
    assert refused > 5
