"""The line of a dev image in authorized_keys."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from imagebuild.authorizedkeys import install, merged
from imagebuild.config.profile import Controller
from imagebuild.errors import ConfigError, PreflightError
from imagebuild.inputs import DevKey
from imagebuild.stages.devmode import authorized_keys_line

OTHERS = "# mine\nssh-rsa AAAA me@host\nrestrict ssh-ed25519 AAAA other\n"
USER = pwd.getpwuid(os.geteuid()).pw_name


def line(build: str = "1a2b3c4d", os_name: str = "ubuntu-noble", key: str = "AAAAC3Nz") -> str:
    return authorized_keys_line(
        DevKey(private=b"", public=f"ssh-ed25519 {key}"), Controller(),
        f"trove-guest-{os_name}-amd64-dev-{build}",
    )  # fmt: skip


def test_a_line_is_added_once() -> None:
    once = merged(OTHERS, line())
    assert once == OTHERS + line()
    assert merged(once, line()) == once
    assert merged("", line()) == line()


def test_a_file_without_an_end_of_line_keeps_its_last_key() -> None:
    assert merged(OTHERS.rstrip("\n"), line()) == OTHERS + line()


def test_a_new_build_takes_the_place_of_an_earlier_one_of_the_same_image_only() -> None:
    content = OTHERS + line("00000000", key="OLD") + line("00000001", "ubuntu-jammy") + line()
    assert merged(content, line("22222222", key="NEW")) == (
        OTHERS + line("00000001", "ubuntu-jammy") + line("22222222", key="NEW")
    )


def test_it_is_written_for_the_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "home/.ssh"
    file = install(line(), USER, directory)
    assert file.read_text() == line()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    file.chmod(0o664)
    before = file.stat()
    assert install(line(), USER, directory) == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_ino == before.st_ino, "written although it was there"
    assert [p.name for p in directory.iterdir()] == ["authorized_keys"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_root_writes_as_the_user(tmp_path: Path) -> None:
    account = pwd.getpwnam("nobody")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, account.pw_uid, account.pw_gid)
    for parent in (home, *home.parents):
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    file = install(line(), "nobody", home / ".ssh")
    assert file.owner() == "nobody"
    assert file.parent.owner() == "nobody"
    # What the user may not write, a link of the user's to a file of root's say, root does not.
    secret = tmp_path / "roots"
    secret.write_text("")
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(PreflightError) as caught:
        install(line(), "nobody", home / ".ssh")
    assert secret.read_text() == ""
    assert caught.value.detail == line().rstrip("\n")


def test_a_user_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no user nobody-at-all"):
        install(line(), "nobody-at-all", tmp_path)
