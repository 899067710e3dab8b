"""What the verbs of `mirror` share: which list, which of its items, where to, and the client."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete

if TYPE_CHECKING:
    from imagebuild.config.mirrorlist import MirrorList
    from imagebuild.events import Emit
    from imagebuild.mirror.items import Item
    from imagebuild.mirror.loading import LoadedList
    from imagebuild.registry.client import Client

#: The list; the parameter is `mirror_list`.
list_argument = click.argument("mirror_list", metavar="MIRROR", shell_complete=complete.mirror_list)

#: --target; the parameter `target` is REGISTRY[/PREFIX] or None.
target_option = click.option(
    "--target", metavar="REGISTRY[/PREFIX]", envvar="IMAGEBUILD_MIRROR_TARGET", show_envvar=True,
    help="Where copies go, in place of what the list says; http://REGISTRY is one without TLS.",
)  # fmt: skip

#: --only; the parameter `only` has patterns.
only_option = click.option(
    "--only", multiple=True, metavar="PATTERN", envvar="IMAGEBUILD_MIRROR_ONLY", show_envvar=True,
    help="Only images of this name, of the source or the target, with or without registry and "
    "tag; * stands for anything: 'db-backup-*', mysql:8.4 (repeatable).",
)  # fmt: skip

#: --lock; the parameter `lock` is a path or None.
lock_option = click.option(
    "--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_LOCK", show_envvar=True, shell_complete=complete.place("file"),
    help="The lock file: what each tag was, and which tags are ours. [default: LIST.lock.yaml "
    "beside the list; of a list that comes with the tool, in ~/.local/state/imagebuild/mirror]",
)  # fmt: skip

#: --jobs; the parameter `jobs` is None or a number.
jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 64), metavar="N", envvar="IMAGEBUILD_MIRROR_JOBS",
    show_envvar=True,
    help="Transfers at a time, of each registry. [default: as the list says, else 6]",
)  # fmt: skip


def load(mirror_list: str, target: str | None) -> LoadedList:
    """The list, with --target applied. Raises ConfigError."""
    from imagebuild.mirror.loading import load_list

    return load_list(mirror_list, target=target or None)


def lock_place(loaded: LoadedList, lock: Path | None) -> Path | None:
    """Where the lock file is; None: the list came through a pipe, and nobody says where."""
    from imagebuild.cli.options import absolute

    return absolute(lock, "--lock") if lock else loaded.lock


@contextmanager
def client_of(
    value: MirrorList, emit: Emit | None = None, *, jobs: int | None = None
) -> Iterator[Client]:
    """A client that speaks to the list's registries as the list says, until the block's end.

    Raises ConfigError where a password cannot be read.
    """
    from imagebuild.mirror.loading import registry_settings
    from imagebuild.registry.client import Client
    from imagebuild.registry.settings import RegistrySettings

    settings = {s.host: s for s in registry_settings(value, os.environ)}
    if jobs:
        hosts = [value.target.registry, *(i.source.partition("/")[0] for i in value.images)]
        settings = {h: RegistrySettings(h) for h in hosts} | settings
        settings = {h: dataclasses.replace(s, concurrency=jobs) for h, s in settings.items()}
    with Client(settings.values(), environ=os.environ, emit=emit) as client:
        yield client


def items_of(client: Client, loaded: LoadedList, only: Sequence[str] = ()) -> tuple[Item, ...]:
    """The items of the list that --only means; registries are asked for tags where it needs that.

    Raises ConfigError.
    """
    from imagebuild.mirror.items import choose, expand

    return choose(expand(loaded.value, client.tags, loaded.places, only), only)
