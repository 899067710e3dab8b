"""A source tree of the agent: which files count, their digest, and what its metadata says.

Nothing of the tree is run: its metadata files are read as text.
"""

from __future__ import annotations

import configparser
import email.parser
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from imagebuild.agent.locks import AGENT, Pin
from imagebuild.digest import canonical, of_file
from imagebuild.errors import ConfigError

#: Left out of a source directory that is no git checkout: what tools leave behind.
_LEFTOVERS = frozenset({".git", "__pycache__", ".tox", "build"})


@dataclass(frozen=True)
class Metadata:
    """What a source tree declares. `version` only when a PKG-INFO has it."""

    name: str
    version: str | None
    requires_python: str | None


def plain_files(root: Path) -> list[str]:
    """The files of a directory that is no git checkout, without what tools leave behind."""
    return _walk(root, _is_leftover)


def all_files(root: Path) -> list[str]:
    """Every file below a directory: for a tree that holds a commit's files and no others."""
    return _walk(root, lambda _name: False)


def _walk(root: Path, is_skipped: Callable[[str], bool]) -> list[str]:
    found: list[str] = []
    for here, directories, files in os.walk(root):
        directories[:] = [d for d in directories if not is_skipped(d)]
        links = [d for d in directories if Path(here, d).is_symlink()]
        found += [
            os.path.relpath(Path(here, n), root) for n in [*files, *links] if not is_skipped(n)
        ]
    return sorted(found)


def _is_leftover(name: str) -> bool:
    return name in _LEFTOVERS or name.endswith(".egg-info")


def tree_digest(root: Path, files: Iterable[str]) -> str:
    """sha256 over path, executable bit and content of files, in the order of their names.

    A symlink counts by its target. Owners, times and the other mode bits do not survive a
    checkout and do not count. Raises ConfigError for a file that cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        path = root / name
        try:
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                entry = ["link", name, str(path.readlink())]
            else:
                kind = "exec" if info.st_mode & stat.S_IXUSR else "file"
                entry = [kind, name, of_file(path)]
        except OSError as exc:
            raise ConfigError(
                "a file of the agent's source cannot be read", where=str(path), detail=str(exc)
            ) from exc
        digest.update(canonical(entry) + b"\n")
    return digest.hexdigest()


def copy_tree(root: Path, files: Iterable[str], dest: Path) -> None:
    """Copy the named files, and nothing else, to a new directory, symlinks as symlinks.

    Modes become 0644 or 0755: a wheel takes them over, and the umask of whoever made the
    checkout must not show in it.
    """
    for name in files:
        source, target = root / name, dest / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
        if not source.is_symlink():
            is_executable = source.stat().st_mode & stat.S_IXUSR
            target.chmod(0o755 if is_executable else 0o644)


def read_metadata(root: Path) -> Metadata:
    """Name, version and Requires-Python of a source tree.

    From pyproject.toml, setup.cfg (pbr's `python-requires` or setuptools') and an sdist's
    PKG-INFO, the first that has the value. Raises ConfigError when it is not Trove.
    """
    pyproject = _pyproject(root)
    setup_cfg = _setup_cfg(root)
    pkg_info = _pkg_info(root)
    name = pyproject.get("name") or setup_cfg.get("name") or pkg_info.get("name")
    if name is None or canonicalize_name(name) != AGENT:
        raise ConfigError(
            "this is not the source of Trove",
            where=str(root),
            detail=f"its metadata calls it {name}" if name else "it has no Python metadata",
            hint="name the top directory of a checkout of openstack/trove",
        )
    requires = (
        pyproject.get("requires-python")
        or setup_cfg.get("requires-python")
        or pkg_info.get("requires-python")
    )
    return Metadata(AGENT, _version(pkg_info, root), requires)


def _version(pkg_info: Mapping[str, str], root: Path) -> str | None:
    version = pkg_info.get("version")
    try:
        return str(Version(version)) if version else None
    except InvalidVersion:
        raise ConfigError(
            f"{version} is not a version of trove",
            where=str(root / "PKG-INFO"),
            hint="unpack the source distribution anew, or name a checkout",
        ) from None


def _pyproject(root: Path) -> dict[str, str]:
    # tomllib is not in Python 3.10, and two plain strings of one table need no parser.
    text = _text(root / "pyproject.toml")
    table = re.search(r"^\[project\]\s*$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    if table is None:
        return {}
    pairs = re.findall(
        r"""^\s*(name|requires-python)\s*=\s*["']([^"']+)["']""", table.group(1), re.MULTILINE
    )
    return dict(pairs)


def _setup_cfg(root: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(_text(root / "setup.cfg"))
    except configparser.Error as exc:
        raise ConfigError(
            "the source's setup.cfg cannot be read", where=str(root), detail=str(exc)
        ) from exc
    found: dict[str, str] = {}
    for section in ("metadata", "options"):
        for key, value in parser.items(section) if parser.has_section(section) else []:
            key = key.replace("_", "-")
            if key in ("python-requires", "requires-python"):
                found.setdefault("requires-python", value.strip())
            elif key == "name" and section == "metadata":
                found["name"] = value.strip()
    return found


def _pkg_info(root: Path) -> dict[str, str]:
    message = email.parser.HeaderParser().parsestr(_text(root / "PKG-INFO"))
    return {k.lower(): str(v).strip() for k, v in message.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace") if path.is_file() else ""
    except OSError as exc:
        raise ConfigError(
            "a file of the agent's source cannot be read", where=str(path), detail=str(exc)
        ) from exc


def next_version(tag: str, commits: int) -> str:
    """The version of a commit that lies `commits` after a tag, as pbr numbers it.

    On the tag: the tag. After it: the next patch release's (or the next pre-release's)
    `.devN` (pbr, "Version" in its user guide). Footers like `Sem-Ver:`, with which a
    commit can ask pbr for more than a patch, are not looked at.
    """
    version = Version(tag)
    if commits == 0:
        return str(version)
    if version.pre is not None:
        letter, number = version.pre
        return f"{version.base_version}{letter}{number + 1}.dev{commits}"
    numbers = [*version.release, 0, 0][:3]
    return f"{numbers[0]}.{numbers[1]}.{numbers[2] + 1}.dev{commits}"


def unmet_requirements(root: Path, pins: Iterable[Pin], python: str) -> list[str]:
    """The lines of a tree's requirements.txt that the pins of a lock do not meet."""
    versions = {p.name: p.version for p in pins}
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
    }
    unmet = []
    for line in _text(root / "requirements.txt").splitlines():
        try:
            wanted = Requirement(line.partition("#")[0].strip())
            applies = wanted.marker is None or wanted.marker.evaluate(environment)
        except (InvalidRequirement, UndefinedEnvironmentName):
            continue  # an option line or a comment
        except UndefinedComparison as exc:
            unmet.append(f"{wanted} ({exc})")
            continue
        have = versions.get(canonicalize_name(wanted.name))
        if applies and (have is None or not wanted.specifier.contains(have, prereleases=True)):
            unmet.append(f"{wanted} (the lock has {have or 'none'})")
    return unmet
