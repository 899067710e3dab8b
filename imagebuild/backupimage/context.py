"""Trove's directory `backup`: found in a checkout, a repository or a release, and copied.

    pypi:trove==V    a release; the default is that of the series that is wanted
    git+URL@REF      a branch, tag or commit of a repository
    PATH             a directory with Trove's source, as it is now

These are the words that the guest agent's source is named with (agent/source.py). Of a release
it is the source distribution that counts: the wheel does not have the directory.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from imagebuild.agent import git, tree
from imagebuild.agent.files import FileCache
from imagebuild.agent.locks import AGENT, Pin, agent_lock
from imagebuild.agent.series import SERIES, Series, get_series
from imagebuild.agent.source import no_such_version, split_git
from imagebuild.errors import BuildError, ConfigError
from imagebuild.files import MIB, is_directory, read_limited
from imagebuild.redaction import redact

UPSTREAM = "https://opendev.org/openstack/trove"

_PYPI = re.compile(r"pypi:trove(?:==([^\s=]+))?", re.IGNORECASE)
_FORMS = "say pypi:trove==VERSION, git+URL@REF, or the path of a source directory"
_DIRECTORY = "backup"
#: What a build needs: without it the directory is not the one that we know.
_NEEDED = ("Dockerfile", "install.sh", "main.py", "requirements.txt")
#: Of one file, and of all of them: a few hundred kB in truth.
_LARGEST = 64 * MIB
#: Where pbr notes what a release was made from.
_RELEASE = Path("trove.egg-info/pbr.json")
_LARGEST_NOTE = 4096
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Context:
    """A copy of the directory at `root`, without its tests; modes are 0644 and 0755.

    `version` and `commit` are "" where they are not known; that of a release is abbreviated.
    `date` is when the source was made, in seconds since 1970. `dirty`: the checkout differs from
    its commit.
    """

    root: Path
    requested: str
    version: str
    commit: str
    url: str
    date: int
    dirty: bool = False

    def text(self, name: str) -> str:
        """A file's text, "" when it is not there."""
        path = self.root / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def drivers(self) -> dict[str, str]:
        """The texts of the code that runs a datastore's tools, by file name."""
        return {p.name: p.read_text(errors="replace") for p in self.root.glob("drivers/*.py")}

    def to_json(self) -> dict[str, Any]:
        """What it is, as JSON values."""
        return {
            "requested": self.requested,
            "version": self.version or None,
            "commit": self.commit or None,
            "url": self.url,
            "dirty": self.dirty,
        }


def get_context(
    source: str | None, series: str | None, dest: Path, *, cache: Path, env: Mapping[str, str]
) -> Context:
    """Copy the directory to `dest`, which must not be there.

    `cache` keeps what is fetched, `env` is the network environment (see host/run.py). Raises
    ConfigError for what does not exist, TemporaryError when the network does not give it.
    """
    wanted = get_series(series) if series else None
    requested = source or f"pypi:{AGENT}"
    try:
        urlsplit(requested)
    except ValueError as exc:
        raise ConfigError(
            "this is no source of Trove", where=f"trove {redact(requested)}", detail=str(exc),
            hint=_FORMS,
        ) from exc  # fmt: skip
    if match := _PYPI.fullmatch(requested):
        found = _of_release(match[1], wanted or SERIES[-1], requested, dest, cache, env)
    elif wanted:
        raise ConfigError(
            "a series says which release is meant; this source is no release",
            where=f"trove {redact(requested)}",
            hint="leave out --trove-series, or name the branch: git+URL@stable/SERIES",
        )
    elif requested.startswith("git+"):
        found = _of_repository(requested, dest, cache, env)
    elif requested.startswith("pypi:"):
        raise ConfigError("this is no release of Trove", where=f"trove {requested}", hint=_FORMS)
    else:
        found = _of_directory(requested, dest)
    lacking = [name for name in _NEEDED if not (dest / name).is_file()]
    if lacking:
        raise ConfigError(
            "the source does not have all of Trove's backup image",
            where=f"trove {redact(requested)}",
            detail="\n".join(f"no {_DIRECTORY}/{name}" for name in lacking),
            hint="Trove has them since Victoria (trove 14); name the top of its source",
        )
    return found


def _of_release(
    version: str | None,
    series: Series,
    requested: str,
    dest: Path,
    cache: Path,
    env: Mapping[str, str],
) -> Context:
    lock = agent_lock(series, series.pythons[-1])
    pin = lock.pin(AGENT)
    if version is None or _equal(version, pin.version):
        # Of the release's two files, the one that is not the wheel.
        pin = Pin(AGENT, pin.version, frozenset(pin.hashes) - {lock.header["agent-wheel"]})
    else:
        pin = _ask_index(version, env)
    files = FileCache(cache, series.pythons[-1], "x86_64", env=env, offline=False)
    try:
        sdist = files.fetch([pin], sdists={AGENT})[0]
    finally:
        files.close()
    date, commit = _unpack(sdist.path, dest)
    return Context(dest, requested, pin.version, commit, UPSTREAM, date)


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        raise ConfigError(
            f"{one} is not a version of trove", where=f"trove pypi:trove=={one}", hint=_FORMS
        ) from None


