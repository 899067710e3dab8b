"""Which guest agent goes into an image: the user's words resolved to exact bytes.

    pypi:trove==V    a release; the default is the one that the series' lock pins
    git+URL@REF      a branch, tag or commit of a repository
    PATH             a directory with Trove's source, as it is now

This is the only module of the agent that asks the network what a name means today.
"""

from __future__ import annotations

import enum
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from imagebuild.agent import git, tree
from imagebuild.agent.locks import AGENT, Lock, agent_lock, build_lock
from imagebuild.agent.pipconf import pip_settings
from imagebuild.agent.series import (
    SERIES,
    Series,
    get_series,
    newest_series,
    series_of_version,
    unfit_python,
)
from imagebuild.digest import of_file
from imagebuild.errors import BuildError, ConfigError
from imagebuild.memory import Memory
from imagebuild.redaction import redact

_PYPI = re.compile(r"pypi:trove(?:==([^\s=]+))?", re.IGNORECASE)
_GIT_SCHEMES = ("https", "http", "ssh", "git", "file")
_FORMS = "say pypi:trove==VERSION, git+URL@REF, or the path of a source directory"


class SourceKind(str, enum.Enum):
    """Where the agent's source comes from."""

    PYPI = "pypi"
    GIT = "git"
    PATH = "path"


