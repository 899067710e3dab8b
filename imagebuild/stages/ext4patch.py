"""A layer put on top of the root filesystem of a disk image, without a mount or root.

What is to be done is planned here, from the filesystem as `verify.ext4` reads it; debugfs
does it, in up to four scripts: what vanishes, directories, what is in them, attributes.
Between them the numbers of the new inodes are looked up: commands that name an inode by
its number are quick, and need no quoting.
"""

from __future__ import annotations

import stat
import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.inventory import Entry
from imagebuild.stages import debugfs
from imagebuild.stages.ext4 import NoRoomError
from imagebuild.verify.ext4 import ROOT_INODE, Ext4, Inode

_TYPES = {
    "file": stat.S_IFREG, "dir": stat.S_IFDIR, "link": stat.S_IFLNK, "char": stat.S_IFCHR,
    "block": stat.S_IFBLK, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK,
}  # fmt: skip

_ZEROS = bytes(1 << 20)


def apply(
    image: Path,
    offset: int,
    entries: Sequence[Entry],
    removed: Sequence[str],
    content: Path,
    *,
    epoch: int,
    work: Path,
) -> None:
    """Change the ext4 at `offset` of the file `image` as the layer says.

    `removed` are absolute paths that vanish with all below them. `entries` are paths that
    are new or changed, parents before children; the bytes of files lie at the same relative
    path below `content`, which is only read. A directory that is already there keeps what
    is in it, anything else is replaced; other directories keep their times. What vanished
    files held is overwritten with zeros. `epoch` (seconds) is the time of all that is not
    in the entries. `work` is an existing directory for temporary files. When it fails,
    `image` is of no use any more. Raises ext4.NoRoomError, BuildError, and VerifyError when
    there is no ext4 that can be read.
    """
    with tempfile.TemporaryDirectory(prefix="layer-", dir=work) as directory:
        patch = _Patch(image, offset, content, epoch, Path(directory))
        try:
            patch.remove(entries, removed)
            patch.make_directories(entries)
            patch.make_rest(entries)
            patch.settle(entries)
        except BuildError as exc:
            if "Could not allocate" in exc.detail:
                raise NoRoomError(exc.detail) from exc
            raise
        finally:
            patch.fs.close()


