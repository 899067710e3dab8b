"""A file with all that it extends below it, as one document.

    name or path ─locate─▶ file ─extends─▶ parent ─extends─▶ … ─merge─▶ one tree

For every kind of configuration file. Raises ConfigError only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from imagebuild.config import problems
from imagebuild.config.finding import SUFFIXES, named_profiles
from imagebuild.config.kind import Kind
from imagebuild.config.merge import append_lists, lay_over, make_paths_absolute
from imagebuild.config.yamlmarks import Document, load_file
from imagebuild.errors import ConfigError
from imagebuild.files import is_descriptor, is_file

#: So many files may extend each other in a row.
MAX_CHAIN = 32
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def locate(kind: Kind, name_or_path: str, directories: Sequence[Path]) -> Path:
    """The file that is meant by its path, or by its name in one of the directories."""
    if _is_path(name_or_path) and "\0" not in name_or_path:
        return Path(name_or_path)  # load_file says so when it is not there
    for directory in directories:
        found = _in_directory(name_or_path, directory)
        if found:
            return found
    names = sorted(named_profiles(directories))
    raise ConfigError(
        f"there is no {kind.noun} named {name_or_path!r}",
        where=", ".join(str(directory) for directory in directories),
        detail="these exist: " + ", ".join(names),
        hint=problems.nearest_hint(name_or_path, names)
        or "give the path of a file, with a slash or ending in .yaml; "
        "/dev/stdin is what comes through a pipe",
    )


def read_chain(kind: Kind, path: Path, directories: Sequence[Path]) -> Document:
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
                f"more than {MAX_CHAIN} {kind.noun}s extend each other",
                where=where,
                detail=f"the first of them is {path}",
                hint="put what they share into one parent",
            )
        seen.append(resolved)
        document = _load_link(kind, current, where)
        # What is open already, like /dev/stdin, lies nowhere.
        home = Path() if is_descriptor(current) else current.parent
        make_paths_absolute(kind, document.tree, home.absolute())
        if kind.relocate:
            kind.relocate(document.tree, home.absolute())
        extends = document.tree.pop("extends", None)
        where = document.marks.pop(("extends",), "")
        chain.append(document)
        current = (
            None if extends is None else _parent(kind, current, home, extends, where, directories)
        )
    # A file is not called what its parent is called.
    for parent_document in chain[1:]:
        parent_document.tree.pop("name", None)
        parent_document.marks.pop(("name",), None)
    merged = chain.pop()
    append_lists(kind, merged)
    while chain:
        lay_over(kind, merged, chain.pop())
        append_lists(kind, merged)
    return merged


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or name_or_path.endswith(SUFFIXES)


def _in_directory(name: str, directory: Path) -> Path | None:
    if not _PLAIN_NAME.fullmatch(name) or len(name) > 200:
        return None
    candidates = (directory / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if is_file(path)), None)


def _parent(
    kind: Kind,
    child: Path,
    home: Path,
    extends: object,
    where: str,
    directories: Sequence[Path],
) -> Path:
    """The file that `extends` names: in the child's directory, then on the search path."""
    if not isinstance(extends, str) or not extends or "\0" in extends:
        raise ConfigError(f"extends: the name or path of one {kind.noun} is expected", where=where)
    if _is_path(extends):
        return home / extends
    # A file may shadow the one that it extends (ubuntu-jammy.yaml in the user's own
    # directory): then the next one on the search path is meant, not the file itself.
    for directory in (home, *directories):
        found = _in_directory(extends, directory)
        if found and found.resolve() != child.resolve():
            return found
    names = sorted({p.stem for d in (home, *directories) for p in d.glob("*.y*ml")})
    raise ConfigError(
        f"extends: there is no {kind.noun} named {extends!r}",
        where=where,
        detail="these exist: " + ", ".join(names),
        hint=problems.nearest_hint(extends, names),
    )


def _load_link(kind: Kind, path: Path, where: str) -> Document:
    try:
        return load_file(path, kind.noun, lists=kind.lists, example=kind.example)
    except ConfigError as exc:
        if where and not is_file(path):
            raise ConfigError(
                f"extends: {exc.what}", where=where, hint="a relative path starts at the file"
            ) from exc
        raise
