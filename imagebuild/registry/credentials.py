"""Logins of registries, where docker and podman keep them.

Files: docker's config.json (docs.docker.com/reference/cli/docker/login) and podman's auth.json
(containers-auth.json(5)). Helpers: docker-credential-NAME (github.com/docker/
docker-credential-helpers), which get the server's name on stdin.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError, PreflightError
from imagebuild.files import MIB, read_limited
from imagebuild.host.run import run
from imagebuild.registry.reference import DOCKER_IO

#: What `docker login` without a server writes.
_DOCKER_IO_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
#: The name of a user who has no password but a token (docker-credential-helpers).
_TOKEN_USER = "<token>"  # noqa: S105
#: Where the login is from that a profile or a mirror list has.
GIVEN = "said for this registry"
#: Helpers may ask a cloud, or a person.
_HELPER_SECONDS = 60


class NoLoginError(PreflightError):
    """A registry does not give this to somebody without a login; other repositories it may."""


@dataclass(frozen=True)
class Login:
    """User and password, or a refresh token (OAuth 2). `source` is the place, to be shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    source: str = ""

    def __str__(self) -> str:
        """Whose it is and where it is from; nothing secret."""
        return f"logged in as {self.username or 'the owner of a token'} ({self.source})"

    @property
    def advice(self) -> str:
        """What to do when it is refused."""
        if self.source == GIVEN:
            return "check the user and the password that are said for this registry"
        return "log in again: docker login"


def credential_files(environ: Mapping[str, str]) -> list[Path]:
    """Where docker and podman keep logins (docker login, containers-auth.json(5))."""
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [config / "containers/auth.json"]
    if environ.get("XDG_RUNTIME_DIR"):
        files.insert(0, Path(environ["XDG_RUNTIME_DIR"], "containers/auth.json"))
    if environ.get("REGISTRY_AUTH_FILE"):
        files.insert(0, Path(environ["REGISTRY_AUTH_FILE"]))
    return [*files, Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"]


#: What helpers have said: by program, and server.
Answers = dict[tuple[str, str], Login | None]


def find_login(
    registry: str, repository: str, environ: Mapping[str, str], answers: Answers | None = None
) -> Login | None:
    """The login of the first file that has one; None: anonymous.

    A helper is asked only for what `answers` does not have: it may take seconds.
    Raises PreflightError for a file or helper that cannot be used: an anonymous pull in its
    place would end in an error about something else.
    """
    for path in credential_files(environ):
        document = _read(path)
        if document is None:
            continue
        ask = functools.partial(_ask_helper, path=path, environ=environ, answers=answers)
        if login := _of_file(path, document, registry, repository, ask):
            return login
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(read_limited(path, MIB))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        raise _unusable(path, getattr(exc, "strerror", None) or "it is not JSON") from exc
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key) or {}, dict) for key in ("auths", "credHelpers")
    ):
        raise _unusable(path, "it does not have the form of such a file")
    return document


def _unusable(path: Path, detail: str) -> PreflightError:
    return PreflightError(
        "a file of registry logins cannot be used",
        where=str(path),
        detail=detail,
        hint="log in again: docker login or podman login; or remove the file",
    )


def _of_file(
    path: Path,
    document: dict[str, Any],
    registry: str,
    repository: str,
    ask: Callable[[str, str], Login | None],
) -> Login | None:
    helpers = document.get("credHelpers") or {}
    for server in _servers(registry):
        if helper := helpers.get(server):
            return ask(str(helper), server)
    if store := document.get("credsStore"):
        # docker keeps Docker Hub's login under the first of its names.
        server = _servers(registry)[0]
        if login := ask(str(store), server):
            return login
    by_name = {_plain(str(k)): v for k, v in (document.get("auths") or {}).items()}
    for name in _names(registry, repository):
        entry = by_name.get(name)
        if isinstance(entry, dict) and (login := _of_entry(entry, f"{path} ({name})")):
            return login
    return None


def _servers(registry: str) -> tuple[str, ...]:
    return (*_DOCKER_IO_KEYS[:1], DOCKER_IO) if registry == DOCKER_IO else (registry,)


def _names(registry: str, repository: str) -> Iterator[str]:
    """The keys that may hold a login, podman's closest first: host/a/b, host/a, host."""
    parts = repository.split("/")
    for length in range(len(parts), -1, -1):
        yield "/".join([registry, *parts[:length]])
    if registry == DOCKER_IO:
        yield from (_plain(key) for key in _DOCKER_IO_KEYS)


def _plain(key: str) -> str:
    """A key without its scheme, and without the path that old dockers wrote."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2") if bare != key else key


def _of_entry(entry: dict[str, Any], source: str) -> Login | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        try:
            words = base64.b64decode(str(auth), validate=True).decode()
        except ValueError:
            words = ""
        username, colon, password = words.partition(":")
        if not colon:
            raise PreflightError(
                "a registry login is malformed", where=source, hint="log in again: docker login"
            )
        password = password.rstrip("\0")  # some old dockers padded it
    if token := entry.get("identitytoken"):
        return Login(username, token=str(token), source=source)
    return Login(username, password, source=source) if username else None


def _ask_helper(
    helper: str, server: str, path: Path, environ: Mapping[str, str], answers: Answers | None
) -> Login | None:
    program = f"docker-credential-{helper}"
    known = {} if answers is None else answers
    if (program, server) not in known:
        known[program, server] = _run_helper(program, server, path, environ)
    return known[program, server]


def _run_helper(program: str, server: str, path: Path, environ: Mapping[str, str]) -> Login | None:
    where = f"{program} (named in {path})"
    try:
        # The helper is the user's own program: it finds its store through the environment.
        done = run([program, "get"], env=environ, input=server.encode(), check=False,
                   timeout=_HELPER_SECONDS)  # fmt: skip
    except (BuildError, PreflightError) as exc:
        raise PreflightError(
            "a credential helper cannot be used",
            where=where,
            detail=exc.detail or exc.what,
            hint="install it, or remove credsStore and credHelpers and log in again",
        ) from exc
    text = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        # The only word for "nothing" that helpers have; they say it on stdout.
        if "credentials not found" in text.lower():
            return None
        said = text or done.stderr.decode(errors="replace").strip()
        raise PreflightError("a credential helper failed", where=where, detail=said[-500:])
    try:
        answer = json.loads(text)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as exc:
        # What it said may hold the secret.
        raise PreflightError(
            "a credential helper gave no login", where=where, detail=type(exc).__name__
        ) from None
    if username == _TOKEN_USER:
        return Login(token=secret, source=where)
    return Login(username, secret, source=where) if username else None
