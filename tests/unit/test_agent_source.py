"""Resolving the agent's source: releases, git repositories, directories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuild.agent import git
from imagebuild.agent.locks import agent_lock
from imagebuild.agent.series import get_series
from imagebuild.agent.source import AgentInput, SourceKind, resolve_agent, source_tree
from imagebuild.agent.tree import next_version, plain_files, tree_digest
from imagebuild.errors import BuildError, ConfigError, TemporaryError
from imagebuild.memory import Memory
from tests.unit.agent_index import make_sdist, make_wheel, serve

SETUP_CFG = "[metadata]\nname = trove\npython-requires = >=3.10\n"


def sh(cwd: Path, *argv: str) -> str:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    done = subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of a tiny Trove, tagged 25.0.0, and two commits later."""
    root = tmp_path / "trove-src"
    write(root, "setup.cfg", SETUP_CFG)
    write(root, "trove/__init__.py", "")
    write(root, ".gitignore", "*.log\n")
    sh(root, "git", "init", "-q", "-b", "master")
    sh(root, "git", "add", "-A")
    sh(root, "git", "commit", "-qm", "one")
    sh(root, "git", "tag", "-a", "-m", "release", "25.0.0")
    for text in ("two", "three"):
        write(root, "trove/__init__.py", f"# {text}\n")
        sh(root, "git", "commit", "-qam", text)
    return root


@pytest.fixture
def bare(checkout: Path, tmp_path: Path) -> str:
    """URL of a bare repository with a branch, a stable branch and a tag."""
    sh(checkout, "git", "branch", "stable/2025.2", "25.0.0")
    sh(tmp_path, "git", "clone", "-q", "--bare", str(checkout), "bare.git")
    return f"file://{tmp_path}/bare.git"


def resolve(
    source: str | Path | None,
    work: Path,
    *,
    python: str = "3.10",
    series: str | None = None,
    offline: bool = False,
    env: dict[str, str] | None = None,
) -> AgentInput:
    return resolve_agent(
        str(source) if source else None, series, python,
        workdir=work / "work", memory=Memory(work / "resolved", offline=offline), env=env or {},
        release="ubuntu jammy",
    )  # fmt: skip


def nowhere(tmp_path: Path) -> dict[str, str]:
    """An index that does not answer: what asks it fails."""
    return {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull,
            "HOME": str(tmp_path)}  # fmt: skip


# Releases


def test_default_is_what_the_lock_of_the_newest_fitting_series_pins(tmp_path: Path) -> None:
    agent = resolve(None, tmp_path, env=nowhere(tmp_path))
    lock = agent_lock(get_series("2026.1"), "3.10")
    assert (agent.kind, agent.series, agent.version) == (
        SourceKind.PYPI, "2026.1", lock.pin("trove").version,
    )  # fmt: skip
    assert agent.sha256 == lock.header["agent-wheel"]
    assert (agent.lock, agent.lock_sha256) == ("2026.1-py3.10.txt", lock.sha256)
    assert agent.build_lock == "build-py3.10.txt"
    assert agent.resolved
    assert resolve(None, tmp_path, offline=True) == agent


def test_the_locks_own_version_asks_nothing_and_selects_its_series(tmp_path: Path) -> None:
    version = agent_lock(get_series("2025.1"), "3.12").pin("trove").version
    agent = resolve(f"pypi:trove=={version}", tmp_path, python="3.12", env=nowhere(tmp_path))
    assert (agent.series, agent.lock) == ("2025.1", "2025.1-py3.12.txt")


def test_another_release_takes_its_hash_from_the_index(tmp_path: Path) -> None:
    with serve() as index:
        sha256 = index.add("trove", make_wheel("trove", "25.0.7"), ">=3.10")
        index.add("trove", make_sdist("trove", "25.0.7"), ">=3.10")
        agent = resolve("pypi:trove==25.0.7", tmp_path, env=index.env(tmp_path))
        index.tell_hashes = False
        untold = resolve("pypi:trove==25.0.7", tmp_path, env=index.env(tmp_path))
    assert (agent.version, agent.sha256, agent.series) == ("25.0.7", sha256, "2026.1")
    assert agent.requires_python == ">=3.10"
    assert untold == agent


