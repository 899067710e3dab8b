"""One copy of a real disk that is broken again and again, and made whole in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagebuild.host.run import need, run, sparse_copy_argv
from imagebuild.stages.debugfs import quote
from imagebuild.verify.tree import Tree


class Patient:
    """A raw copy of the disk that `healthy` shows; what is done to it starts from that.

    What e2fsprogs' debugfs changes, its own undo file takes back; the superblock, which both
    programs stamp with the time, is put back as it was.
    """

    def __init__(self, healthy: Tree, work: Path) -> None:
        self.raw = work / "patient.raw"
        self.healthy = healthy
        self.offset = healthy.offset
        self.work = work
        run(sparse_copy_argv(healthy.raw, self.raw))

    def _read(self, at: int, size: int) -> bytes:
        with self.raw.open("rb") as file:
            file.seek(at)
            return file.read(size)

    def _write(self, at: int, data: bytes) -> None:
        with self.raw.open("r+b") as file:
            file.seek(at)
            file.write(data)

    @contextmanager
    def patched(self, at: int, data: bytes) -> Iterator[None]:
        """With these bytes at byte `at` of the disk."""
        before = self._read(at, len(data))
        self._write(at, data)
        try:
            yield
        finally:
            self._write(at, before)

    @contextmanager
    def changed(self, *commands: str) -> Iterator[None]:
        """With what debugfs does."""
        undo = self.work / f"undo-{len(list(self.work.glob('undo-*')))}.e2"
        before = self._read(self.offset + 1024, 1024)
        device = f"{self.raw}?offset={self.offset}"
        text = "\n".join([*commands, ""]).encode()
        try:
            done = run([need("debugfs"), "-w", "-z", undo, "-f", "-", device], input=text)
            complaints = done.stderr.decode().splitlines()[1:]
            assert not complaints, complaints
            yield
        finally:
            run([need("e2undo"), "-o", str(self.offset), undo, self.raw])
            self._write(self.offset + 1024, before)
            undo.unlink()

    def without(self, path: str) -> list[str]:
        """Commands that remove a directory with all that is in it."""
        nodes = [(n.path, n.is_dir) for n in self.healthy.below(path)]
        nodes = [(path, True), *nodes]
        return [f"{'rmdir' if is_dir else 'rm'} {quote(p)}" for p, is_dir in reversed(nodes)]

    def writing(self, path: str, text: str, mode: int = 0o100644) -> list[str]:
        """Commands that put a file in the place of what is at `path`, or of nothing."""
        source = self.work / f"new-{len(list(self.work.iterdir()))}"
        source.write_text(text)
        gone = [f"rm {quote(path)}"] if self.healthy.exists(path) else []
        above, _, name = path.rpartition("/")
        return [*gone, f"cd {quote(above)}", f"write {quote(str(source))} {quote(name)}", "cd /",
                f"sif {quote(path)} mode 0{mode:o}"]  # fmt: skip

    def edited(self, path: str, *changes: tuple[str, str]) -> list[str]:
        """Commands that put other words into a file; each must be there."""
        node, text = self.healthy.resolve(path), self.healthy.read_text(path)
        assert node is not None
        for one, other in changes:
            assert one in text, f"{path} has no {one!r}"
            text = text.replace(one, other)
        owner = [f"sif {quote(path)} gid {node.gid}", f"sif {quote(path)} uid {node.uid}"]
        return [*self.writing(node.path, text, node.mode), *owner]

    def place_of(self, path: str) -> int:
        """Where on the disk a file begins."""
        node = self.healthy.resolve(path)
        assert node is not None
        first = self.healthy.extents(node)[0].physical
        return self.offset + first * self.healthy.fs.block_size

    def run_on_esp(self, argv: Sequence[str]) -> None:
        """Run one of the mtools on the EFI system partition."""
        esp = next(p for p in self.healthy.partitions if p.name == "esp")
        run([need(argv[0], "mtools"), "-i", f"{self.raw}@@{esp.offset}", *argv[1:]])
