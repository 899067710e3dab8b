"""A filesystem with a layer put on top is the one that mke2fs makes of the whole tree."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import stat
import struct
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild import inventory
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.inventory import Entry
from imagebuild.stages import ext4, ext4patch
from imagebuild.verify.ext4 import ROOT_INODE, Ext4

MIB = 1 << 20
OFFSET = MIB
SIZE = 160 * MIB
EPOCH = 1_700_000_000
SPEC = ext4.Ext4Spec("root", uuid.UUID(int=1), uuid.UUID(int=2), EPOCH)

as_root = pytest.mark.skipif(os.getuid() != 0, reason="owners and devices need root")

# user::rw-, user:1234:r--, group::r--, mask::r--, other::---
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, ident)
    for tag, perm, ident in [
        (1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    ]
)  # fmt: skip
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)

#: Names that debugfs's parser, or a script, takes for something else.
NAMES = [
    "two words", " ", "\t", '"', '""', 'say "hi" twice', "'", "\\", "#", "!ls", "-f", "--", "<2>",
    "<12>", "a\nb", "\n", "\r", "größe", os.fsdecode(b"\xff\xfe"), "x" * 255, "ü" * 127, "*?[a]",
    "quit", "$HOME", "\x01\x7f", "a;b", "..a",
]  # fmt: skip


def make(work: Path, tree: Path, name: str, size: int = SIZE) -> Path:
    """An image with a filesystem of `tree`."""
    raw = work / name
    with raw.open("wb") as file:
        file.truncate(OFFSET + size)
    ext4.make(raw, OFFSET, size, tree, SPEC, work)
    return raw


def state(raw: Path) -> dict[str, tuple[object, ...]]:
    """All that the filesystem says of each path, numbers of inodes and blocks left out."""
    fs = Ext4(raw, OFFSET)
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    pending = [("/", ROOT_INODE)]
    while pending:
        path, number = pending.pop()
        inode = fs.inode(number)
        content: bytes | str = b""
        if stat.S_ISREG(inode.mode):
            content = fs.read(inode, 0, inode.size)
        elif stat.S_ISLNK(inode.mode):
            content = fs.link(inode)
        elif stat.S_ISDIR(inode.mode):
            for name, below in sorted(fs.entries(inode), reverse=True):
                pending.append((f"{path.rstrip('/')}/{name}", below))
        else:
            content = inode.raw[0x28:0x64]  # the device's number
        holes = sum(e.count for e in fs.extents(inode)) if stat.S_ISREG(inode.mode) else 0
        # atime, ctime, generation; ctime_extra, mtime_extra, atime_extra, crtime
        others = inode.raw[8:16], inode.raw[0x64:0x68], inode.raw[0x84:0x98]
        found[path] = (
            inode.mode, inode.uid, inode.gid, inode.mtime, inode.links, content, holes, others,
            fs.xattrs(inode), first.setdefault(number, path),
        )  # fmt: skip
    fs.close()
    return found


def difference(below: Path, above: Path) -> tuple[list[Entry], list[str]]:
    """The layer between two trees."""
    old = {e.path: e for e in inventory.walk(below)}
    new = {e.path: e for e in inventory.walk(above)}
    gone = [p for p in old if p not in new and (os.path.dirname(p) in new)]  # noqa: PTH120
    return [e for e in new.values() if old.get(e.path) != e], gone


def put(raw: Path, layer: tuple[Sequence[Entry], Sequence[str]], content: Path) -> Path:
    """Put a layer on top of a copy of `raw`."""
    out = raw.with_name(f"{raw.name}-{len(list(raw.parent.iterdir()))}")
    run(["cp", "--sparse=always", raw, out])
    work = raw.with_name("work")
    work.mkdir(exist_ok=True)
    ext4patch.apply(out, OFFSET, *layer, content, epoch=EPOCH, work=work)
    assert list(work.iterdir()) == []
    return out


def require_same(work: Path, below: Path, above: Path) -> Path:
    """Put the difference of two trees on top of the filesystem of one: it is that of the other."""
    patched = put(make(work, below, "below"), difference(below, above), above)
    check = run(["e2fsck", "-fn", f"{patched}?offset={OFFSET}"], check=False)
    assert check.returncode == 0, check.stdout.decode()
    found, wanted = state(patched), state(make(work, above, "above"))
    # mke2fs takes neither mode nor owner nor time from the tree's top.
    del found["/"], wanted["/"]
    assert found.keys() == wanted.keys()
    assert found == wanted
    return patched


def write(path: Path, content: bytes = b"", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def settle(tree: Path) -> None:
    """One time for all of the tree."""
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    tree = tmp_path / "tree-below"
    write(tree / "etc/hostname", b"guest\n")
    write(tree / "etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o600)
    (tree / "bin").symlink_to("usr/bin")
    write(tree / "usr/bin/tool", os.urandom(3 * MIB), 0o4755)
    (tree / "usr/bin/same").hardlink_to(tree / "usr/bin/tool")
    (tree / "opt/stays too").hardlink_to(write(tree / "opt/stays", b"stays"))
    for i in range(40):
        write(tree / f"opt/old/{i % 4}/{i}", str(i).encode() * 3000)
    settle(tree)
    return tree


@pytest.fixture
def above(below: Path, tmp_path: Path) -> Path:
    run(["cp", "-a", below, tmp_path / "tree-above"])
    return tmp_path / "tree-above"


def test_an_empty_layer_changes_nothing(below: Path, tmp_path: Path) -> None:
    raw = make(tmp_path, below, "below")
    run(["cmp", raw, put(raw, ([], []), below)])


def test_every_kind_of_change(below: Path, above: Path, tmp_path: Path) -> None:
    write(above / "etc/hostname", b"another guest\n")
    (above / "etc/passwd").chmod(0o644)
    (above / "usr/bin").chmod(0o711)
    os.utime(above / "opt/stays", (1, 1))
    (above / "usr/bin/same").unlink()
    # A link, a directory and a file in the place of something else.
    (above / "bin").unlink()
    write(above / "bin/sh", b"#!")
    shutil.rmtree(above / "opt/old")
    write(above / "opt/old", b"a file now")
    (above / "etc/passwd").unlink()
    (above / "etc/passwd").symlink_to("p" * 300)
    (above / "etc/short").symlink_to("q" * 59)
    (above / "etc/60").symlink_to("q" * 60)
    write(above / "new/deep/er/file", b"x" * 5000)
    write(above / "new/empty")
    (above / "new/hard").hardlink_to(above / "opt/stays")
    (above / "new/hard too").hardlink_to(above / "opt/stays")
    (above / "new/Hard").hardlink_to(above / "new/deep/er/file")
    with (above / "new/sparse").open("wb") as file:
        file.seek(70 * MIB)
        file.write(b"end")
        file.truncate(90 * MIB)
    os.mkfifo(above / "new/fifo")
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as short:
        listener.bind(f"{short}/socket")
        Path(short, "socket").rename(above / "new/socket")
    raw = require_same(tmp_path, below, above)
    again = put(tmp_path / "below", difference(below, above), above)
    run(["cmp", raw, again])


@as_root
def test_what_root_alone_may_make(below: Path, above: Path, tmp_path: Path) -> None:
    for name, kind, major, minor in [
        ("whiteout", stat.S_IFCHR, 0, 0), ("null", stat.S_IFCHR, 1, 3),
        ("disk", stat.S_IFBLK, 8, 300), ("far", stat.S_IFCHR, 300, 70_000),
        ("line\nbreak", stat.S_IFBLK, 7, 1),
    ]:  # fmt: skip
        os.mknod(above / "opt" / name, kind | 0o640, os.makedev(major, minor))
        os.chown(above / "opt" / name, 5, 6)
    os.chown(above / "opt/stays", 65_536, 4_000_000_000)
    os.chown(above / "etc", 0, 70_000)
    (above / "etc/link").symlink_to("hostname")
    os.chown(above / "etc/link", 7, 8, follow_symlinks=False)
    os.setxattr(above / "usr/bin/tool", "security.capability", CAPABILITY)
    os.setxattr(above / "etc/hostname", "system.posix_acl_access", ACL)
    os.setxattr(above / "etc", "system.posix_acl_default", ACL)
    os.setxattr(above / "etc", "trusted.overlay.opaque", b"y")
    require_same(tmp_path, below, above)


def test_attributes_come_and_go(below: Path, above: Path, tmp_path: Path) -> None:
    # In the inode, in a block of their own, and both; none, one and another afterwards.
    for name, values in {
        "etc": {"user.kept": b"old", "user.gone": b"1" * 200, "user.two words": b"3"},
        "opt/old": {"user.large": b"2" * 3000},
        "etc/hostname": {"user.large": bytes(range(256)) * 10, "user.small": b""},
        "usr/bin": {},
    }.items():
        for key, value in values.items():
            os.setxattr(below / name, key, value)
    shutil.rmtree(above / "opt/old")
    os.setxattr(above / "etc", "user.kept", b"new")
    os.setxattr(above / "usr/bin", "user.new", b"4" * 1000)
    os.setxattr(above / "usr/bin", "user.empty", b"")
    os.setxattr(above / "usr/bin/tool", 'user.a "b"\nc', b"\0\xff")
    require_same(tmp_path, below, above)


def test_names_that_mean_something_to_debugfs(below: Path, above: Path, tmp_path: Path) -> None:
    for i, name in enumerate(NAMES):
        write(below / "gone" / name, b"1")
        write(below / "changed" / name, b"2")
        write(above / "changed" / name, b"22")
        write(above / "new" / name, name.encode(errors="surrogateescape"))
        write(above / "directories" / name / name, b"3")
        (above / "links").mkdir(exist_ok=True)
        (above / "links" / name).symlink_to(name)
        (above / "hard").mkdir(exist_ok=True)
        (above / "hard" / name).hardlink_to(above / "new" / name)
        if i % 5 == 0:
            (above / "fifos").mkdir(exist_ok=True)
            os.mkfifo(above / "fifos" / name)
    long = above
    for _ in range(12):
        long /= "l" * 250
        write(long / "file", b"deep")
    (above / "opt/far").symlink_to("t" * 4000)
    require_same(tmp_path, below, above)


def test_a_directory_of_thousands(below: Path, above: Path, tmp_path: Path) -> None:
    for i in range(3000):
        write(above / "many" / f"{i:060}")
    (above / "hard").mkdir()
    for i in range(300):
        (above / "hard" / f"{i:060}").hardlink_to(above / "opt/stays")
        write(below / "less" / f"{i:060}")
    for i in range(100):
        (above / "dirs" / f"{i:060}").mkdir(parents=True)
    require_same(tmp_path, below, above)


def test_a_directory_that_is_no_entry_keeps_its_time(
    below: Path, above: Path, tmp_path: Path
) -> None:
    """Adding and removing names is all that happens to it."""
    shutil.rmtree(above / "opt/old")
    (above / "etc/passwd").unlink()
    (above / "opt/new").mkdir()
    for path in [above / "opt", above / "etc", above / "opt/new"]:
        os.utime(path, (1_600_000_000, 1_600_000_000))
    entries, removed = difference(below, above)
    assert ([e.path for e in entries], removed) == (["/opt/new"], ["/etc/passwd", "/opt/old"])
    require_same(tmp_path, below, above)


def test_a_file_stays_under_its_other_name(below: Path, above: Path, tmp_path: Path) -> None:
    (above / "opt/stays too").unlink()
    os.utime(above / "opt", (1_600_000_000, 1_600_000_000))
    assert difference(below, above) == ([], ["/opt/stays too"])
    require_same(tmp_path, below, above)


def test_what_is_removed_is_not_in_the_image(below: Path, above: Path, tmp_path: Path) -> None:
    write(below / "opt/old/secret", b"correct horse battery staple" * 1000)
    (below / "opt/old/link").symlink_to("correct horse battery staple" * 100)
    shutil.rmtree(above / "opt/old")
    raw = make(tmp_path, below, "raw")
    assert b"battery" in raw.read_bytes()
    layer = difference(below, above)
    assert b"battery" not in put(raw, layer, above).read_bytes()


Change = tuple[str, str, int]
PATHS = ["a", "b", "a/c", "a/d", "a/c/e", "b/f", "g", "a/c/h"]


def change(tree: Path, changes: Sequence[Change]) -> None:
    """Make a tree what a list of (path, kind, number) says, the later ones on top."""
    for name, kind, number in changes:
        path = tree / name
        if any(p.is_symlink() or (p.exists() and not p.is_dir()) for p in path.parents):
            continue
        if path.is_dir() and not path.is_symlink():
            if kind != "dir":
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            write(path, str(number).encode() * number * 900, 0o600 + number)
        elif kind == "dir":
            path.mkdir(exist_ok=True)
            path.chmod(0o700 + number)
        elif kind == "link":
            path.symlink_to("x" * (number * 10 + 1))
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "hard":
            files = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
            if files:
                path.hardlink_to(files[number % len(files)])
        if kind in ("file", "dir") and number % 3 == 0 and path.exists():
            os.setxattr(path, "user.x", b"v" * number * 50)
    for path in tree.rglob("*"):
        os.utime(path, (EPOCH, path.lstat().st_size), follow_symlinks=False)


changes = st.lists(
    st.tuples(
        st.sampled_from(PATHS),
        st.sampled_from(["file", "dir", "link", "hard", "hard", "fifo", "gone"]),
        st.integers(0, 7),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(before=changes, after=changes)
def test_any_layer_on_any_tree(before: list[Change], after: list[Change]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        below, above = work / "tree-below", work / "tree-above"
        below.mkdir()
        change(below, before)
        run(["cp", "-a", below, above])
        change(above, after)
        require_same(work, below, above)


def test_no_room_for_content(below: Path, above: Path, tmp_path: Path) -> None:
    raw = make(tmp_path, below, "raw")
    write(above / "opt/large", os.urandom(MIB) * 100)
    with pytest.raises(ext4.NoRoomError, match="Could not allocate block"):
        put(raw, difference(below, above), above)


def test_no_room_for_inodes(below: Path, above: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-N", "100", "-b", "4096",
         "-E", f"offset={OFFSET}", "-d", below, raw, f"{SIZE // 1024}k"])  # fmt: skip
    for i in range(ext4.usage(raw, OFFSET).free_inodes):
        write(above / f"many/{i}")
    with pytest.raises(ext4.NoRoomError, match="Could not allocate inode"):
        put(raw, difference(below, above), above)


def test_a_file_that_cannot_be_read_is_named(below: Path, above: Path, tmp_path: Path) -> None:
    raw = make(tmp_path, below, "raw")
    write(above / "opt/one")
    write(above / "opt/two")
    layer = difference(below, above)
    (above / "opt/one").unlink()
    with pytest.raises(BuildError, match="could not change the root filesystem") as error:
        put(raw, layer, above)
    assert "opt/one" in error.value.detail


def test_a_layer_of_another_tree_is_refused(below: Path, above: Path, tmp_path: Path) -> None:
    raw = make(tmp_path, below, "raw")
    write(above / "opt/new/file", b"123")
    entries, _ = difference(below, above)
    file = next(e for e in entries if e.path == "/opt/new/file")
    longer = dataclasses.replace(file, size=4)
    for layer, where in [
        (([], ["/opt/never"]), "/opt/never"),
        (([], ["/"]), "/"),
        (([file], []), "/opt/new/file"),
        (([*(e for e in entries if e != file), longer], []), "/opt/new/file"),
        (([dataclasses.replace(file, path="/x", same_as="/y")], []), "/x"),
    ]:
        with pytest.raises(BuildError, match="does not fit") as error:
            put(raw, layer, above)
        assert error.value.where == where
