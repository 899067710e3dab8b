"""git, as far as the agent's source needs it: resolve a ref, fetch it, export its files.

User names and passwords of a URL go to git through a credential helper that reads its
own environment: they are in no argv, no configuration file and no message.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from imagebuild.agent.pipconf import strip_userinfo
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.host.run import base_env, need, run
from imagebuild.redaction import redact

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: What git says of a repository that is not there, other than of a host that is away.
_ABSENT = re.compile(
    r"not found|does not exist|does not appear to be a git repository"
    r"|Authentication failed|could not read Username|Permission denied"
    r"|not our ref|couldn't find remote ref|unadvertised object|returned error: 40[134]"
    r"|not a valid|Unsupported protocol|unable to find remote helper",
    re.IGNORECASE,
)
_HELPER = (
    '!f() { test "$1" = get || exit 0; echo "username=$IMAGEBUILD_GIT_USER"; '
    'echo "password=$IMAGEBUILD_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True)
class Remote:
    """A repository's URL: `url` as git takes it, without password; `shown` for people."""

    url: str
    shown: str
    env: Mapping[str, str]

    @property
    def key(self) -> str:
        """Name of the repository's directory in the cache."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:16]


def remote(url: str, env: Mapping[str, str]) -> Remote:
    """Take a URL apart. `env` is the network environment (see host/run.py)."""
    # Keys, known hosts and a proxy command are the user's own, as in any git command.
    child = base_env(**env) | {
        "HOME": env.get("HOME") or str(Path.home()),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }
    if agent := os.environ.get("SSH_AUTH_SOCK"):
        child["SSH_AUTH_SOCK"] = agent
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.username is None:
        # The user of an ssh URL is no secret and git needs it; a password it cannot use.
        user = f"{parts.username}@" if parts.username else ""
        host = parts.netloc.rpartition("@")[2]
        return Remote(urlunsplit(parts._replace(netloc=user + host)), strip_userinfo(url), child)
    clean = strip_userinfo(url)
    scope = f"credential.{parts.scheme}://{parts.netloc.rpartition('@')[2]}.helper"
    child |= {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": scope,
        "GIT_CONFIG_VALUE_0": "",  # forgets helpers that the user has set up
        "GIT_CONFIG_KEY_1": scope,
        "GIT_CONFIG_VALUE_1": _HELPER,
        "IMAGEBUILD_GIT_USER": unquote(parts.username),
        "IMAGEBUILD_GIT_PASSWORD": unquote(parts.password or ""),
    }
    return Remote(clean, clean, child)


def resolve_ref(repo: Remote, ref: str) -> str | None:
    """The commit that a ref of a remote repository is at; a full commit id stays as it is.

    `ref` is a branch, a tag, a full name (refs/...), or "" for the default branch. None
    for what may be an abbreviated commit id: that needs the repository (see `fetch`).
    Raises ConfigError naming the nearest refs when there is none, TemporaryError when the
    repository cannot be reached.
    """
    if _COMMIT.fullmatch(ref):
        return ref
    patterns = ["HEAD", "refs/heads/*", "refs/tags/*", *([ref] if "/" in ref else [])]
    out = _remote_git(repo, ["ls-remote", repo.url, *patterns])
    refs: dict[str, str] = {}
    for line in out.splitlines():
        commit, _, name = line.partition("\t")
        refs[name.removesuffix("^{}")] = commit  # the peeled line of a tag comes second
    if not ref:
        ref = "HEAD"
    found = {refs[name] for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}") if name in refs}
    if len(found) > 1:
        raise ConfigError(
            f"{ref} is both a branch and a tag",
            where=repo.shown,
            hint=f"say refs/heads/{ref} or refs/tags/{ref}",
        )
    if found:
        return found.pop()
    if re.fullmatch(r"[0-9a-f]{7,39}", ref):
        return None
    raise _no_such_ref(repo, ref, list(refs))


def _no_such_ref(repo: Remote, ref: str, names: list[str]) -> ConfigError:
    short = sorted(n.split("/", 2)[2] for n in names if n.count("/") >= 2)
    near = difflib.get_close_matches(ref, short, n=5, cutoff=0.4)
    return ConfigError(
        f"the repository has no branch, tag or commit {ref}",
        where=repo.shown,
        detail=f"nearest: {', '.join(near)}" if near else "",
        hint="name a branch, a tag or a full commit id after the @",
    )


def fetch(repo: Remote, ref: str, commit: str | None, cache: Path) -> tuple[Path, str]:
    """Bring a commit into the cache's copy of a repository.

    Returns the copy's git directory and the full commit id. `commit` is what
    `resolve_ref` said. Raises as `resolve_ref` does.
    """
    git_dir = cache / "git" / repo.key
    if not git_dir.is_dir():
        git_dir.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=git_dir.parent))
        run([need("git"), "init", "--quiet", "--bare", fresh])
        try:
            fresh.rename(git_dir)
        except OSError:  # another run was quicker
            shutil.rmtree(fresh)
    if commit and has_commit(git_dir, commit):
        return git_dir, commit
    specs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    if ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/")):
        specs.append(f"+{ref}:{ref}")
    argv = [f"--git-dir={git_dir}", "fetch", "--quiet", "--no-tags", "--prune", repo.url]
    _remote_git(repo, [*argv, *specs])
    if commit and not has_commit(git_dir, commit):
        # On no branch and no tag: some servers give it when asked by name.
        _remote_git(repo, [*argv, commit])
    full = _git(git_dir, ["rev-parse", "--verify", "--quiet", f"{commit or ref}^{{commit}}"])
    if not full:
        raise _no_such_ref(repo, ref, [])
    return git_dir, full


def cached(repo: Remote, cache: Path) -> Path | None:
    """The cache's copy of a repository, if there is one."""
    git_dir = cache / "git" / repo.key
    return git_dir if git_dir.is_dir() else None


