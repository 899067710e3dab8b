"""Reads the root filesystem inside a raw disk image with debugfs: no mount, no root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imagebuild.host.run import need, run
from imagebuild.stages import gpt


@dataclass(frozen=True)
class Entry:
    """A name in a directory. `mode` holds type and permission bits."""

    name: str
    mode: int
    uid: int
    gid: int
    size: int


class ImageFs:
    """The root filesystem of a raw disk image."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.partitions = gpt.read(raw)
        self.offset = self.partitions[-1].offset

    @property
    def device(self) -> str:
        """The filesystem as e2fsprogs' programs name it."""
        return f"{self.raw}?offset={self.offset}"

    def _debugfs(self, command: str) -> bytes:
        return run([need("debugfs", "e2fsprogs"), "-R", command, self.device]).stdout

    def exists(self, path: str) -> bool:
        """Whether the path is there (links are not followed)."""
        return b"Inode:" in self._debugfs(f'stat "{path}"')

    def read(self, path: str) -> str:
        """Content of a file; AssertionError when it is not there."""
        assert self.exists(path), f"{path} is not in the image"
        return self._debugfs(f'cat "{path}"').decode()

    def read_bytes(self, path: str) -> bytes:
        """Content of a file, as it is."""
        return self._debugfs(f'cat "{path}"')

    def listing(self, path: str) -> dict[str, Entry]:
        """Entries of a directory by name; empty when it is not there."""
        entries = {}
        for line in self._debugfs(f'ls -p "{path}"').decode(errors="replace").splitlines():
            # /inode/mode/uid/gid/name/size/
            fields = line.split("/")
            if len(fields) > 6 and fields[1] not in ("", "0") and fields[5] not in (".", ".."):
                mode, uid, gid = int(fields[2], 8), int(fields[3]), int(fields[4])
                size = int(fields[6] or 0)
                entries[fields[5]] = Entry(fields[5], mode, uid, gid, size)
        return entries

    def names(self, path: str) -> set[str]:
        """Names in a directory."""
        return set(self.listing(path))

    def link(self, path: str) -> str:
        """Target of a symbolic link."""
        text = self._debugfs(f'stat "{path}"').decode()
        match = re.search(r'Fast link dest: "(.*)"', text)
        assert match, f"{path} is no symbolic link"
        return match[1]

    def extract(self, path: str, directory: Path) -> Path:
        """Copy a directory out of the image; returns the copy."""
        directory.mkdir(parents=True, exist_ok=True)
        self._debugfs(f'rdump "{path}" {directory}')
        return directory / Path(path).name
