"""MIRROR.yaml → MirrorList: files, names of shipped lists, mistakes with their line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from imagebuild import passwords
from imagebuild.config import problems
from imagebuild.config.chain import locate, read_chain
from imagebuild.config.finding import mirror_lists_path, named_profiles
from imagebuild.config.mirrorlist import MIRROR_LIST, ListedRegistry, MirrorList, Tls
from imagebuild.config.problems import Problem
from imagebuild.config.yamlmarks import Document
from imagebuild.data import profiles_dir
from imagebuild.errors import ConfigError
from imagebuild.files import is_descriptor
from imagebuild.mirror.lockfile import lock_path
from imagebuild.registry.settings import RegistrySettings

_TARGET_HINT = (
    "say where copies go: --target REGISTRY[/PREFIX], or IMAGEBUILD_MIRROR_TARGET, or a file of "
    "your own with 'extends: {name}' and the key target"
)


@dataclass(frozen=True)
class LoadedList:
    """A valid list, and the file that it came from.

    `places` has `file:line` of each image. `lock` is where its lock file belongs: beside the
    file, and for a shipped list among the user's state; None: it came through a pipe.
    """

    value: MirrorList
    path: Path
    places: tuple[str, ...] = ()
    lock: Path | None = None


@dataclass(frozen=True)
class NamedList:
    """A list that can be named; `error` says why it is not valid."""

    name: str
    path: Path
    images: int = 0
    error: str = ""


def load_list(
    name_or_path: str,
    *,
    target: str | None = None,
    prefix: str | None = None,
    nowhere: str | None = None,
) -> LoadedList:
    """Read a list by its file (`-` is stdin), or by its name (profiles/mirror).

    `target` is REGISTRY[/PREFIX], with http:// before it where the registry speaks no TLS; it
    and `prefix` stand in for those of the file. Without a prefix the file's stays; an empty
    one, `REGISTRY/`, is none. `nowhere` is the registry of a list for which nobody says one.
    Raises ConfigError with every mistake.
    """
    path = locate(
        MIRROR_LIST, "/dev/stdin" if name_or_path == "-" else name_or_path, mirror_lists_path()
    )
    document = read_chain(MIRROR_LIST, path, mirror_lists_path())
    if target is not None:
        _set_target(document, target)
    if prefix is not None:
        _set(document, ("target", "prefix"), prefix, "--target")
    if nowhere is not None and not _says_target(document):
        _set(document, ("target", "registry"), nowhere, str(path))
    value: MirrorList | None = None
    found: list[Problem] = []
    try:
        value = MirrorList.model_validate(document.tree)
    except ValidationError as exc:
        found = problems.translate(MIRROR_LIST, exc, document.marks, str(path))
    if found or value is None:
        raise _to_error(found, path)
    places = tuple(document.marks.get(("images", n), str(path)) for n in range(len(value.images)))
    return LoadedList(value, path, places, _lock(path))


def list_lists() -> list[NamedList]:
    """The lists that can be named, sorted by name."""
    named = []
    for name, path in sorted(named_profiles(mirror_lists_path()).items()):
        try:
            # A shipped list has no target: that is for whoever uses it to say.
            loaded = load_list(str(path), target="registry.invalid")
        except ConfigError as exc:
            named.append(NamedList(name, path, error=f"{exc.where}: {exc.what}"))
        else:
            named.append(NamedList(name, path, len(loaded.value.images)))
    return named


def registry_settings(
    value: MirrorList, environ: Mapping[str, str]
) -> tuple[RegistrySettings, ...]:
    """How the registry client is to speak to the registries: passwords read from their places."""
    return tuple(
        _settings(entry, f"registries[{number}]", environ)
        for number, entry in enumerate(value.registries)
    )


def _settings(entry: ListedRegistry, key: str, environ: Mapping[str, str]) -> RegistrySettings:
    password = ""
    if entry.password_file:
        password = passwords.read_file(entry.password_file, f"{key}.password_file")
    elif entry.password_env:
        password = passwords.read_environment(entry.password_env, environ, f"{key}.password_env")
    return RegistrySettings(
        host=entry.host,
        ca=entry.ca,
        plain_http=entry.tls is Tls.PLAIN_HTTP,
        username=entry.username or "",
        password=password,
        insecure=entry.tls is Tls.INSECURE,
        client_certificate=entry.client_certificate,
        client_key=entry.client_key,
        concurrency=entry.concurrency,
        requests_per_second=entry.requests_per_second,
    )


def _lock(path: Path) -> Path | None:
    if is_descriptor(path):
        return None
    if path.parent.resolve() == (profiles_dir() / "mirror").resolve():
        # What comes with the tool is not ours to write beside.
        return lock_path(platformdirs.user_state_path("imagebuild") / "mirror" / path.name)
    return lock_path(path)


def _set_target(document: Document, text: str) -> None:
    """What --target says, in the place of what the file says."""
    origin = "--target"
    scheme, _, rest = text.rpartition("://")
    if scheme not in ("", "http", "https"):
        raise ConfigError(
            f"{text!r} is no target", where=origin, hint="write REGISTRY[/PREFIX], without a scheme"
        )
    host, slash, prefix = rest.partition("/")
    _set(document, ("target", "registry"), host, origin)
    if slash:
        _set(document, ("target", "prefix"), prefix.removesuffix("/"), origin)
    if scheme != "http":
        return
    listed = document.tree.setdefault("registries", [])
    if not isinstance(listed, list):  # a mistake in the file, to be reported as such
        return
    for number, entry in enumerate(listed):
        if isinstance(entry, dict) and entry.get("host") == host:
            entry["tls"] = str(Tls.PLAIN_HTTP)
            document.marks[("registries", number, "tls")] = origin
            return
    listed.append({"host": host, "tls": str(Tls.PLAIN_HTTP)})
    document.marks[("registries", len(listed) - 1)] = origin


def _says_target(document: Document) -> bool:
    """Whether a target is said, be it a wrong one."""
    target = document.tree.get("target", {})
    return not isinstance(target, dict) or "registry" in target


def _set(document: Document, keys: tuple[str, str], value: Any, origin: str) -> None:  # noqa: ANN401
    section = document.tree.get(keys[0])
    if section is None:
        section = document.tree[keys[0]] = {}
        document.marks[keys[:1]] = origin
    if isinstance(section, dict):
        section[keys[1]] = value
        document.marks[keys] = origin


def _to_error(found: Sequence[Problem], path: Path) -> ConfigError:
    lost = ("target", "target.registry")
    hint = _TARGET_HINT.format(name=path.stem)
    if len(found) == 1 and found[0].is_missing_key and found[0].path in lost:
        found = [dataclasses.replace(found[0], text="it is not said where copies go", hint=hint)]
    return problems.to_error(MIRROR_LIST, found, path.stem, str(path))