class _Patch:
    """One change of one filesystem: `fs` as it is now, `kept` the directories that stay."""

    def __init__(self, image: Path, offset: int, content: Path, epoch: int, work: Path) -> None:
        self.image = image
        self.content = content
        self.epoch = epoch
        self.work = work
        self.fs = Ext4(image, offset)
        self.kept: set[str] = set()
        self._names: dict[int, dict[str, int]] = {}
        self._directories: dict[str, int] = {}
        self._values: dict[str, Path] = {}

    def find(self, path: str) -> int:
        """Number of the inode at a path, 0 when there is none. No link is followed."""
        if path == "/":
            return ROOT_INODE
        above, name = _split(path)
        return self._names_in(self._directory(above)).get(name, 0)

    def _directory(self, path: str) -> int:
        if path not in self._directories:
            self._directories[path] = self.find(path)
        return self._directories[path]

    def _names_in(self, number: int) -> dict[str, int]:
        """What is in a directory by name; nothing is in another inode, or none."""
        if number not in self._names:
            inode = self.fs.inode(number) if number else None
            is_directory = inode and stat.S_ISDIR(inode.mode)
            self._names[number] = dict(self.fs.entries(inode)) if inode and is_directory else {}
        return self._names[number]

    def _place(self, path: str) -> str:
        """A path as `unlink` and `ln` take it, short and from whatever directory."""
        above, name = _split(path)
        return debugfs.quote(f"<{self._directory(above)}>/{name}")

    def _run(self, commands: Iterable[str]) -> None:
        debugfs.change(
            self.image, self.fs.offset, list(commands), epoch=self.epoch, work=self.work,
            what="debugfs could not change the root filesystem",
        )  # fmt: skip
        self._names.clear()
        self._directories.clear()

    def remove(self, entries: Sequence[Entry], removed: Sequence[str]) -> None:
        """Remove what the layer removes, and what it puts something else in the place of."""
        doomed = {path: self.find(path) for path in removed}
        for path, number in doomed.items():
            if number in (0, ROOT_INODE):
                raise _unfit("it removes what is not there", path)
        for entry in entries:
            number = self.find(entry.path)
            if number and entry.kind == "dir" and stat.S_ISDIR(self.fs.inode(number).mode):
                self.kept.add(entry.path)
            elif number:
                doomed[entry.path] = number
        tops = {path: number for path, number in doomed.items() if not _is_below(path, doomed)}
        commands = [f"unlink {self._place(path)}" for path in tops]
        # A directory that vanishes takes a link from the one above: its "..".
        above = Counter(
            self._directory(_split(path)[0])
            for path, number in tops.items()
            if stat.S_ISDIR(self.fs.inode(number).mode)
        )
        for number, count in above.items():
            commands.append(f"sif <{number}> links_count {self.fs.inode(number).links - count}")
        freed: list[tuple[int, int]] = []
        for number, names in sorted(Counter(self._walk(tops.values())).items()):
            inode = self.fs.inode(number)
            left = 0 if stat.S_ISDIR(inode.mode) else inode.links - names
            commands.append(f"sif <{number}> links_count {left}")
            if not left:
                commands += self._kill(inode)
                freed += ((e.physical, e.count) for e in self.fs.extents(inode))
        self._run(commands)
        self._zero(freed)

    def _walk(self, tops: Iterable[int]) -> Iterator[int]:
        """The inodes of all names below some inodes, and these."""
        pending = list(tops)
        while pending:
            number = pending.pop()
            yield number
            pending += self._names_in(number).values()

    def _kill(self, inode: Inode) -> Iterator[str]:
        this = f"<{inode.number}>"
        if block := inode.xattr_block:
            # kill_file frees what an inode holds, but not this block: so it is to hold this
            # block and nothing else. Neither mke2fs nor debugfs has inodes share one.
            if self.fs.extents(inode):
                yield f"punch {this} 0"
            if not stat.S_ISDIR(inode.mode):
                yield f"sif {this} mode 0{stat.S_IFREG:o}"
            yield f"sif {this} flags 0"
            yield f"sif {this} block[0] {block}"
            for i in [*range(1, 12), "IND", "DIND", "TIND"]:
                yield f"sif {this} block[{i}] 0"
        yield f"kill_file {this}"

    def _zero(self, runs: Iterable[tuple[int, int]]) -> None:
        size = self.fs.block_size
        with self.image.open("r+b", buffering=0) as file:
            for block, count in runs:
                file.seek(self.fs.offset + block * size)
                for done in range(0, count * size, len(_ZEROS)):
                    file.write(memoryview(_ZEROS)[: count * size - done])

    def make_directories(self, entries: Sequence[Entry]) -> None:
        """Make the directories that are not there."""
        paths = [e.path for e in entries if e.kind == "dir" and e.path not in self.kept]
        self._run(f"mkdir {debugfs.quote(path)}" for path in paths)

    def make_rest(self, entries: Sequence[Entry]) -> None:
        """Write files and symbolic links. Hard links, devices and the like are empty files
        at first: debugfs's own ln and mknod make no socket and do not take every name.
        """
        commands: list[str] = []
        current = 0
        (self.work / "empty").touch()
        for entry in entries:
            if entry.kind == "dir":
                continue
            above, name = _split(entry.path)
            directory = self._directory(above)
            if not directory:
                raise _unfit("there is no directory for", entry.path)
            command = self._creation(entry, name)
            if not debugfs.is_plain(command):
                command = self._creation(entry, entry.path)
                current = 0
            elif directory != current:
                commands.append(f"cd <{directory}>")
                current = directory
            commands.append(command)
        self._run(commands)

    def _creation(self, entry: Entry, place: str) -> str:
        """The command that makes a file or link; `place` is its path or its name alone."""
        if entry.kind == "link":
            return f"symlink {debugfs.quote(place)} {debugfs.quote(entry.data)}"
        is_file = entry.kind == "file" and not entry.same_as
        source = f"{self.content}{entry.path}" if is_file else f"{self.work}/empty"
        return f"write {debugfs.quote(source)} {debugfs.quote(place)}"

    def settle(self, entries: Sequence[Entry]) -> None:
        """Give all that is new or changed its attributes; make the empty files what they are."""
        commands: list[str] = []
        links: Counter[int] = Counter()
        for entry in entries:
            number = self.find(entry.path)
            if not number:
                raise BuildError("debugfs did not write a file", where=entry.path)
            if entry.same_as:
                target = self.find(entry.same_as)
                if not target:
                    raise _unfit(f"{entry.same_as} is not there, and has a link", entry.path)
                links[target] += 1
                commands += [f"sif <{number}> links_count 0", f"kill_file <{number}>"]
                commands += self._relink(entry.path, target)
                continue
            inode = self.fs.inode(number)
            if entry.kind == "file" and inode.size != entry.size:
                raise _unfit(f"{inode.size} bytes are not the {entry.size} of", entry.path)
            commands += self._attributes(entry, inode)
            if entry.kind not in ("file", "dir", "link"):
                commands += self._make_special(entry, number)
        for target, count in links.items():
            commands.append(f"sif <{target}> links_count {self.fs.inode(target).links + count}")
        self._run(commands)

    def _attributes(self, entry: Entry, inode: Inode) -> Iterator[str]:
        this = f"<{inode.number}>"
        yield f"sif {this} mode 0{_TYPES[entry.kind] | entry.mode:o}"
        if (inode.uid, inode.gid) != (entry.uid, entry.gid):
            yield f"sif {this} uid {entry.uid}"
            yield f"sif {this} gid {entry.gid}"
        yield f"sif {this} mtime @{entry.mtime}"
        if stale := self.fs.xattrs(inode).keys() - entry.xattrs.keys():
            yield " ".join([f"ea_rm {this}", *map(debugfs.quote, sorted(stale))])
        for name, value in entry.xattrs.items():
            source = self._values.setdefault(value, self.work / f"value-{len(self._values)}")
            source.write_bytes(bytes.fromhex(value))
            yield f"ea_set -f {source} {this} {debugfs.quote(name)}"

    def _make_special(self, entry: Entry, number: int) -> Iterator[str]:
        """Make an empty file a device, fifo or socket, as its mode already says."""
        low = high = 0
        if entry.data:
            major, minor = map(int, entry.data.split(":"))
            if max(major, minor) < 256:
                low = major << 8 | minor
            else:
                # Linux: new_encode_dev in include/linux/kdev_t.h.
                high = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
        yield f"sif <{number}> flags 0"
        yield f"sif <{number}> block[0] {low}"
        yield f"sif <{number}> block[1] {high}"
        # A directory says of each name what it is.
        yield from self._relink(entry.path, number)

    def _relink(self, path: str, number: int) -> Iterator[str]:
        """Have an existing name stand for another inode, whose links are not counted."""
        yield f"unlink {self._place(path)}"
        yield f"ln <{number}> {self._place(path)}"


def _split(path: str) -> tuple[str, str]:
    above, _, name = path.rpartition("/")
    return above or "/", name


def _is_below(path: str, others: Container[str]) -> bool:
    """Is one of the directories above the path among the others?"""
    while path != "/":
        path = _split(path)[0]
        if path in others:
            return True
    return False


def _unfit(why: str, path: str) -> BuildError:
    return BuildError(f"the layer does not fit the filesystem: {why}", where=path)