def test_a_named_series_wins_over_the_releases_own(tmp_path: Path) -> None:
    with serve() as index:
        index.add("trove", make_wheel("trove", "25.0.7"), ">=3.10")
        agent = resolve("pypi:trove==25.0.7", tmp_path, series="2025.2", env=index.env(tmp_path))
    assert (agent.version, agent.series, agent.lock) == (
        "25.0.7", "2025.2", "2025.2-py3.10.txt",
    )  # fmt: skip


def test_offline_another_release_is_marked_unresolved(tmp_path: Path) -> None:
    agent = resolve("pypi:trove==25.0.7", tmp_path, offline=True)
    assert not agent.resolved
    assert (agent.version, agent.sha256) == ("25.0.7", None)


def test_a_release_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with serve() as index:
        for version in ("25.0.1", "25.0.2", "24.0.0"):
            index.add("trove", make_wheel("trove", version))
        with pytest.raises(ConfigError) as caught:
            resolve("pypi:trove==25.9.9", tmp_path, env=index.env(tmp_path))
    assert caught.value.detail == "nearest: 25.0.2, 25.0.1"


def test_a_release_that_the_python_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("pypi:trove==26.0.0", tmp_path, env=nowhere(tmp_path))
    assert "ubuntu jammy has 3.10 and takes 2026.1 at most" in caught.value.what
    with serve() as index:
        index.add("trove", make_wheel("trove", "25.0.9"), ">=3.12")
        with pytest.raises(ConfigError) as other:
            resolve("pypi:trove==25.0.9", tmp_path, env=index.env(tmp_path))
    assert "trove 25.0.9 needs Python 3.12" in other.value.what


def test_an_index_that_is_away_is_temporary_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagebuild.agent.index._ATTEMPTS", 1)
    env = nowhere(tmp_path) | {"PIP_INDEX_URL": "http://joe:hunter2@127.0.0.1:9/simple"}
    with pytest.raises(TemporaryError) as caught:
        resolve("pypi:trove==25.0.7", tmp_path, env=env)
    assert "127.0.0.1:9" in caught.value.where
    assert "hunter2" not in json.dumps(caught.value.to_json())


@pytest.mark.parametrize("source", ["pypi:nova==1", "pypi:trove==", "pypi:trove=25.0.0"])
def test_a_malformed_release_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        resolve(source, tmp_path)


# Directories


def test_a_checkout_has_version_commit_and_series(checkout: Path, tmp_path: Path) -> None:
    agent = resolve(checkout, tmp_path)
    assert agent.kind is SourceKind.PATH
    assert agent.version == "25.0.1.dev2"
    assert agent.commit == sh(checkout, "git", "rev-parse", "HEAD")
    assert (agent.series, agent.requires_python, agent.dirty) == ("2026.1", ">=3.10", False)
    assert AgentInput.from_json(json.loads(json.dumps(agent.to_json()))) == agent


def test_what_changes_the_digest_of_a_checkout(checkout: Path, tmp_path: Path) -> None:
    seen = [resolve(checkout, tmp_path)]

    def differs() -> bool:
        seen.append(resolve(checkout, tmp_path))
        return seen[-1].sha256 != seen[-2].sha256

    write(checkout, "trove/ignored.log", "x")
    write(checkout, ".git/description", "other")
    assert not differs()
    assert not seen[-1].dirty
    write(checkout, "trove/new.py", "untracked")
    assert differs()
    assert seen[-1].dirty
    write(checkout, "trove/new.py", "Untracked")
    assert differs()
    (checkout / "trove/new.py").chmod(0o755)
    assert differs()
    (checkout / "trove/new.py").chmod(0o775)
    assert not differs()
    (checkout / "trove/__init__.py").unlink()
    assert differs()
    (checkout / "link").symlink_to("trove")
    assert differs()
    (checkout / "link").unlink()
    (checkout / "link").symlink_to("setup.cfg")
    assert differs()


