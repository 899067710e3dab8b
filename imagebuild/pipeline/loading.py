"""NIGHTLY.yaml → Pipeline: files, names of shipped ones, mistakes with their line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuild.config.pipeline import Pipeline


@dataclass(frozen=True)
class LoadedPipeline:
    """A valid pipeline, and the file that it came from. `places`: `file:line` of each image row."""

    value: Pipeline
    path: Path
    places: tuple[str, ...] = ()


def load_pipeline(name_or_path: str) -> LoadedPipeline:
    """Read a pipeline by its file (`-` is stdin), or by its name (profiles/pipeline).

    Profiles, mirror lists and --set keys that it names are looked at, too. Raises ConfigError
    with every mistake.
    """
    raise NotImplementedError
