"""Checks of the single values that a mirror list holds.

Each returns the value in its canonical form or raises ValueError with a sentence that says
what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from imagebuild.config.values import shown
from imagebuild.errors import ConfigError
from imagebuild.registry.reference import DIGEST, Reference

#: distribution/reference, regexp.go: what a tag may be.
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
#: OCI image specification 1.1, image-index.md: the words are Go's GOOS, GOARCH and variants.
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9._]+)?", re.ASCII)
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: What stands for the tag in the name of a backup.
_PLACE = "{tag}"
#: Longest regular expression; PyPI has none for tags, people write some dozen characters.
_LONGEST_REGEX = 500


def _reference(value: str) -> Reference:
    if scheme := _SCHEME.match(value):
        raise ValueError(f"{shown(value)}: names of images are written without {scheme[0]}")
    try:
        return Reference.parse(value)
    except ConfigError as exc:
        raise ValueError(f"{shown(value)} is no name of an image: {exc.detail}") from exc


def check_registry(value: str) -> str:
    """HOST or HOST:PORT, as the names of images have it."""
    if scheme := _SCHEME.match(value):
        raise ValueError(
            f"{shown(value)}: a registry is HOST or HOST:PORT, without {scheme[0]}; "
            "its key tls says how it is spoken to"
        )
    if "/" in value:
        raise ValueError(f"{shown(value)}: a registry is HOST or HOST:PORT, without a path")
    registry = _reference(f"{value}/name").registry
    # `registry/name` is a repository of Docker Hub.
    if registry != value and value != "index.docker.io":
        raise ValueError(
            f"{shown(value)} is no registry to docker: a host has a dot or a port, or is localhost"
        )
    return registry


def check_source(value: str) -> str:
    """A repository by its full name: docker's short `mysql` is docker.io/library/mysql."""
    found = _reference(value)
    if found.digest:
        raise ValueError(f"{shown(value)} has a digest, which belongs into the key digest")
    if value.endswith(f":{found.tag}"):
        raise ValueError(f"{shown(value)} has a tag, which belongs into the key tags")
    return found.name


def check_repository(value: str) -> str:
    """A repository without its registry: trove/mysql."""
    if value.startswith("/") or value.endswith("/"):
        raise ValueError(f"{shown(value)}: write it without a slash at its beginning and end")
    try:
        found = Reference.parse(f"registry.example/{value}")
    except ConfigError as exc:
        raise ValueError(f"{shown(value)} is no repository: {exc.detail}") from exc
    if found.repository != value:
        raise ValueError(f"{shown(value)} is no repository: it has a tag or a digest")
    return value


def check_prefix(value: str) -> str:
    """The first part of repositories, or nothing."""
    return check_repository(value) if value else value


def check_tag(value: str) -> str:
    """A tag."""
    if not _TAG.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is no tag: at most 128 letters, digits, '_', '.', '-', "
            "the last two not first"
        )
    return value


def words(value: object) -> object:
    """A list of words of what YAML made of it: one word alone, and whole numbers."""
    if isinstance(value, str) or _is_number(value):
        value = [value]
    if isinstance(value, list | tuple):
        return [str(v) if _is_number(v) else v for v in value]
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_regex(value: str) -> str:
    """A regular expression that Python understands."""
    if len(value) > _LONGEST_REGEX:
        raise ValueError(f"a regular expression has at most {_LONGEST_REGEX} characters")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{shown(value)} is no regular expression: {exc}") from exc
    return value


def check_versions(value: str) -> str:
    """A range of versions (PEP 440)."""
    try:
        found = SpecifierSet(value)
    except InvalidSpecifier as exc:
        raise ValueError(
            f"{shown(value)} is no range of versions: write >=8.0,<9 or ==11.4.*"
        ) from exc
    if not list(found):
        raise ValueError("the range of versions is empty: write >=8.0,<9 or ==11.4.*")
    return value


def check_platform(value: str) -> str:
    """OS/ARCH or OS/ARCH/VARIANT."""
    if not _PLATFORM.fullmatch(value):
        hint = f"; linux/{value}?" if re.fullmatch(r"[a-z0-9_]+", value) else ""
        raise ValueError(
            f"{shown(value)} is no platform: write OS/ARCH or OS/ARCH/VARIANT, "
            f"like linux/amd64 or linux/arm64/v8{hint}"
        )
    return value


def check_digest(value: str) -> str:
    """A sha256 digest."""
    if not DIGEST.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is no digest: sha256: and 64 hexadecimal digits in small letters"
        )
    return value


def backup_tag(template: str, tag: str) -> str:
    """The tag that a replaced image keeps. Raises ValueError when it is none."""
    return check_tag(template.replace(_PLACE, tag))


def check_backup(value: str) -> str:
    """A template with {tag} for tags of replaced images, or nothing."""
    if not value:
        return value
    if value.count(_PLACE) != 1 or value == _PLACE:
        raise ValueError(
            f"{shown(value)}: {_PLACE} must stand in it once, beside something else: "
            f"{_PLACE}-previous"
        )
    try:
        backup_tag(value, "0")
    except ValueError as exc:
        raise ValueError(f"{shown(value)} does not make tags: {exc}") from exc
    return value


def check_environment(value: str) -> str:
    """The name of an environment variable."""
    if not _ENVIRONMENT.fullmatch(value):
        # It is not quoted: somebody may have written the password itself.
        raise ValueError("this is no name of an environment variable: letters, digits and '_'")
    return value


def check_unique(found: Iterable[str], what: str) -> None:
    """Raise ValueError for the first word that is there twice."""
    seen = set()
    for word in found:
        if word in seen:
            raise ValueError(f"{what} {shown(word)} is listed twice")
        seen.add(word)
