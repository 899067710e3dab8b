"""Trove's directory `backup`, from a directory, a checkout and a repository."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from imagebuild.backupimage.context import get_context
from imagebuild.backupimage.datastores import get_datastore
from imagebuild.backupimage.dockerfile import read_dockerfile
from imagebuild.backupimage.job import Prepared, Request
from imagebuild.errors import ConfigError
from imagebuild.host.run import base_env, run
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.pull import Resolved
from imagebuild.registry.reference import Reference

TIME = 1_700_000_000
FILES = {
    "setup.cfg": "[metadata]\nname = trove\n",
    "backup/Dockerfile": "FROM base:1\nARG DATASTORE=a\nARG DATASTORE_VERSION=1\n",
    "backup/install.sh": "#!/bin/sh\n",
    "backup/main.py": "print()\n",
    "backup/requirements.txt": "oslo.log\n",
    "backup/drivers/postgres.py": "'pg_basebackup -U'\n",
    "backup/tests/test_x.py": "assert True\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "trove"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o700 if name.endswith(".sh") else 0o600)
        os.utime(path, (TIME, TIME))
    return root


def git(root: Path, *words: str) -> str:
    env = base_env(
        GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1",
        GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
        GIT_COMMITTER_EMAIL="a@b", GIT_COMMITTER_DATE=f"{TIME} +0000",
    )  # fmt: skip
    return run(["git", "-C", root, *words], env=env).stdout.decode().strip()


@pytest.fixture
def checkout(source: Path) -> Path:
    git(source, "init", "--quiet")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "--message", "x")
    git(source, "tag", "25.1.0")
    return source


def test_of_a_directory_the_files_that_count_are_copied(source: Path, tmp_path: Path) -> None:
    found = get_context(str(source), None, tmp_path / "out", cache=tmp_path / "c", env={})
    names = {str(p.relative_to(found.root)) for p in found.root.rglob("*") if p.is_file()}
    assert names == {"Dockerfile", "install.sh", "main.py", "requirements.txt",
                     "drivers/postgres.py"}  # fmt: skip
    # The image's users read them, whatever the checkout's umask was.
    assert (found.root / "main.py").stat().st_mode & 0o777 == 0o644
    assert (found.root / "install.sh").stat().st_mode & 0o777 == 0o755
    assert (found.date, found.commit, found.version, found.dirty) == (TIME, "", "", False)
    assert found.drivers() == {"postgres.py": "'pg_basebackup -U'\n"}


def test_of_an_unpacked_release_the_commit_is_known(source: Path, tmp_path: Path) -> None:
    note = source / "trove.egg-info/pbr.json"
    note.parent.mkdir()
    note.write_text('{"git_version": "435f705f", "is_release": true}')
    (source / "PKG-INFO").write_text("Name: trove\nVersion: 26.0.0\n")
    found = get_context(str(source), None, tmp_path / "out", cache=tmp_path / "c", env={})
    assert (found.commit, found.version, found.date) == ("435f705f", "26.0.0", TIME)
    note.write_text('{"git_version": "; rm"}')
    assert not get_context(str(source), None, tmp_path / "2", cache=tmp_path / "c", env={}).commit


def test_of_a_checkout_the_commit_is_known(checkout: Path, tmp_path: Path) -> None:
    found = get_context(str(checkout), None, tmp_path / "out", cache=tmp_path / "c", env={})
    head = git(checkout, "rev-parse", "HEAD")
    assert (found.commit, found.version, found.date) == (head, "25.1.0", TIME)
    assert not found.dirty
    (checkout / "backup/main.py").write_text("changed\n")
    changed = get_context(str(checkout), None, tmp_path / "two", cache=tmp_path / "c", env={})
    assert changed.dirty
    assert changed.text("main.py") == "changed\n"
    assert changed.date > TIME
    assert (checkout / "backup/install.sh").read_text() == FILES["backup/install.sh"]


def test_of_a_repository_the_ref_is_taken(checkout: Path, tmp_path: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "backup/main.py").write_text("later\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "later")
    url = f"git+file://{checkout}@25.1.0"
    found = get_context(url, None, tmp_path / "out", cache=tmp_path / "c", env={})
    assert (found.commit, found.version, found.url) == (head, "25.1.0", f"file://{checkout}")
    assert found.text("main.py") == "print()\n"


def test_a_source_without_it_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "backup/install.sh").unlink()
    with pytest.raises(ConfigError) as caught:
        get_context(str(source), None, tmp_path / "out", cache=tmp_path / "c", env={})
    assert caught.value.detail == "no backup/install.sh"


@pytest.mark.parametrize("text", ["pypi:nova", "pypi:trove==x=y", "git+ftp://h/x@y", "/absent"])
def test_what_is_no_source_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        get_context(text, None, tmp_path / "out", cache=tmp_path / "c", env={})


def test_a_series_is_for_releases(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this source is no release"):
        get_context(str(source), "2025.2", tmp_path / "out", cache=tmp_path / "c", env={})


def test_the_image_says_what_it_is(checkout: Path, tmp_path: Path) -> None:
    context = get_context(str(checkout), None, tmp_path / "out", cache=tmp_path / "c", env={})
    datastore, _ = get_datastore("postgres")
    one = Descriptor("x", f"sha256:{'1' * 64}", 1)
    base = Resolved(Reference.parse("r.example/ubuntu:24.04"), "amd64", one, one, one, ())
    prepared = Prepared(
        Request("postgres", "17"), datastore, context,
        read_dockerfile(context.text("Dockerfile"), ""), datastore.tools, base, "buildah", "amd64",
        "",
    )  # fmt: skip
    prefix = "org.opencontainers.image"
    labels = prepared.labels
    assert labels[f"{prefix}.created"] == "2023-11-14T22:13:20Z"
    assert labels[f"{prefix}.revision"] == labels["imagebuild.trove-commit"] == context.commit
    assert labels[f"{prefix}.version"] == labels["imagebuild.trove-version"] == "25.1.0"
    assert labels[f"{prefix}.base.name"] == "r.example/ubuntu:24.04"
    assert labels[f"{prefix}.base.digest"] == one.digest
    assert labels["imagebuild.datastore"] == "postgresql"
    assert labels["imagebuild.datastore-version"] == "17"
    assert str(tmp_path) not in str(labels), "paths of this host are nobody's business"
    later = dataclasses.replace(prepared, request=Request("postgres", "17", epoch=0))
    assert later.labels[f"{prefix}.created"] == "1970-01-01T00:00:00Z"
    dirty = dataclasses.replace(prepared, context=dataclasses.replace(context, dirty=True))
    assert dirty.labels[f"{prefix}.revision"] == f"{context.commit}-dirty"
