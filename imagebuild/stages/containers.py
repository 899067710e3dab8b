"""The containers stage: an image's own docker takes a container image into its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagebuild.stages.imagetar import LocalImage


def load(
    lower: Sequence[Path],
    before: Path | None,
    image: LocalImage,
    out: Path,
    *,
    scratch: Path,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Put `image` into the docker store `before` (None: an empty one); the result is `out`.

    `lower` are the directories of the tree, topmost first. `before` and `out` hold
    var/lib/docker and, where docker keeps its images there, var/lib/containerd. `scratch` is
    an empty directory on the filesystem of `out`. Answers with `driver`, `store` ("docker" or
    "containerd") and `engine`, docker's version. Raises BuildError.
    """
    raise NotImplementedError
