"""Finding profiles and loading them: files, `extends`, overrides, validation.

    name or path ─locate─▶ file ─extends─▶ one tree ─overrides─▶ tree ─validate─▶ Profile

The place of every key is carried along, so that a mistake names its file and line and
`profile show --origin` can say who set what. Every function raises ConfigError only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from imagebuild.config import problems as problems_
from imagebuild.config.chain import locate, read_chain
from imagebuild.config.finding import named_profiles, search_path
from imagebuild.config.merge import Override, apply_overrides, parse_set
from imagebuild.config.profile import Profile
from imagebuild.config.profilekind import PROFILE
from imagebuild.config.yamlmarks import Document, Loc, dotted
from imagebuild.errors import ConfigError

__all__ = [
    "LoadedProfile",
    "Override",
    "ProfileSummary",
    "check_file",
    "find_profile",
    "list_profiles",
    "load_profile",
    "parse_set",
]


@dataclass(frozen=True)
class LoadedProfile:
    """A valid profile, and who set each of its keys.

    `origins` maps each dotted key to `file:line`, to an override's origin, or to
    `default`. `path` is the file that was asked for.
    """

    profile: Profile
    origins: Mapping[str, str]
    path: Path


@dataclass(frozen=True)
class ProfileSummary:
    """A line of `profile list`. When the profile is not valid, `error` says why."""

    name: str
    path: Path
    os: str = ""
    release: str = ""
    python: str = ""
    error: str = field(default="", compare=False)


def load_profile(
    name_or_path: str, overrides: Sequence[Override] = (), search: Sequence[Path] = ()
) -> LoadedProfile:
    """Load the profile with this name, or in this file, with the overrides on top.

    `search` holds directories to look in before the user's own and the shipped ones.
    Something with a slash or ending in .yaml is a path. Raises ConfigError.
    """
    path = locate(PROFILE, name_or_path, search_path(search))
    document = _read(path, search_path(search))
    found = apply_overrides(document, overrides)
    profile: Profile | None = None
    try:
        profile = Profile.model_validate(document.tree)
    except ValidationError as exc:
        found += problems_.translate(PROFILE, exc, document.marks, str(path))
    if found or profile is None:
        raise problems_.to_error(
            PROFILE, found, str(document.tree.get("name", path.stem)), str(path)
        )
    return LoadedProfile(profile, _origins(profile, document.marks), path)


def check_file(path: Path, search: Sequence[Path] = ()) -> None:
    """Raise ConfigError unless the file is a valid profile.

    A file whose name begins with `_` is a parent for others: its keys must be valid,
    but some may be missing.
    """
    if not path.name.startswith("_"):
        load_profile(str(path.absolute()), (), search)
        return
    document = _read(path, search_path(search))
    try:
        Profile.model_validate(document.tree)
    except ValidationError as exc:
        found = problems_.translate(PROFILE, exc, document.marks, str(path))
        found = [problem for problem in found if not problem.is_missing_key]
        if found:
            raise problems_.to_error(PROFILE, found, path.stem, str(path)) from exc


def list_profiles(search: Sequence[Path] = ()) -> list[ProfileSummary]:
    """The profiles that can be named, sorted by name; those that others only extend are not.

    Of two files with one name the first on the search path counts.
    """
    named = named_profiles(search_path(search))
    return [_summary(name, path, search) for name, path in sorted(named.items())]


def find_profile(os_name: str, release: str, search: Sequence[Path] = ()) -> Path:
    """The file of the profile for a distribution's release.

    That is the file OS-RELEASE.yaml, or else the only profile that says so inside.
    Raises ConfigError naming what exists when there is none, or more than one.
    """
    named = named_profiles(search_path(search))
    if f"{os_name}-{release}" in named:
        return named[f"{os_name}-{release}"]
    profiles = [p for p in list_profiles(search) if not p.error]
    fitting = [p for p in profiles if (p.os, p.release) == (os_name, release)]
    if len(fitting) == 1:
        return fitting[0].path
    if fitting:
        raise ConfigError(
            f"more than one profile is for {os_name} {release}",
            detail="\n".join(f"{p.name}: {p.path}" for p in fitting),
            hint=f"name one: {fitting[0].name}",
        )
    known = sorted({f"{p.os} {p.release}" for p in profiles})
    raise ConfigError(
        f"there is no profile for {os_name} {release}",
        where=", ".join(str(directory) for directory in search_path(search)),
        detail="these exist: " + ", ".join(known),
        hint=problems_.nearest_hint(f"{os_name} {release}", known)
        or "write a profile of your own and name its file",
    )


def _summary(name: str, path: Path, search: Sequence[Path]) -> ProfileSummary:
    try:
        profile = load_profile(str(path.absolute()), (), search).profile
    except ConfigError as exc:
        return ProfileSummary(name, path, error=f"{exc.where}: {exc.what}")
    return ProfileSummary(name, path, str(profile.os), profile.release, profile.python)


def _read(path: Path, directories: Sequence[Path]) -> Document:
    """The file with all that it extends below it; a profile has a name."""
    merged = read_chain(PROFILE, path, directories)
    if "name" not in merged.tree:
        merged.tree["name"] = _name_of(path)
        merged.marks[("name",)] = f"the name of {path}"
    return merged


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63].strip("-") or "profile"


def _origins(profile: Profile, marks: Mapping[Loc, str]) -> dict[str, str]:
    def walk(model: BaseModel, loc: Loc) -> None:
        for key in type(model).model_fields:
            value = getattr(model, key)
            here = (*loc, key)
            if isinstance(value, BaseModel):
                walk(value, here)
            else:
                origins[dotted(here)] = marks.get(here, "default")

    origins: dict[str, str] = {}
    walk(profile, ())
    return origins