def test_a_plain_directory_counts_all_but_leftovers(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    write(root, "setup.cfg", SETUP_CFG)
    write(root, "PKG-INFO", "Metadata-Version: 2.1\nName: trove\nVersion: 24.0.3\n")
    before = resolve(root, tmp_path)
    assert (before.version, before.series, before.commit) == ("24.0.3", "2025.2", None)
    for name in ("build/x", ".tox/x", "a/__pycache__/x.pyc", "trove.egg-info/SOURCES.txt"):
        write(root, name, "x")
    assert resolve(root, tmp_path).sha256 == before.sha256
    write(root, "a/b.py", "")
    assert resolve(root, tmp_path).sha256 != before.sha256
    assert plain_files(root) == ["PKG-INFO", "a/b.py", "setup.cfg"]


def test_without_tag_and_pkg_info_the_series_gives_the_version(tmp_path: Path) -> None:
    write(tmp_path / "plain", "pyproject.toml", '[project]\nname = "trove"\n')
    assert resolve(tmp_path / "plain", tmp_path).version == "25.0.0.dev0"
    other = resolve(tmp_path / "plain", tmp_path, series="2025.1")
    assert (other.version, other.lock) == ("23.0.0.dev0", "2025.1-py3.10.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("setup.cfg", "[metadata]\nname = trove\npython-requires = >=3.11\n"),
        ("setup.cfg", "[metadata]\nname = trove\n[options]\npython_requires = >=3.11\n"),
        ("pyproject.toml", '[project]\nname = "trove"\nrequires-python = ">=3.11"\n'),
        ("PKG-INFO", "Name: trove\nVersion: 25.0.0\nRequires-Python: >=3.11\n"),
    ],
)
def test_a_source_that_the_python_cannot_run_is_refused(
    name: str, text: str, tmp_path: Path
) -> None:
    write(tmp_path / "plain", name, text)
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path / "plain", tmp_path)
    assert "needs Python 3.11; ubuntu jammy has 3.10" in caught.value.what
    assert "2026.1" in caught.value.detail
    assert resolve(tmp_path / "plain", tmp_path, python="3.11").requires_python == ">=3.11"


def test_a_requirement_that_the_lock_does_not_have_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "plain", "setup.cfg", SETUP_CFG)
    write(
        tmp_path / "plain",
        "requirements.txt",
        "# comment\npbr>=2.0 # Apache\nno-such-thing>=1\npbr>999\nwin-only;os_name=='nt'\n",
    )
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path / "plain", tmp_path)
    assert [line.split()[0] for line in caught.value.detail.splitlines()] == [
        "no-such-thing>=1", "pbr>999",
    ]  # fmt: skip


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        resolve(tmp_path / "missing", tmp_path)
    write(tmp_path / "nova", "setup.cfg", "[metadata]\nname = nova\n")
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path / "nova", tmp_path)
    assert "nova" in caught.value.detail


def test_a_source_that_changes_after_it_was_resolved_is_refused(
    checkout: Path, tmp_path: Path
) -> None:
    agent = resolve(checkout, tmp_path)
    root, files = source_tree(agent, tmp_path / "work")
    assert tree_digest(root, files) == agent.sha256
    write(checkout, "trove/__init__.py", "# later\n")
    with pytest.raises(BuildError, match="not the one"):
        source_tree(agent, tmp_path / "work")


# git


def test_branch_tag_and_commit_resolve(checkout: Path, bare: str, tmp_path: Path) -> None:
    tagged = sh(checkout, "git", "rev-parse", "25.0.0^{commit}")
    tip = sh(checkout, "git", "rev-parse", "master")
    expected = {
        "@master": (tip, "25.0.1.dev2"),
        "": (tip, "25.0.1.dev2"),
        "@25.0.0": (tagged, "25.0.0"),
        "@refs/tags/25.0.0": (tagged, "25.0.0"),
        f"@{tip}": (tip, "25.0.1.dev2"),
        f"@{tagged[:9]}": (tagged, "25.0.0"),
    }
    for ref, (commit, version) in expected.items():
        agent = resolve(f"git+{bare}{ref}", tmp_path)
        assert (agent.commit, agent.version) == (commit, version), ref
        assert (agent.kind, agent.url, agent.path) == (SourceKind.GIT, bare, None)
    assert resolve(f"git+{bare}@master", tmp_path).sha256 == resolve(checkout, tmp_path).sha256


