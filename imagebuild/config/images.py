"""Names of container images in a profile.

Each check returns the name as it was written or raises ValueError with a sentence that says
what is wrong with it.
"""

from __future__ import annotations

import dataclasses

from imagebuild.config.values import shown
from imagebuild.errors import ConfigError
from imagebuild.registry.reference import Reference


def _parse(value: str) -> Reference:
    try:
        found = Reference.parse(value)
    except ConfigError as exc:
        raise ValueError(f"{shown(value)} is no name of a container image: {exc.detail}") from exc
    if not found.digest and not value.endswith(f":{found.tag}"):  # the client's own `latest`
        found = dataclasses.replace(found, tag="")
    return found


def check_source(value: str) -> str:
    """Where an image is fetched from: a name with a tag, a digest or both."""
    found = _parse(value)
    if not found.tag and not found.digest:
        raise ValueError(f"{shown(value)} has no tag and no digest: which image is meant?")
    return value


def check_target(value: str) -> str:
    """What an image is called in the guest: a name with a tag, as Trove asks for it."""
    found = _parse(value)
    if found.digest or not found.tag:
        raise ValueError(
            f"{shown(value)}: the guest agent asks for NAME:TAG, so a tag is needed and a "
            "digest is not possible"
        )
    return value


def split(value: str) -> tuple[str, str | None]:
    """The two names of `SOURCE[=TARGET]`."""
    source, equals, target = value.partition("=")
    return source, target if equals else None


def default_target(source: str) -> str:
    """The name that a guest asks for when none is said: the source's, without its digest.

    ValueError: it has no tag.
    """
    if not _parse(source).tag:
        raise ValueError(
            f"{shown(source)} has no tag, and no target is said: write SOURCE=NAME:TAG"
        )
    return source.partition("@")[0]


def full_name(value: str) -> str:
    """The name with what docker adds by itself: `mysql:8.4` is docker.io/library/mysql:8.4."""
    return str(_parse(value))
