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
from imagebuild.config.finding import SUFFIXES, named_profiles, search_path
from imagebuild.config.merge import (
    Override,
    apply_overrides,
    lay_over,
    make_paths_absolute,
    parse_set,
)
from imagebuild.config.profile import Profile
from imagebuild.config.yamlmarks import Document, Loc, dotted, load_file
from imagebuild.errors import ConfigError
from imagebuild.files import is_descriptor, is_file

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

#: So many profiles may extend each other in a row.
MAX_CHAIN = 32
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


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
    path = _locate(name_or_path, search_path(search))
    document = _read_chain(path, search_path(search))
    found = apply_overrides(document, overrides)
    profile: Profile | None = None
    try:
        profile = Profile.model_validate(document.tree)
    except ValidationError as exc:
        found += problems_.translate(exc, document.marks, str(path))
    if found or profile is None:
        raise problems_.to_error(found, str(document.tree.get("name", path.stem)), str(path))
    return LoadedProfile(profile, _origins(profile, document.marks), path)


def check_file(path: Path, search: Sequence[Path] = ()) -> None:
    """Raise ConfigError unless the file is a valid profile.

    A file whose name begins with `_` is a parent for others: its keys must be valid,
    but some may be missing.
    """
    if not path.name.startswith("_"):
        load_profile(str(path.absolute()), (), search)
        return
    document = _read_chain(path, search_path(search))
    try:
        Profile.model_validate(document.tree)
    except ValidationError as exc:
        found = problems_.translate(exc, document.marks, str(path))
        found = [problem for problem in found if not problem.is_missing_key]
        if found:
            raise problems_.to_error(found, path.stem, str(path)) from exc


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


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or name_or_path.endswith(SUFFIXES)


def _in_directory(name: str, directory: Path) -> Path | None:
    if not _PLAIN_NAME.fullmatch(name) or len(name) > 200:
        return None
    candidates = (directory / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if is_file(path)), None)


def _locate(name_or_path: str, directories: Sequence[Path]) -> Path:
    if _is_path(name_or_path) and "\0" not in name_or_path:
        return Path(name_or_path)  # load_file says so when it is not there
    for directory in directories:
        found = _in_directory(name_or_path, directory)
        if found:
            return found
    names = sorted(named_profiles(directories))
    raise ConfigError(
        f"there is no profile named {name_or_path!r}",
        where=", ".join(str(directory) for directory in directories),
        detail="these exist: " + ", ".join(names),
        hint=problems_.nearest_hint(name_or_path, names)
        or "give the path of a file, with a slash or ending in .yaml; "
        "/dev/stdin is what comes through a pipe",
    )


def _parent(
    child: Path,
    home: Path,
    extends: object,
    where: str,
    directories: Sequence[Path],
) -> Path:
    """The file that `extends` names: in the child's directory, then on the search path."""
    if not isinstance(extends, str) or not extends or "\0" in extends:
        raise ConfigError("extends: the name or path of one profile is expected", where=where)
    if _is_path(extends):
        return home / extends
    # A file may shadow the profile that it extends (ubuntu-jammy.yaml in the user's
    # own directory): then the next one on the search path is meant, not the file itself.
    for directory in (home, *directories):
        found = _in_directory(extends, directory)
        if found and found.resolve() != child.resolve():
            return found
    names = sorted({p.stem for d in (home, *directories) for p in d.glob("*.y*ml")})
    raise ConfigError(
        f"extends: there is no profile named {extends!r}",
        where=where,
        detail="these exist: " + ", ".join(names),
        hint=problems_.nearest_hint(extends, names),
    )


def _read_chain(path: Path, directories: Sequence[Path]) -> Document:
    """The file with all that it extends below it, as one document."""
    chain: list[Document] = []
    seen: list[Path] = []
    current: Path | None = path
    where = ""
    while current is not None:
        try:
            resolved = current.resolve()
        except (OSError, RuntimeError) as exc:  # a loop of symbolic links
            raise ConfigError(f"cannot read {current}: {exc}", where=where or str(current)) from exc
        if resolved in seen:
            circle = [*seen[seen.index(resolved) :], resolved]
            raise ConfigError(
                "extends goes in a circle", where=where, detail=" → ".join(map(str, circle))
            )
        if len(seen) == MAX_CHAIN:
            raise ConfigError(
                f"more than {MAX_CHAIN} profiles extend each other",
                where=where,
                detail=f"the first of them is {path}",
                hint="put what they share into one parent",
            )
        seen.append(resolved)
        document = _load_link(current, where)
        # What is open already, like /dev/stdin, lies nowhere.
        home = Path() if is_descriptor(current) else current.parent
        make_paths_absolute(document.tree, home.absolute())
        extends = document.tree.pop("extends", None)
        where = document.marks.pop(("extends",), "")
        chain.append(document)
        parent = None if extends is None else _parent(current, home, extends, where, directories)
        current = parent
    # A profile is not called what its parent is called.
    for parent_document in chain[1:]:
        parent_document.tree.pop("name", None)
        parent_document.marks.pop(("name",), None)
    merged = chain.pop()
    while chain:
        lay_over(merged, chain.pop())
    if "name" not in merged.tree:
        merged.tree["name"] = _name_of(path)
        merged.marks[("name",)] = f"the name of {path}"
    return merged


def _load_link(path: Path, where: str) -> Document:
    try:
        return load_file(path)
    except ConfigError as exc:
        if where and not is_file(path):
            raise ConfigError(
                f"extends: {exc.what}", where=where, hint="a relative path starts at the file"
            ) from exc
        raise


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
