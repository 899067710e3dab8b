"""The image under examination, and what is known of it from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from imagebuild.manifest import ArtifactView
from imagebuild.verify.tree import Tree

#: Where an image says what it is.
CONTENT = "/etc/imagebuild/content.json"
AGENT_UNIT = "guest-agent.service"


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

    `info` is qemu-img's JSON about the file. `raw` and `tree` are None until the disk and the
    root filesystem could be read; questions about them are asked only afterwards.
    """

    image: Path
    scratch: Path
    options: Options = Options()
    artifact: ArtifactView | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    raw_disk: Path | None = None
    open_tree: Tree | None = None

    @property
    def raw(self) -> Path:
        """The disk, as raw bytes."""
        assert self.raw_disk is not None, "asked for the disk before it was opened"  # noqa: S101
        return self.raw_disk

    @property
    def tree(self) -> Tree:
        """The root filesystem."""
        assert self.open_tree is not None, "asked for files before they were read"  # noqa: S101
        return self.open_tree

    @cached_property
    def inside(self) -> Mapping[str, Any] | None:
        """What the image says of itself; None for an image of another tool, or damaged text."""
        try:
            document = json.loads(self.tree.text_or_empty(CONTENT) or "null")
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    @property
    def content(self) -> Mapping[str, Any]:
        """What the image is meant to hold: of its manifest, else its own words, else empty."""
        if self.artifact is not None:
            return self.artifact.content
        return self.inside or {}
