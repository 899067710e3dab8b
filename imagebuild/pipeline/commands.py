"""Cell and phase → command lines of this tool. Pure.

The command line of a phase says all of it: run by hand, it does the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.config.pipeline import Publish, VersionToPromote
from imagebuild.pipeline.cells import ImageCell, MirrorCell, Places

#: Tags that Glance's images get when nobody names any (`upload --datastore`).
_TAG = "trove"


@dataclass(frozen=True)
class Command:
    """`argv` after `imagebuild`; `target` tells commands of one phase apart."""

    argv: tuple[str, ...]
    target: str = ""


def mirror(cell: MirrorCell, places: Places) -> Command:  # noqa: ARG001 - as the others
    """`mirror sync`."""
    step = cell.step
    argv = ["mirror", "sync", step.list]
    if step.target:
        argv += ["--target", step.target]
    argv += _each("--only", step.only)
    if step.locked:
        argv.append("--locked")
    return Command((*argv, "--json"))


def build(cell: ImageCell, places: Places) -> Command:
    """`build`."""
    argv = ["build", cell.profile]
    argv += _each("--profiles-path", map(str, cell.search))
    if cell.is_arch_given:
        argv += ["--arch", str(cell.arch)]
    if cell.series:
        argv += ["--trove-series", str(cell.series)]
    argv += _each("--set", (setting(key, value) for key, value in cell.set))
    argv += ["--images-dir", str(places.images), *_cache(places)]
    for option, value in (
        ("--store", places.store),
        ("--store-size", places.store_size),
        ("--store-remote", places.store_remote),
    ):
        if value is not None:
            argv += [option, str(value)]
    return Command((*argv, "--json"))


def verify(cell: ImageCell, places: Places, artifact: str) -> Command:
    """`verify` of the artifact, or of the one of its files that goes up."""
    wanted = cell.verify
    argv = ["verify", artifact, "--level", str(wanted.level)]
    argv += _each("--database", wanted.databases)
    argv += _each("--backup-image", wanted.backup_images)
    argv += _each("--registry", wanted.registries)
    if wanted.insecure_registry:
        argv.append("--insecure-registry")
    argv += _each("--network", map(str, wanted.networks))
    argv += _each("--firmware", map(str, wanted.firmwares))
    if wanted.accelerator:
        argv += ["--accelerator", str(wanted.accelerator)]
    argv += _each("--timeout", wanted.timeouts)
    argv += ["--images-dir", str(places.images), *_cache(places)]
    return Command((*argv, "--json"))


def upload(
    cell: ImageCell,  # noqa: ARG001 - as the others
    publish: Publish,
    places: Places,
    artifact: str,
    *,
    candidate: bool | None = None,
) -> Command:
    """`upload`: as a candidate where there are versions to promote, unless `candidate` says
    otherwise.
    """
    argv = ["upload", artifact, *_cloud(publish)]
    if publish.name:
        argv += ["--name", publish.name]
    more = [t for v in publish.versions for t in v.image_tags]
    if publish.tags:
        argv += _each("--tag", dict.fromkeys((*publish.tags, *more)))
    elif set(more) <= {_TAG, *publish.datastores}:
        argv += _each("--datastore", publish.datastores)
    else:
        argv += _each("--tag", dict.fromkeys((_TAG, *publish.datastores, *more)))
    if bool(publish.versions) if candidate is None else candidate:
        argv.append("--candidate")
    argv += _each("--property", (f"{k}={v}" for k, v in publish.properties.items()))
    if publish.visibility:
        argv.append(f"--{publish.visibility}")
    if publish.protected:
        argv.append("--protected")
    if publish.format:
        argv += ["--format", str(publish.format)]
    if publish.convert:
        argv.append("--convert")
    if publish.method:
        argv += ["--method", str(publish.method)]
    argv += _series(publish)
    argv += ["--images-dir", str(places.images), *_cache(places)]
    return Command((*argv, "--json"), cloud_of(publish))


def versions(publish: Publish) -> Command:
    """`datastore list`: which versions are there."""
    return Command(("datastore", "list", *_cloud(publish), "--json"), cloud_of(publish))


def register(publish: Publish, version: VersionToPromote, image: str | None) -> Command:
    """`datastore create`. With `image`, its id, a version that is not there is made; without,
    one that is there is looked after, and its image left alone.
    """
    argv = ["datastore", "create", version.datastore, version.version]
    if version.number:
        argv += ["--version-number", version.number]
    if version.manager:
        argv += ["--manager", version.manager]
    if image is not None:
        tags = ",".join(version.image_tags)
        argv += ["--image-tags", tags] if tags else ["--image", image]
        argv.append("--active")
    if version.default is not None:
        argv.append("--default" if version.default else "--no-default")
    argv += [*_series(publish), *_cloud(publish)]
    return Command((*argv, "--json"), version_target(publish, version))


def promote(
    publish: Publish, version: VersionToPromote, image: str, version_id: str = ""
) -> Command:
    """`datastore promote`: unless a rollback has led away from that very image.

    `version_id` is Trove's, where the name alone does not tell versions apart.
    """
    argv = ["datastore", "promote", image, version.datastore, version_id or version.version]
    argv += ["--unless-rolled-back", *_series(publish), *_cloud(publish)]
    return Command((*argv, "--json"), version_target(publish, version))


def retire(publish: Publish, datastore: str) -> Command:
    """`datastore retire`."""
    assert publish.retire  # noqa: S101 - the caller has asked
    argv = ["datastore", "retire", datastore, "--keep", str(publish.retire.keep)]
    if publish.retire.grace:
        argv += ["--grace", publish.retire.grace]
    return Command((*argv, *_cloud(publish), "--json"), f"{cloud_of(publish)}/{datastore}")


def cloud_of(publish: Publish) -> str:
    """The cloud for people, and as target of a phase."""
    return publish.cloud or "environment"


def version_target(publish: Publish, version: VersionToPromote) -> str:
    """The target of a phase that is about a datastore version; of one whose number is not its
    name, with the number.
    """
    target = f"{cloud_of(publish)}/{version.datastore}/{version.version}"
    if version.number and version.number != version.version:
        return f"{target}/{version.number}"
    return target


def datastores(publish: Publish) -> tuple[str, ...]:
    """The datastores whose older images are retired."""
    return tuple(dict.fromkeys(v.datastore for v in publish.versions))


def setting(key: str, value: Any) -> str:  # noqa: ANN401 - whatever the file says
    """What --set takes: VALUE is JSON, which YAML reads alike. `key` may end with `+`."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _cache(places: Places) -> Sequence[str]:
    return ("--cache-dir", str(places.cache))


def _cloud(publish: Publish) -> Sequence[str]:
    return ("--cloud", publish.cloud) if publish.cloud else ()


def _series(publish: Publish) -> Sequence[str]:
    series = publish.control_plane_series
    return ("--control-plane-series", str(series)) if series else ()