def has_commit(git_dir: Path, commit: str) -> bool:
    """Whether a git directory has a commit."""
    return bool(_git(git_dir, ["rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]))


def export(git_dir: Path, commit: str, dest: Path) -> None:
    """Write the files of a commit to a directory that does not exist yet.

    No hook, filter or setting of the user's or the host's takes part.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest.parent) as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        env = _local_env() | {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        base: list[str | Path] = [need("git"), f"--git-dir={git_dir}", f"--work-tree={tree}"]
        run([*base, "read-tree", commit], env=env)
        run([*base, "checkout-index", "--all", "--force"], env=env, cwd=tree)
        try:
            tree.rename(dest)
        except OSError:
            if not dest.is_dir():  # else another run was quicker
                raise


def describe(directory: Path, commit: str = "HEAD") -> tuple[str, int] | None:
    """The nearest release tag before a commit and the number of commits since; None without.

    `directory` is a checkout or a bare repository.
    """
    out = _git(directory, ["describe", "--tags", "--long", "--match", "[0-9]*", commit])
    if not out:
        return None
    tag, commits, _ = out.rsplit("-", 2)
    return tag, int(commits)


def head(checkout: Path) -> str | None:
    """The commit that a checkout is at; None before its first one."""
    return _git(checkout, ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) or None


def commit_time(directory: Path, commit: str = "HEAD") -> int | None:
    """When a commit was made, in seconds since 1970; None when it is not there."""
    out = _git(directory, ["log", "-1", "--format=%ct", commit])
    return int(out) if out.isdecimal() else None


def is_dirty(checkout: Path) -> bool:
    """Whether a checkout differs from its commit: changed, deleted or untracked files."""
    return bool(_checked(checkout, ["status", "--porcelain", "--untracked-files=normal"]))


def work_files(checkout: Path) -> list[str]:
    """The tracked and the untracked but not ignored files that a checkout has now, sorted."""
    out = _checked(checkout, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    names = {name for name in out.split("\0") if name}
    # A deleted file is still listed as tracked; a submodule is listed as a directory.
    return sorted(n for n in names if (checkout / n).is_symlink() or (checkout / n).is_file())


def _local_env() -> dict[str, str]:
    return base_env(GIT_CONFIG_NOSYSTEM="1", GIT_OPTIONAL_LOCKS="0", GIT_ATTR_NOSYSTEM="1")


def _git(directory: Path, args: list[str]) -> str:
    """Output of a local git command, "" when it fails."""
    env = _local_env() | {"HOME": str(Path.home())}  # has safe.directory
    done = run([need("git"), "-C", directory, *args], env=env, check=False)
    return done.stdout.decode(errors="surrogateescape").strip() if not done.returncode else ""


def _checked(directory: Path, args: list[str]) -> str:
    # With the user's own settings: safe.directory, and what is ignored everywhere.
    env = base_env(HOME=str(Path.home()), GIT_OPTIONAL_LOCKS="0")
    done = run([need("git"), "-C", directory, *args], env=env, check=False)
    if done.returncode:
        raise ConfigError(
            "git cannot read the agent's source",
            where=str(directory),
            detail=done.stderr.decode(errors="replace").strip(),
        )
    return done.stdout.decode(errors="surrogateescape")


def _remote_git(repo: Remote, args: list[str]) -> str:
    done = run([need("git"), *args], env=repo.env, check=False)
    if not done.returncode:
        return done.stdout.decode(errors="replace")
    said = redact(done.stderr.decode(errors="replace").strip())
    if _ABSENT.search(said) and "Could not resolve host" not in said:
        raise ConfigError(
            "the agent's repository or commit is not there, or not for us",
            where=repo.shown,
            detail=said,
            hint="check the URL, the ref and the login",
        )
    raise TemporaryError(
        "the agent's repository cannot be reached",
        where=repo.shown,
        detail=said,
        hint="try again later; see the proxy variables and GIT_SSL_CAINFO",
    )