@dataclass(frozen=True)
class AgentInput:
    """The agent, resolved. It holds no secret and may be shown and stored.

    `sha256` is of the source tree for git and path, of the release's wheel (its sdist when
    it has none) for pypi. `series` may differ from the version's own when the user named
    it. `resolved` is False when `offline` kept us from finding something out; what is
    missing then is None.
    """

    kind: SourceKind
    requested: str
    name: str
    version: str | None
    series: str
    python: str
    requires_python: str | None
    lock: str
    lock_sha256: str
    build_lock: str
    build_lock_sha256: str
    sha256: str | None = None
    commit: str | None = None
    url: str | None = None
    path: str | None = None
    dirty: bool = False
    resolved: bool = True

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` reads it back."""
        return asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AgentInput:
        """The value that `to_json` was called on."""
        return cls(**{**data, "kind": SourceKind(data["kind"])})


@dataclass(frozen=True)
class _Request:
    """What `resolve_agent` was asked, for the functions that do a part of it."""

    requested: str
    series: Series | None
    python: str
    release: str
    workdir: Path
    memory: Memory
    env: Mapping[str, str]

    def lock(self, series: Series) -> Lock:
        return agent_lock(series, self.python, release=self.release)

    def check_requires(self, what: str, requires: str | None) -> None:
        """Refuse an agent that the guest's Python cannot run."""
        try:
            fits = requires is None or SpecifierSet(requires).contains(self.python)
        except InvalidSpecifier:
            raise ConfigError(
                f"{what} has a Requires-Python that cannot be read",
                where=f"agent {redact(self.requested)}",
                detail=str(requires),
                hint="it is a list of conditions, like >=3.10,<4",
            ) from None
        if not fits:
            raise unfit_python(what, str(requires), self.python, release=self.release)

    def result(self, kind: SourceKind, series: Series, lock: Lock, **rest: Any) -> AgentInput:  # noqa: ANN401 - AgentInput's fields
        tools = build_lock(self.python)
        return AgentInput(
            kind=kind,
            requested=redact(self.requested),
            name=AGENT,
            series=series.name,
            python=self.python,
            lock=lock.name,
            lock_sha256=lock.sha256,
            build_lock=tools.name,
            build_lock_sha256=tools.sha256,
            **rest,
        )


def resolve_agent(
    source: str | None,
    series: str | None,
    python: str,
    *,
    workdir: Path,
    memory: Memory,
    env: Mapping[str, str],
    release: str = "",
) -> AgentInput:
    """Resolve a source of the guest agent.

    `series` overrules what the source says about itself; `python` is the guest's ("3.10"),
    `release` its name for messages. `workdir` keeps fetched repositories and the trees of
    their commits; give the same directory to `wheels.collect` as its cache. `memory` asks
    the network, or does without. `env` is the network environment. Raises ConfigError for
    what does not exist or does not fit, and TemporaryError when an index or repository
    cannot be reached.
    """
    chosen = get_series(series) if series else None
    request = _Request(source or f"pypi:{AGENT}", chosen, python, release, workdir, memory, env)
    if match := _PYPI.fullmatch(request.requested):
        return _resolve_pypi(request, match.group(1))
    if request.requested.startswith("git+"):
        return _resolve_git(request)
    if request.requested.startswith("pypi:"):
        raise ConfigError(
            "this is no release of Trove", where=f"agent {request.requested}", hint=_FORMS
        )
    return _resolve_path(request)


def source_tree(agent: AgentInput, workdir: Path) -> tuple[Path, list[str]]:
    """The directory of a git or path agent's source and the files in it that count.

    Raises BuildError when the tree is gone or no longer the one that was resolved.
    """
    if agent.kind is SourceKind.PATH:
        root = Path(str(agent.path))
        files = _path_files(root) if root.is_dir() else []
    else:
        root = _tree_dir(workdir, str(agent.commit))
        files = tree.all_files(root) if root.is_dir() else []
    if agent.sha256 is None or tree.tree_digest(root, files) != agent.sha256:
        raise BuildError(
            "the agent's source is not the one that the build was planned with",
            where=str(root),
            hint="leave the source alone during a build, and start the build again",
        )
    return root, files


def _resolve_pypi(request: _Request, version: str | None) -> AgentInput:
    series = request.series or (
        series_of_version(version) if version else newest_series(request.python)
    )
    lock = request.lock(series)
    locked = lock.pin(AGENT).version
    requires: str | None = series.requires_python
    sha256: str | None = lock.header["agent-wheel"]
    if version is None or _equal(version, locked):
        version = locked
    else:
        sha256, requires = _release(request, version)
    return request.result(
        SourceKind.PYPI,
        series,
        lock,
        version=version,
        requires_python=requires,
        sha256=sha256,
        resolved=sha256 is not None,
    )


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        raise ConfigError(
            f"{one} is not a version of trove", where=f"agent pypi:trove=={one}", hint=_FORMS
        ) from None


def _release(request: _Request, version: str) -> tuple[str | None, str | None]:
    """sha256 and Requires-Python of the file that a release is installed from."""
    settings = pip_settings(request.env)
    places = [*settings.index_urls, *settings.find_links]
    found = request.memory.ask(
        "trove-release",
        [places, version],
        f"guest agent {request.requested}",
        lambda: _ask_index(request, version),
    )
    if found is None:
        return None, None
    request.check_requires(f"trove {version}", found["requires_python"])
    return found["sha256"], found["requires_python"]


def _ask_index(request: _Request, version: str) -> dict[str, str | None]:
    from imagebuild.agent.index import Index

    with Index(request.env) as index:
        files = index.all_files(AGENT, version)
        if not files:
            raise no_such_version(version, index.versions(AGENT))
        file = next((f for f in files if f.is_wheel), files[0])
        sha256 = file.sha256
        if not sha256:
            request.workdir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=request.workdir) as scratch:
                fetched = Path(scratch, "file")
                index.download(file, fetched)
                sha256 = of_file(fetched)
        return {"sha256": sha256, "requires_python": file.requires_python}


def no_such_version(version: str, known: list[str]) -> ConfigError:
    """The error for a release that the index does not have; it names the nearest."""
    major = Version(version).major
    near = [v for v in known if Version(v).major == major] or known
    return ConfigError(
        f"the package index has no trove {version}",
        where=f"agent pypi:trove=={version}",
        detail=f"nearest: {', '.join(near[:6])}" if near else "it has no trove at all",
        hint="choose a version that exists, or see PIP_INDEX_URL",
    )


def _resolve_git(request: _Request) -> AgentInput:
    url, ref = split_git(request.requested.removeprefix("git+"))
    repo = git.remote(url, request.env)
    commit: str | None = ref  # what a full commit id means needs no memory
    if not (request.memory.offline and re.fullmatch(r"[0-9a-f]{40}", ref)):
        commit = request.memory.ask(
            "git-ref",
            [repo.shown, ref],
            f"guest agent {redact(request.requested)}",
            lambda: git.fetch(repo, ref, git.resolve_ref(repo, ref), request.workdir)[1],
        )
    git_dir = git.cached(repo, request.workdir)
    if git_dir is None or commit is None or not git.has_commit(git_dir, commit):
        return _unresolved_git(request, repo, ref, commit)
    root = _tree_dir(request.workdir, commit)
    if not root.is_dir():
        git.export(git_dir, commit, root)
    return _from_tree(
        request, SourceKind.GIT, root, tree.all_files(root), ref,
        described=git.describe(git_dir, commit), commit=commit, url=repo.shown,
    )  # fmt: skip


def split_git(text: str) -> tuple[str, str]:
    """URL and ref of URL@REF; the ref is "" when there is none. Raises ConfigError."""
    parts = urlsplit(text)
    path, at, ref = parts.path.rpartition("@")
    if not at:
        path, ref = parts.path, ""
    if parts.scheme not in _GIT_SCHEMES or not path or ref.startswith("-"):
        raise ConfigError(
            "this is not a git URL with a ref",
            where=f"agent git+{redact(text)}",
            hint=f"git+URL@REF, where URL starts with one of {', '.join(_GIT_SCHEMES)}",
        )
    return urlunsplit(parts._replace(path=path)), ref


def _unresolved_git(
    request: _Request, repo: git.Remote, ref: str, commit: str | None
) -> AgentInput:
    series = request.series or _series_of_ref(ref) or newest_series(request.python)
    return request.result(
        SourceKind.GIT,
        series,
        request.lock(series),
        version=None,
        requires_python=None,
        commit=commit,
        url=repo.shown,
        resolved=False,
    )


def _tree_dir(workdir: Path, commit: str) -> Path:
    return workdir / "trees" / commit


def _resolve_path(request: _Request) -> AgentInput:
    root = Path(request.requested).expanduser()
    if not root.is_dir():
        raise ConfigError("the agent's source is not a directory", where=str(root), hint=_FORMS)
    root = root.resolve()
    checkout = (root / ".git").exists()
    return _from_tree(
        request, SourceKind.PATH, root, _path_files(root), "",
        described=git.describe(root) if checkout else None,
        commit=git.head(root) if checkout else None,
        path=str(root), dirty=checkout and git.is_dirty(root),
    )  # fmt: skip


def _path_files(root: Path) -> list[str]:
    return git.work_files(root) if (root / ".git").exists() else tree.plain_files(root)


def _from_tree(
    request: _Request,
    kind: SourceKind,
    root: Path,
    files: list[str],
    ref: str,
    *,
    described: tuple[str, int] | None,
    **rest: Any,  # noqa: ANN401 - AgentInput's fields
) -> AgentInput:
    metadata = tree.read_metadata(root)
    version = _described_version(described) or metadata.version
    what = f"trove {version}" if version else f"trove from {redact(request.requested)}"
    request.check_requires(what, metadata.requires_python)
    series = (
        request.series
        or (_series_of_major(version) if version else None)
        or _series_of_ref(ref)
        or newest_series(request.python)
    )
    lock = request.lock(series)
    unmet = tree.unmet_requirements(root, lock.pins, request.python)
    if unmet:
        raise ConfigError(
            f"the agent's source needs what the lock of series {series.name} does not have",
            where=f"{root}/requirements.txt against {lock.name}",
            detail="\n".join(unmet),
            hint="name the series that the source belongs to, or extend its lock",
        )
    return request.result(
        kind,
        series,
        lock,
        version=version or f"{series.major}.0.0.dev0",
        requires_python=metadata.requires_python,
        sha256=tree.tree_digest(root, files),
        **rest,
    )


def _described_version(described: tuple[str, int] | None) -> str | None:
    if described is None:
        return None
    try:
        return tree.next_version(*described)
    except InvalidVersion:
        return None  # somebody's own tag that starts with a digit


def _series_of_major(version: str) -> Series | None:
    """The series of a source's version; None for one that is ahead of all that we know."""
    return None if Version(version).major > SERIES[-1].major else series_of_version(version)


def _series_of_ref(ref: str) -> Series | None:
    return next((s for s in SERIES if ref.endswith(f"stable/{s.name}")), None)
