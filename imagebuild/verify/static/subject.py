"""The image under examination, and what is known of it from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from imagebuild.manifest import ArtifactView, Image
from imagebuild.verify.layout import Layout
from imagebuild.verify.superblock import Superblock, read_superblock
from imagebuild.verify.tree import Tree

T = TypeVar("T")

#: Where an image says what it is.
CONTENT = "/etc/imagebuild/content.json"
#: ELF's numbers of machines (elf.h): names of architectures as the profile has them.
ELF_MACHINES = {62: "amd64", 183: "arm64", 3: "i386", 40: "armhf", 21: "ppc64el", 22: "s390x",
                243: "riscv64"}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the caller wants of the image beyond its being sound.

    `max_size`: most bytes that the image file may have. `series`: the series of Trove
    (`2025.2`) that the control plane runs. `guest_user`: owner of the files that Trove
    injects; else the image or its manifest says it. `secrets`: values that must not be on
    the disk, by the names under which they are reported.
    """

    max_size: int | None = None
    series: str | None = None
    guest_user: str | None = None
    secrets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """An image: its file, a raw copy of its disk, the files on it, its artifact if it has one.

    `info` is qemu-img's JSON about the file. `disk` (raw bytes and their layout) and
    `open_tree` are None until they could be read; questions about them come afterwards.
    """

    image: Path
    scratch: Path
    options: Options = Options()
    artifact: ArtifactView | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    raw_disk: Path | None = None
    open_layout: Layout | None = None
    open_tree: Tree | None = None
    _known: dict[object, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, look: Callable[[Subject], T]) -> T:
        """What `look` says of this subject; it is asked at most once."""
        if look not in self._known:
            self._known[look] = look(self)
        found: T = self._known[look]
        return found

    @property
    def raw(self) -> Path:
        """The disk, as raw bytes."""
        assert self.raw_disk is not None, "asked for the disk before it was opened"  # noqa: S101
        return self.raw_disk

    @property
    def layout(self) -> Layout:
        """Its partitions."""
        assert self.open_layout is not None, "asked for a table that was not read"  # noqa: S101
        return self.open_layout

    @property
    def tree(self) -> Tree:
        """The root filesystem."""
        assert self.open_tree is not None, "asked for files before they were read"  # noqa: S101
        return self.open_tree

    @cached_property
    def superblock(self) -> Superblock:
        """The root filesystem as a whole."""
        return read_superblock(self.tree.fs)

    @cached_property
    def inside(self) -> Mapping[str, Any] | None:
        """What the image says of itself; None for an image of another tool, or damaged text."""
        try:
            document = json.loads(self.tree.text_or_empty(CONTENT) or "null")
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    @property
    def content(self) -> Mapping[str, Any]:
        """What the image is meant to hold: of its manifest, else its own words, else empty."""
        if self.artifact is not None:
            return self.artifact.content
        return self.inside or {}

    @property
    def is_foreign(self) -> bool:
        """Was it made by something else than this tool, as far as one can tell?"""
        return self.artifact is None and not self.tree.exists(CONTENT)

    @property
    def described(self) -> Image | None:
        """What the manifest says of this very file; None when it does not know it."""
        if self.artifact is None:
            return None
        images = self.artifact.images
        by_name = [i for i in images if i.path.name == self.image.name]
        form = self.info.get("format")
        found = by_name or [i for i in images if i.format == form]
        return found[0] if found else None

    @cached_property
    def guest_user(self) -> str | None:
        """Who owns the files that Trove injects, and runs the agent; None: nothing says it."""
        if self.options.guest_user:
            return self.options.guest_user
        if isinstance(name := self.content.get("guest_username"), str):
            return name
        unit = self.tree.text_or_empty("/etc/systemd/system/guest-agent.service")
        match = re.search(r"(?m)^User=(\S+)$", unit)
        return match[1] if match else None

    @cached_property
    def users(self) -> Mapping[str, list[str]]:
        """Lines of /etc/passwd, split, by name."""
        return _table(self.tree.text_or_empty("/etc/passwd"), 7)

    @cached_property
    def groups(self) -> Mapping[str, list[str]]:
        """Lines of /etc/group, split, by name."""
        return _table(self.tree.text_or_empty("/etc/group"), 4)

    @cached_property
    def machine(self) -> str | None:
        """The architecture that /sbin/init is made for; None when it is no ELF program."""
        return elf_machine(self.tree, "/sbin/init")

    @property
    def arch(self) -> str | None:
        """The architecture that the image is meant for; else its own."""
        said = self.content.get("arch")
        return said if isinstance(said, str) else self.machine


def elf_machine(tree: Tree, path: str) -> str | None:
    """For which architecture is the program at a path? None when it is missing, or no ELF."""
    node = tree.resolve(path)
    if node is None or not node.is_file:
        return None
    head = tree.content(node, 0, 20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    number = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
    return ELF_MACHINES.get(number, f"machine {number}")


def _table(text: str, fields: int) -> dict[str, list[str]]:
    rows = (line.split(":") for line in text.splitlines() if line and line[0] not in "#+-")
    return {row[0]: row for row in rows if len(row) >= fields}
