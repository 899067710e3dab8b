"""Under which names a backup image goes to which registry, and how that is spoken to."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imagebuild.backupimage.datastores import check_version, get_datastore
from imagebuild.config.mirrorlist import Role
from imagebuild.errors import UsageError
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings

if TYPE_CHECKING:
    from imagebuild.config.mirrorlist import MirrorList

_PLAIN = "http://"


def find_targets(
    datastore: str,
    version: str,
    target: str,
    mirror_list: str,
    tags: Sequence[str],
    environ: Mapping[str, str] = os.environ,
) -> tuple[tuple[Reference, ...], tuple[RegistrySettings, ...]]:
    """All names of the image, the first one first; () when nobody says where it goes.

    Raises UsageError and ConfigError.
    """
    name = get_datastore(datastore)[0].name
    check_version(version)
    settings: tuple[RegistrySettings, ...] = ()
    if mirror_list:
        from imagebuild.mirror.loading import load_list, registry_settings

        target = target or environ.get("IMAGEBUILD_MIRROR_TARGET", "")
        value = load_list(mirror_list, target=target or None).value
        settings = registry_settings(value, environ)
        first, aliases = _of_list(value, name, version)
        tags = [*aliases, *tags]
    elif target:
        first = _of_words(target, version)
        if target.startswith(_PLAIN):
            settings = (RegistrySettings(first.registry, plain_http=True),)
    elif tags:
        raise UsageError("--tag is for an image that goes to a registry: --target, or --mirror")
    else:
        return (), ()
    # Read as a whole, so that a tag that is none is said to be so.
    further = [Reference.parse(f"{first.name}:{tag}") for tag in tags]
    return tuple(dict.fromkeys((first, *further))), settings


def _of_words(target: str, version: str) -> Reference:
    text = target.removeprefix(_PLAIN)
    if "@" in text:
        raise UsageError("an image is pushed by a tag, not by a digest", where=f"--target {target}")
    if "/" not in text:
        raise UsageError(
            "the target names no image",
            where=f"--target {target}",
            hint="REGISTRY/NAME: registry.example.org:5000/trove-datastores/db-backup-mysql",
        )
    has_tag = ":" in text.rpartition("/")[2]
    return Reference.parse(text if has_tag else f"{text}:{version}")


def _of_list(value: MirrorList, datastore: str, version: str) -> tuple[Reference, tuple[str, ...]]:
    """The name that the list has for this image, or would have, and its aliases."""
    ours = [i for i in value.images if i.role is Role.BACKUP and i.datastore == datastore]
    repository = ours[0].repository if ours else f"db-backup-{datastore}"
    parts = (value.target.registry, value.target.prefix, repository)
    found = Reference.parse("/".join(filter(None, parts)))
    aliases = [alias for image in ours[:1] for alias in image.aliases.get(version, ())]
    return dataclasses.replace(found, tag=version), tuple(aliases)
