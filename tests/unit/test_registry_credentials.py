"""Logins of registries: files of docker and podman, and credential helpers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError
from imagebuild.registry.credentials import Answers, credential_files, find_login

SECRET = "hunter2"  # noqa: S105


def auth(username: str = "me", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and a directory of helpers."""
    (tmp_path / "bin").mkdir()
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


@pytest.fixture
def docker(environ: dict[str, str]) -> Callable[..., Path]:
    """Writes docker's file."""

    def write(**document: object) -> Path:
        path = Path(environ["HOME"], ".docker/config.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    return write


def helper(environ: dict[str, str], name: str, script: str) -> None:
    path = Path(environ["HOME"], f"bin/docker-credential-{name}")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_where_logins_are_kept() -> None:
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1", "REGISTRY_AUTH_FILE": "/a.json"}
    assert [str(p) for p in credential_files(environ)] == [
        "/a.json",
        "/run/user/1/containers/auth.json",
        "/h/.config/containers/auth.json",
        "/h/.docker/config.json",
    ]
    assert credential_files({"HOME": "/h", "DOCKER_CONFIG": "/d"})[-1] == Path("/d/config.json")


def test_no_login_is_none(environ: dict[str, str], docker: Callable[..., Path]) -> None:
    assert find_login("quay.io", "a/b", environ) is None
    docker(auths={"quay.io": {}, "other.org": auth()}, currentContext="x")
    assert find_login("quay.io", "a/b", environ) is None


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("quay.io", "quay.io"),
        ("https://quay.io", "quay.io"),
        ("https://quay.io/v1/", "quay.io"),
        ("host:5000", "host:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_names_of_a_registry(
    environ: dict[str, str], docker: Callable[..., Path], key: str, registry: str
) -> None:
    path = docker(auths={key: auth()})
    login = find_login(registry, "a/b", environ)
    assert login is not None
    assert (login.username, login.password) == ("me", SECRET)
    assert str(path) in login.source
    assert SECRET not in repr(login)
    assert find_login("other.org", "a/b", environ) is None


def test_login_of_the_closest_name(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(
        json.dumps({"auths": {"quay.io": auth("all"), "quay.io/a": auth("a"),
                              "quay.io/a/b": auth("ab")}})
    )  # fmt: skip
    environ["REGISTRY_AUTH_FILE"] = str(path)
    for repository, username in (("a/b", "ab"), ("a/c", "a"), ("b", "all"), ("ab", "all")):
        login = find_login("quay.io", repository, environ)
        assert login is not None
        assert login.username == username


def test_first_file_with_a_login_wins(
    environ: dict[str, str], docker: Callable[..., Path], tmp_path: Path
) -> None:
    docker(auths={"quay.io": auth("docker"), "other.org": auth("docker")})
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"quay.io": auth("podman")}}))
    for registry, username in (("quay.io", "podman"), ("other.org", "docker")):
        login = find_login(registry, "a", environ)
        assert login is not None
        assert login.username == username


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_helper_gets_the_server_on_stdin(
    environ: dict[str, str], docker: Callable[..., Path], key: str
) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": "me", "Secret": SECRET})
    helper(environ, "vault", f'echo "$1 $(cat) $HOME" > "$HOME/asked"; echo \'{answer}\'')
    names = "vault" if key == "credsStore" else {"quay.io": "vault"}
    docker(**{key: names}, auths={"quay.io": {}})
    login = find_login("quay.io", "a", environ)
    assert login is not None
    assert (login.username, login.password) == ("me", SECRET)
    home = environ["HOME"]
    assert Path(home, "asked").read_text() == f"get quay.io {home}\n"


def test_helper_is_asked_once_for_a_registry(
    environ: dict[str, str], docker: Callable[..., Path]
) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": "me", "Secret": SECRET})
    helper(environ, "vault", f'cat >> "$HOME/asked"; echo >> "$HOME/asked"; echo \'{answer}\'')
    docker(credsStore="vault")
    answers: Answers = {}
    for registry, repository in (("quay.io", "a"), ("quay.io", "b"), ("other.org", "a")):
        login = find_login(registry, repository, environ, answers)
        assert login is not None
        assert login.username == "me"
    assert Path(environ["HOME"], "asked").read_text() == "quay.io\nother.org\n"


def test_store_knows_docker_hub_by_its_old_name(
    environ: dict[str, str], docker: Callable[..., Path]
) -> None:
    helper(
        environ,
        "vault",
        'cat > "$HOME/asked"; echo "credentials not found in native keychain"; exit 1',
    )
    docker(credsStore="vault")
    assert find_login("docker.io", "library/mysql", environ) is None
    assert Path(environ["HOME"], "asked").read_text() == "https://index.docker.io/v1/"


def test_helper_with_a_token(environ: dict[str, str], docker: Callable[..., Path]) -> None:
    helper(environ, "vault", 'echo \'{"Username": "<token>", "Secret": "r3fresh"}\'')
    docker(credsStore="vault")
    login = find_login("quay.io", "a", environ)
    assert login is not None
    assert (login.username, login.password, login.token) == ("", "", "r3fresh")


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (None, "No such file"),
        ("echo locked; exit 2", "locked"),
        (f"echo {SECRET}", "JSONDecodeError"),
        ('echo \'{"Username": "x"}\'', "KeyError"),
    ],
)
def test_helper_that_does_not_help(
    environ: dict[str, str], docker: Callable[..., Path], script: str | None, detail: str
) -> None:
    if script:
        helper(environ, "vault", script)
    docker(credHelpers={"quay.io": "vault"})
    with pytest.raises(PreflightError) as caught:
        find_login("quay.io", "a", environ)
    assert "docker-credential-vault" in caught.value.where
    assert detail in caught.value.detail
    assert SECRET not in str(caught.value)
    # Of the others it is not asked.
    assert find_login("other.org", "a", environ) is None


@pytest.mark.parametrize("text", ["", "[]", '{"auths": 3}', '{"credHelpers": []}', "\xff"])
def test_file_of_another_form(
    environ: dict[str, str], docker: Callable[..., Path], text: str
) -> None:
    path = docker()
    path.write_bytes(text.encode("latin-1"))
    if text == '{"credHelpers": []}':
        assert find_login("quay.io", "a", environ) is None  # an empty value is none
        return
    with pytest.raises(PreflightError) as caught:
        find_login("quay.io", "a", environ)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("token", ["!", base64.b64encode(b"without-colon").decode()])
def test_malformed_login(environ: dict[str, str], docker: Callable[..., Path], token: str) -> None:
    docker(auths={"quay.io": {"auth": token}})
    with pytest.raises(PreflightError, match="malformed") as caught:
        find_login("quay.io", "a", environ)
    assert token not in str(caught.value)
