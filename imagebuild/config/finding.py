"""Which profiles and mirror lists there are, by the names of their files.

Light enough for a shell's completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import platformdirs

from imagebuild.data import profiles_dir
from imagebuild.errors import ConfigError
from imagebuild.files import is_directory, is_file

SUFFIXES = (".yaml", ".yml")
#: The lock of a mirror list lies beside it.
_LOCK = ".lock.yaml"


def search_path(search: Sequence[Path]) -> list[Path]:
    """Where profiles are looked for: these directories, the user's own, the shipped ones.

    Raises ConfigError for one of `search` that is no directory.
    """
    for directory in search:
        if not is_directory(directory):
            raise ConfigError(
                f"{directory} is not a directory",
                where="the search path of profiles",
                hint="correct --profiles-path or IMAGEBUILD_PROFILES_PATH",
            )
    user = platformdirs.user_config_path("imagebuild") / "profiles"
    return [*search, user, profiles_dir()]


def mirror_lists_path() -> list[Path]:
    """Where mirror lists are looked for: the user's own directory, and the shipped one."""
    return [platformdirs.user_config_path("imagebuild") / "mirror", profiles_dir() / "mirror"]


def pipelines_path(search: Sequence[Path] = ()) -> list[Path]:
    """Where pipelines are looked for: `pipeline` in directories with profiles, in the user's
    own, and in the shipped one.
    """
    user = platformdirs.user_config_path("imagebuild") / "pipeline"
    return [*(d / "pipeline" for d in search), user, profiles_dir() / "pipeline"]


def named_profiles(directories: Sequence[Path]) -> dict[str, Path]:
    """The files of the profiles that can be named; the first directory that has one counts.

    Raises ConfigError for a directory that cannot be read.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            files = sorted(directory.iterdir()) if is_directory(directory) else []
        except OSError as exc:
            raise ConfigError(
                f"cannot read the directory {directory}: {exc.strerror}", where=str(directory)
            ) from exc
        for path in files:
            if path.name.startswith(("_", ".")) or path.name.endswith(_LOCK):
                continue
            if path.suffix in SUFFIXES and is_file(path):
                found.setdefault(path.stem, path)
    return found