def test_a_moved_branch_is_seen(checkout: Path, bare: str, tmp_path: Path) -> None:
    before = resolve(f"git+{bare}@master", tmp_path)
    write(checkout, "trove/__init__.py", "# four\n")
    sh(checkout, "git", "commit", "-qam", "four")
    sh(checkout, "git", "push", "-q", bare, "master")
    after = resolve(f"git+{bare}@master", tmp_path)
    assert after.version == "25.0.1.dev3"
    assert after.sha256 != before.sha256


def test_series_by_version_by_branch_and_by_choice(bare: str, tmp_path: Path) -> None:
    # The commit's own version (25) counts before the branch's name.
    assert resolve(f"git+{bare}@stable/2025.2", tmp_path).series == "2026.1"
    assert resolve(f"git+{bare}@stable/2025.2", tmp_path, series="2025.1").series == "2025.1"
    sh(Path(bare.removeprefix("file://")), "git", "tag", "-d", "25.0.0")
    untagged = resolve(f"git+{bare}@stable/2025.2", tmp_path / "other")
    assert (untagged.series, untagged.version) == ("2025.2", "24.0.0.dev0")


def test_a_ref_that_is_not_there_names_the_nearest(bare: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(f"git+{bare}@stable/2025.3", tmp_path)
    assert "stable/2025.2" in caught.value.detail
    for ref in ("abcdef012", "f" * 40):
        with pytest.raises(ConfigError):
            resolve(f"git+{bare}@{ref}", tmp_path)


def test_a_name_that_is_branch_and_tag_is_refused(bare: str, tmp_path: Path) -> None:
    sh(Path(bare.removeprefix("file://")), "git", "branch", "25.0.0", "master")
    with pytest.raises(ConfigError) as caught:
        resolve(f"git+{bare}@25.0.0", tmp_path)
    assert "refs/tags/25.0.0" in caught.value.hint
    assert resolve(f"git+{bare}@refs/tags/25.0.0", tmp_path).version == "25.0.0"


def test_a_missing_repository_is_wrong_and_an_unreachable_one_temporary(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError):
        resolve(f"git+file://{tmp_path}/none.git@master", tmp_path)
    with pytest.raises(TemporaryError) as caught:
        resolve("git+http://joe:hunter2@127.0.0.1:9/trove@master", tmp_path)
    assert caught.value.where == "http://127.0.0.1:9/trove"
    assert "hunter2" not in json.dumps(caught.value.to_json())


def test_offline_uses_only_commits_at_hand(checkout: Path, bare: str, tmp_path: Path) -> None:
    tip = sh(checkout, "git", "rev-parse", "master")
    unknown = resolve(f"git+{bare}@{tip}", tmp_path, offline=True)
    assert (unknown.resolved, unknown.sha256, unknown.commit) == (False, None, tip)
    online = resolve(f"git+{bare}@{tip}", tmp_path)
    assert resolve(f"git+{bare}@{tip}", tmp_path, offline=True) == online
    branch = resolve(f"git+{bare}@stable/2025.2", tmp_path, offline=True)
    assert (branch.resolved, branch.series, branch.commit) == (False, "2025.2", None)


def test_offline_a_branch_is_where_it_was_seen_last(
    checkout: Path, bare: str, tmp_path: Path
) -> None:
    source = f"git+{bare}@master"
    seen = resolve(source, tmp_path)
    write(checkout, "trove/__init__.py", "# four\n")
    sh(checkout, "git", "commit", "-qam", "four")
    sh(checkout, "git", "push", "-q", bare, "master")
    assert resolve(source, tmp_path, offline=True) == seen
    assert resolve(source, tmp_path, offline=True, series="2025.1").series == "2025.1"
    assert not resolve(f"git+{bare}@25.0.0", tmp_path, offline=True).resolved, "never asked"
    assert resolve(source, tmp_path).commit != seen.commit
    shutil.rmtree(tmp_path / "work/git")
    lost = resolve(source, tmp_path, offline=True)
    assert (lost.resolved, lost.commit) == (False, sh(checkout, "git", "rev-parse", "master"))


def test_offline_a_release_is_what_its_index_said(tmp_path: Path) -> None:
    with serve() as index, serve() as another:
        index.add("trove", make_wheel("trove", "25.0.7"), requires_python=">=3.9")
        env = index.env(tmp_path)
        online = resolve("pypi:trove==25.0.7", tmp_path, env=env)
        asked = len(index.asked)
        assert resolve("pypi:trove==25.0.7", tmp_path, env=env, offline=True) == online
        # Another index may have another file; another release was never asked about.
        for source, place in (("25.0.7", another.env(tmp_path)), ("25.0.8", env)):
            agent = resolve(f"pypi:trove=={source}", tmp_path, env=place, offline=True)
            assert not agent.resolved
        assert (len(index.asked), another.asked) == (asked, [])


def test_a_password_is_in_no_argv_no_url_and_no_result(tmp_path: Path) -> None:
    url = "https://joe:hun%40ter2@example.org/trove"
    repo = git.remote(url, {})
    assert repo.url == repo.shown == "https://example.org/trove"
    # git itself hands the login over when a server asks for it.
    filled = subprocess.run(
        ["git", "credential", "fill"],
        input=b"protocol=https\nhost=example.org\n\n", env=dict(repo.env),
        capture_output=True, check=True,
    )  # fmt: skip
    assert b"username=joe\npassword=hun@ter2" in filled.stdout
    agent = resolve(f"git+{url}@{'a' * 40}", tmp_path, offline=True)
    assert "ter2" not in json.dumps(agent.to_json())
    assert agent.requested == f"git+https://example.org/trove@{'a' * 40}"


@pytest.mark.parametrize(
    "source", ["git+--upload-pack=x", "git+ext::sh", "git+https://example.org/x@-f", "git+x"]
)
def test_a_malformed_git_source_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a git URL"):
        resolve(source, tmp_path)


@pytest.mark.parametrize(
    ("tag", "commits", "version"),
    [
        ("25.0.0", 0, "25.0.0"),
        ("25.0.0", 3, "25.0.1.dev3"),
        ("25.1.9", 1, "25.1.10.dev1"),
        ("25.0.0.0rc1", 0, "25.0.0.0rc1"),
        ("25.0.0.0rc1", 4, "25.0.0.0rc2.dev4"),
    ],
)
def test_versions_are_numbered_as_pbr_does(tag: str, commits: int, version: str) -> None:
    assert next_version(tag, commits) == version


def test_index_answers_are_asked_with_the_login(tmp_path: Path) -> None:
    with serve() as index:
        index.login = "joe:hunter2"
        index.add("trove", make_wheel("trove", "25.0.7"))
        agent = resolve("pypi:trove==25.0.7", tmp_path, env=index.env(tmp_path))
        assert agent.resolved
        bad = index.env(tmp_path) | {"PIP_INDEX_URL": index.url.replace("hunter2", "wrong5")}
        with pytest.raises(ConfigError, match="wants a login") as caught:
            resolve("pypi:trove==25.0.7", tmp_path, env=bad)
    assert "wrong5" not in json.dumps(caught.value.to_json())


def test_a_failing_index_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuild.agent.index.time.sleep", lambda _seconds: None)
    with serve() as index:
        index.add("trove", make_wheel("trove", "25.0.7"))
        index.failures = 2
        assert resolve("pypi:trove==25.0.7", tmp_path, env=index.env(tmp_path)).resolved
        index.failures = 99
        with pytest.raises(TemporaryError) as caught:
            resolve("pypi:trove==25.0.7", tmp_path, env=index.env(tmp_path))
    assert "503" in caught.value.detail
