"""A compressed qcow2 made from one that differs in few places."""

from __future__ import annotations

from pathlib import Path

from imagebuild.config.words import Compression


def patch(
    base: Path,
    before: Path,
    after: Path,
    out: Path,
    compression: Compression,
    *,
    threads: int,
    work: Path,
    timeout: float | None = None,
) -> None:
    """Write `out`, a qcow2 that holds the raw image `after`.

    `base` is a qcow2 that holds the raw image `before`, which is as large as `after`.
    `out` appears only when it is whole, and is no larger than a conversion of `after`.
    `work` is an existing directory for temporary files, `timeout` in seconds.
    Raises BuildError, PreflightError.
    """
    raise NotImplementedError
