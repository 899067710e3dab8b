"""A read-only view of the files in an image: no mount, no root.

Paths are absolute inside the image. Links are followed inside the image only: those on
the way always, the last one by `resolve`, the readers of paths and the listings.
"""

from __future__ import annotations

import os
import posixpath
import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagebuild.errors import VerifyError
from imagebuild.host.run import need, run
from imagebuild.stages import gpt
from imagebuild.stages.gpt import Partition
from imagebuild.verify.ext4 import ROOT_INODE, Ext4, Extent, Inode

#: Most that `read` takes into memory.
READ_LIMIT = 64 << 20
_MOST_LINKS = 40


@dataclass(frozen=True)
class Node:
    """A file, directory, link or other thing in the image.

    `mode` holds type and permission bits, `mtime` is in seconds, `link` is the target of a
    symbolic link.
    """

    path: str
    inode: Inode
    link: str = ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[1]

    @property
    def mode(self) -> int:
        """Type and permission bits."""
        return self.inode.mode

    @property
    def permissions(self) -> int:
        """Permission bits alone."""
        return stat.S_IMODE(self.inode.mode)

    @property
    def uid(self) -> int:
        """Owner."""
        return self.inode.uid

    @property
    def gid(self) -> int:
        """Group."""
        return self.inode.gid

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.inode.size

    @property
    def is_file(self) -> bool:
        """A regular file?"""
        return stat.S_ISREG(self.inode.mode)

    @property
    def is_dir(self) -> bool:
        """A directory?"""
        return stat.S_ISDIR(self.inode.mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link?"""
        return stat.S_ISLNK(self.inode.mode)


@dataclass(frozen=True)
class Place:
    """What a byte of the disk belongs to.

    `node` is None outside of all files; `offset` is the byte's place in the file then, or
    in the disk. `slack` says that it lies behind the end of the file, in its last block.
    """

    node: Node | None
    offset: int
    where: str
    slack: bool = False


class Tree:
    """The root filesystem of a raw disk image: `root` of `partitions`, or, when these are not
    given, the last partition of its GPT.

    The whole tree is listed when the first question is asked: 40,000 files take about a
    second. Raises VerifyError when there is no GPT, or no ext4 that can be read.
    """

    def __init__(
        self, raw: Path, partitions: Sequence[Partition] = (), root: Partition | None = None
    ) -> None:
        self.raw = raw
        self.partitions = list(partitions) or gpt.read(raw)
        if not self.partitions:
            raise VerifyError("the disk has no partition", where=str(raw))
        self.root = root or self.partitions[-1]
        self.offset = self.root.offset
        self.fs = Ext4(raw, self.offset)

    def close(self) -> None:
        """Close the image."""
        self.fs.close()

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """Everything in the image by path, directories before what they hold."""
        found: dict[str, Node] = {}
        seen: set[int] = set()
        waiting = [("", self.fs.inode(ROOT_INODE))]
        while waiting:
            path, inode = waiting.pop()
            if inode.number in seen:
                raise VerifyError(
                    "cannot read the root filesystem", where=str(self.raw),
                    detail=f"the directory {path or '/'} stands in two places",
                )  # fmt: skip
            seen.add(inode.number)
            found[path or "/"] = Node(path or "/", inode)
            for name, number in sorted(self.fs.entries(inode)):
                child = self.fs.inode(number)
                where = f"{path}/{name}"
                if stat.S_ISDIR(child.mode):
                    waiting.append((where, child))
                else:
                    link = self.fs.link(child) if stat.S_ISLNK(child.mode) else ""
                    found[where] = Node(where, child, link)
        return found

    @cached_property
    def _children(self) -> Mapping[str, list[str]]:
        children: dict[str, list[str]] = {}
        for path in self.nodes:
            if path != "/":
                above, name = path.rsplit("/", 1)
                children.setdefault(above or "/", []).append(name)
        return children

    def get(self, path: str) -> Node | None:
        """The node at a path, None when there is none; the last part's link is not followed."""
        above, _, name = path.rpartition("/")
        node = self.nodes.get(path)
        if node is not None or not above:
            return node
        real = self.resolve(above)
        return None if real is None else self.nodes.get(posixpath.join(real.path, name))

    def exists(self, path: str) -> bool:
        """Is something there? A last link is not followed."""
        return self.get(path) is not None

    def resolve(self, path: str) -> Node | None:
        """The node at a path with all links followed inside the image."""
        real, parts, links = "/", [p for p in path.split("/") if p][::-1], 0
        while parts:
            part = parts.pop()
            if part == "..":
                real = posixpath.dirname(real)
                continue
            if part == ".":
                continue
            node = self.nodes.get(posixpath.join(real, part))
            if node is None:
                return None
            if not node.is_link:
                real = node.path
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            if node.link.startswith("/"):
                real = "/"
            parts += [p for p in node.link.split("/") if p][::-1]
        return self.nodes[real]

    def files(self) -> Iterator[Node]:
        """All regular files."""
        return (n for n in self.nodes.values() if n.is_file)

    def below(self, path: str) -> Iterator[Node]:
        """Everything below a directory, at any depth; nothing when it is not there."""
        start = self.resolve(path)
        if start is None:
            return
        waiting = [start.path]
        while waiting:
            real = waiting.pop()
            for name in self._children.get(real, ()):
                child = posixpath.join(real, name)
                yield self.nodes[child]
                waiting.append(child)

    def listing(self, path: str) -> dict[str, Node]:
        """What is in a directory, by name; empty when it is not there."""
        node = self.resolve(path)
        if node is None:
            return {}
        names = self._children.get(node.path, ())
        return {name: self.nodes[posixpath.join(node.path, name)] for name in names}

    def names(self, path: str) -> set[str]:
        """Names in a directory."""
        return set(self.listing(path))

    def content(self, node: Node, start: int = 0, size: int | None = None) -> bytes:
        """Content of a regular file, or `size` bytes of it from `start` on.

        Raises VerifyError when that is more than READ_LIMIT.
        """
        wanted = node.size - start if size is None else size
        if min(wanted, node.size) > READ_LIMIT:
            raise VerifyError(
                "a file of the image is too large to be read at once", where=node.path,
                detail=f"{node.size} bytes",
            )  # fmt: skip
        return self.fs.read(node.inode, start, wanted)

    def read_bytes(self, path: str) -> bytes:
        """Content of the file at a path, links followed. Raises VerifyError when there is none."""
        node = self.resolve(path)
        if node is None or not node.is_file:
            raise VerifyError("a file is not in the image", where=path)
        return self.content(node)

    def read_text(self, path: str) -> str:
        """The same as text; bytes that are no UTF-8 come as surrogates."""
        return self.read_bytes(path).decode(errors="surrogateescape")

    def text_or_empty(self, path: str) -> str:
        """The same, and "" when the file is not there."""
        node = self.resolve(path)
        return self.read_text(path) if node is not None and node.is_file else ""

    def xattrs(self, node: Node) -> dict[str, bytes]:
        """Extended attributes by full name."""
        return self.fs.xattrs(node.inode)

    def extents(self, node: Node) -> list[Extent]:
        """Where a file's content lies, in blocks of the filesystem."""
        return self.fs.extents(node.inode)

    def slack(self, node: Node) -> bytes:
        """What stands behind the end of a file, in the last block that it owns."""
        extents = self.extents(node)
        if not extents or not extents[-1].written:
            return b""
        last = extents[-1]
        size = self.fs.block_size
        used = max(0, node.size - last.logical * size)
        start, end = last.physical * size + used, (last.physical + last.count) * size
        return self.fs.bytes_at(start, end - start) if start < end else b""

    def extract(self, path: str, directory: Path) -> Path:
        """Copy a directory's files, links and modes out of the image; returns the copy.

        Owners are the caller's. Device nodes, sockets and pipes are left out.
        """
        top = self.resolve(path)
        if top is None or not top.is_dir:
            raise VerifyError("a directory is not in the image", where=path)
        target = directory / Path(path).name
        target.mkdir(parents=True)
        for node in self.below(path):
            out = target / os.path.relpath(node.path, top.path)
            if node.is_dir:
                out.mkdir()
            elif node.is_link:
                out.symlink_to(node.link)
            elif node.is_file:
                out.write_bytes(self.content(node))
                out.chmod(node.permissions & 0o777)
        return target

    @cached_property
    def _owners(self) -> tuple[list[int], list[tuple[Extent, Node]]]:
        """Extents of all files and directories, in the order of the disk."""
        seen: set[int] = set()
        pairs: list[tuple[Extent, Node]] = []
        for node in self.nodes.values():
            if node.inode.number not in seen:
                seen.add(node.inode.number)
                pairs += ((extent, node) for extent in self.extents(node))
        pairs.sort(key=lambda pair: pair[0].physical)
        return [extent.physical for extent, _ in pairs], pairs

    def place(self, at: int) -> Place:
        """What byte `at` of the disk belongs to."""
        part = next(
            (p for p in self.partitions if p.offset <= at < p.offset + p.size),
            None,
        )
        if part is None or part is not self.root:
            where = "outside of all partitions" if part is None else f"partition {part.name}"
            return Place(None, at, where)
        block, rest = divmod(at - self.offset, self.fs.block_size)
        starts, pairs = self._owners
        index = bisect_right(starts, block) - 1
        if index >= 0:
            extent, node = pairs[index]
            if block < extent.physical + extent.count:
                offset = (extent.logical + block - extent.physical) * self.fs.block_size + rest
                slack = offset >= node.size or not extent.written
                return Place(node, offset, node.path, slack)
        return Place(None, at, "a block of the root filesystem that no file owns")


@contextmanager
def open_image(image: Path, scratch: Path) -> Iterator[Tree]:
    """The tree of a raw or qcow2 image; the format is told by the file's first bytes.

    A qcow2 is converted first, into a sparse file below `scratch` that goes at the end: a
    few seconds, and as much space as the image has content. Raises PreflightError when
    qemu-img is missing, BuildError when it cannot read the image, VerifyError.
    """
    with image.open("rb") as file:
        is_qcow2 = file.read(4) == b"QFI\xfb"
    raw = scratch / f"{image.stem}.raw" if is_qcow2 else image
    try:
        if is_qcow2:
            argv: list[str | Path] = [need("qemu-img", "qemu-utils"), "convert", "-f", "qcow2"]
            run([*argv, "-O", "raw", image, raw], what=f"qemu-img cannot read {image.name}")
        tree = Tree(raw)
        try:
            yield tree
        finally:
            tree.close()
    finally:
        if is_qcow2:
            raw.unlink(missing_ok=True)
