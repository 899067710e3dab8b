"""What the guest trusts and is trusted with, read from the files that the profile names."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.config.load import load_profile
from imagebuild.config.merge import Override
from imagebuild.config.profile import Profile
from imagebuild.errors import ConfigError
from imagebuild.inputs import Registry
from imagebuild.trust import make_key, resolve_dev, resolve_registries

PASSWORD = "pass word:$1"  # noqa: S105 - of nobody


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def profile_with(key: str, value: object) -> Profile:
    return load_profile("debian-bookworm", [Override(key, value, "test")]).profile


def registry(**entry: object) -> Registry:
    profile = profile_with("docker.registries", [{"host": "r.example:5000", **entry}])
    (found,) = resolve_registries(profile)
    return found


def test_registry_with_a_login(password: Path) -> None:
    found = registry(username="robot$guest", password_file=str(password))
    assert (found.host, found.username, found.password) == (
        "r.example:5000",
        "robot$guest",
        PASSWORD,
    )
    assert PASSWORD not in repr(found)
    assert PASSWORD not in str(found.to_json())
    assert len(found.secret) == 32
    # Another user with the same password is no hint that it is the same.
    other = registry(username="other", password_file=str(password))
    assert other.secret != found.secret
    assert registry(username="robot$guest", password_file=str(password)) == found


def test_registry_without_a_login() -> None:
    assert registry() == Registry("r.example:5000", b"", "", "", "", "")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfe", b"tab\there\n", b"x" * 5000]
)
def test_password_file_that_is_none(password: Path, content: bytes) -> None:
    password.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        registry(username="guest", password_file=str(password))
    assert caught.value.where == str(password)
    assert "xxx" not in str(caught.value)


def test_password_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="password file") as caught:
        registry(username="guest", password_file=str(tmp_path / "none"))
    assert "docker.registries[0].password_file" in caught.value.hint


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"username": "guest"}, "belong together"),
        ({"password_file": "/p"}, "belong together"),
        ({"host": "https://r.example"}, "without a scheme"),
        ({"host": "r.example/path"}, "without a scheme"),
        ({"username": "a:b", "password_file": "/p"}, "no blanks, quotes or colons"),
    ],
)
def test_registry_that_makes_no_sense(entry: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile_with("docker.registries", [{"host": "r.example", **entry}])
    assert reason in str(caught.value)


def test_registry_named_twice() -> None:
    with pytest.raises(ConfigError, match="listed twice"):
        profile_with("docker.registries", [{"host": "r.example"}, {"host": "r.example"}])


def test_relative_files_start_at_the_profile(tmp_path: Path, password: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text(
        "extends: debian-bookworm\ndocker:\n  registries:\n"
        f"    - {{host: r.example, username: u, password_file: {password.name}}}\n"
    )
    (found,) = resolve_registries(load_profile(str(profile)).profile)
    assert found.password == PASSWORD


def test_dev_image_has_a_key_of_its_own(password: Path) -> None:
    profile = profile_with("agent.mode", "dev")
    one, other = (resolve_dev(profile, for_run=True) for _ in range(2))
    assert one and other and one.key and other.key  # noqa: PT018
    assert one.mark != other.mark
    assert one.key.private != other.key.private
    assert one.key.private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert "PRIVATE" not in repr(one)
    shown = resolve_dev(profile, for_run=False)
    assert shown
    assert (shown.mark, shown.key) == (None, None)
    with_password = profile_with("guest.root_password_file", str(password))
    found = resolve_dev(with_password, for_run=True)
    assert found
    assert (found.key, found.root_password) == (None, PASSWORD)
    assert PASSWORD not in repr(found)
    assert resolve_dev(profile_with("name", "x"), for_run=True) is None


def test_public_half_is_one_line() -> None:
    key = make_key("a comment")
    assert key.public.startswith("ssh-ed25519 AAAA")
    assert key.public.endswith(" a comment")
    assert "\n" not in key.public
