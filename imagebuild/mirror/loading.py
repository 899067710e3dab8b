"""MIRROR.yaml → MirrorList: files, names of shipped lists, mistakes with their line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuild.config.mirrorlist import MirrorList
from imagebuild.registry.settings import RegistrySettings


@dataclass(frozen=True)
class LoadedList:
    """A valid list, and the file that it came from."""

    value: MirrorList
    path: Path


def load_list(
    name_or_path: str, *, target: str | None = None, prefix: str | None = None
) -> LoadedList:
    """Read a list by its file, or by the name of one that is shipped (profiles/mirror).

    `target` and `prefix` stand in for those of the file. Raises ConfigError with every mistake.
    """
    raise NotImplementedError


def registry_settings(
    value: MirrorList, environ: Mapping[str, str]
) -> tuple[RegistrySettings, ...]:
    """How the registry client is to speak to the registries: passwords read from their places."""
    raise NotImplementedError