def _ask_index(version: str, env: Mapping[str, str]) -> Pin:
    from imagebuild.agent.index import Index

    with Index(env) as index:
        offered = index.all_files(AGENT, version)
        sdists = [f for f in offered if not f.is_wheel]
        if not offered:
            raise no_such_version(version, index.versions(AGENT))
    if not sdists or not sdists[0].sha256:
        raise ConfigError(
            f"the package index has no source distribution of trove {version}, with its hash",
            where=", ".join(f.filename for f in offered),
            hint="name another version, or a repository: git+URL@REF",
        )
    return Pin(AGENT, sdists[0].version, frozenset([sdists[0].sha256]))


def _unpack(sdist: Path, dest: Path) -> tuple[int, str]:
    """Write the directory's files; returns the newest of their times, and the release's commit."""
    newest, size, commit = 0, 0, ""
    try:
        with tarfile.open(sdist) as archive:
            for member in archive:
                parts = member.name.split("/")
                if parts[1:] == list(_RELEASE.parts) and (file := archive.extractfile(member)):
                    commit = _release_commit(file.read(_LARGEST_NOTE))
                inside = parts[1:2] == [_DIRECTORY] and len(parts) > 2 and ".." not in parts
                content = archive.extractfile(member) if inside and member.isreg() else None
                if content is None or _is_test(parts[2:]):
                    continue
                size += member.size
                if size > _LARGEST:
                    raise BuildError("the source is larger than it can be", where=str(sdist))
                target = dest.joinpath(*parts[2:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
                newest = max(newest, int(member.mtime))
    except (tarfile.TarError, OSError, EOFError) as exc:
        raise BuildError("a source distribution cannot be read", where=str(sdist),
                         detail=str(exc)) from exc  # fmt: skip
    return newest, commit


def _release_commit(data: bytes) -> str:
    """The abbreviated commit that pbr notes in a release, "" where it does not."""
    try:
        commit = str(json.loads(data)["git_version"])
    except (ValueError, LookupError, TypeError):
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""


def _of_repository(requested: str, dest: Path, cache: Path, env: Mapping[str, str]) -> Context:
    url, ref = split_git(requested.removeprefix("git+"))
    repo = git.remote(url, env)
    git_dir, commit = git.fetch(repo, ref, git.resolve_ref(repo, ref), cache)
    root = cache / "trees" / commit
    if not root.is_dir():
        git.export(git_dir, commit, root)
    _copy(root, tree.all_files(root / _DIRECTORY) if (root / _DIRECTORY).is_dir() else [], dest)
    return Context(
        dest, redact(requested), _version(root, git.describe(git_dir, commit)), commit,
        repo.shown, git.commit_time(git_dir, commit) or 0,
    )  # fmt: skip


def _of_directory(requested: str, dest: Path) -> Context:
    try:
        root = Path(requested).expanduser()
    except RuntimeError as exc:  # no such user
        raise ConfigError(
            str(exc), where=f"trove {requested}", hint="write the whole path"
        ) from exc
    if not is_directory(root):
        raise ConfigError("Trove's source is not a directory", where=str(root), hint=_FORMS)
    root = root.resolve()
    checkout = (root / ".git").exists()
    if checkout:
        prefix = f"{_DIRECTORY}/"
        names = [n.removeprefix(prefix) for n in git.work_files(root) if n.startswith(prefix)]
    else:
        inside = root / _DIRECTORY
        names = tree.plain_files(inside) if inside.is_dir() else []
    _copy(root, names, dest)
    times = [int((root / _DIRECTORY / n).lstat().st_mtime) for n in names]
    dirty = checkout and git.is_dirty(root)
    commit = (git.head(root) or "") if checkout else _unpacked_commit(root)
    date = git.commit_time(root) if checkout and not dirty else max(times, default=0)
    version = _version(root, git.describe(root) if checkout else None)
    # Where the source lies on this host is nobody's business who gets the image.
    return Context(dest, requested, version, commit, UPSTREAM, date or 0, dirty)


def _unpacked_commit(root: Path) -> str:
    try:
        return _release_commit(read_limited(root / _RELEASE, _LARGEST_NOTE))
    except OSError:
        return ""


def _copy(root: Path, names: list[str], dest: Path) -> None:
    if not names:
        return  # said by who looks for the files that are needed
    tree.read_metadata(root)  # refuses what is not Trove
    kept = [n for n in names if not _is_test(n.split("/")) and not n.endswith(".pyc")]
    tree.copy_tree(root / _DIRECTORY, kept, dest)


def _is_test(parts: list[str]) -> bool:
    return parts[0] == "tests"


def _version(root: Path, described: tuple[str, int] | None) -> str:
    try:
        if described:
            return tree.next_version(*described)
        return tree.read_metadata(root).version or ""
    except InvalidVersion:
        return ""  # somebody's own tag that starts with a digit
