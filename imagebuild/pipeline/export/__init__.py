"""A pipeline as job definitions of the engines that people have.

    export(loaded, "gitlab") → {".gitlab-ci.yml": text}

Each cell is a build job, a verify job (which alone needs KVM) and a publish job (one at a time,
behind one lock); mirrors come first, `collect` last, whatever happened. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuild.pipeline.loading import LoadedPipeline

ENGINES = ("github", "gitlab", "zuul", "systemd", "cron")


def export(
    loaded: LoadedPipeline, engine: str, *, file: str, search: Sequence[Path] = ()
) -> Mapping[str, str]:
    """File name → text. `file` is the pipeline's file as jobs find it, relative to the
    repository or absolute. Raises UsageError for an engine that is not known.
    """
    raise NotImplementedError
