"""What the verbs of `mirror` share: which list, which of its items, where to, and the client."""

from __future__ import annotations

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
    from imagebuild.mirror.lockfile import Lock
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

#: --engine; the parameter `engine` is registry or docker.
engine_option = click.option(
    "--engine", type=click.Choice(("registry", "docker")), default="registry", show_default=True,
    envvar="IMAGEBUILD_MIRROR_ENGINE", show_envvar=True,
    help="registry: from registry to registry, byte for byte. docker: the daemon of this host "
    "pulls, tags and pushes, which loses other platforms, signatures and, mostly, digests.",
)  # fmt: skip

#: --locked; the parameter `locked`.
locked_option = click.option(
    "--locked", is_flag=True, envvar="IMAGEBUILD_MIRROR_LOCKED", show_envvar=True,
    help="The digests of the lock file, wherever the source's tags are now.",
)  # fmt: skip

#: --jobs; the parameter `jobs`.
jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 64), metavar="N", envvar="IMAGEBUILD_MIRROR_JOBS",
    show_envvar=True, default=4, show_default=True,
    help="Images at a time; how much a registry is asked at a time is the list's `concurrency`.",
)  # fmt: skip


def load(mirror_list: str, target: str | None, nowhere: str | None = None) -> LoadedList:
    """The list, with --target applied; see `load_list` for `nowhere`. Raises ConfigError."""
    from imagebuild.mirror.loading import load_list

    return load_list(mirror_list, target=target or None, nowhere=nowhere)


def lock_place(loaded: LoadedList, lock: Path | None) -> Path | None:
    """Where the lock file is; None: the list came through a pipe, and nobody says where."""
    from imagebuild.cli.options import absolute

    return absolute(lock, "--lock") if lock else loaded.lock


def read_locks(place: Path | None, *, locked: bool) -> tuple[Lock, Lock | None]:
    """What the lock file knows, and the same where --locked asks to go by it.

    Raises UsageError and ConfigError where there is none for --locked, and as `read_lock`.
    """
    from imagebuild.errors import ConfigError, UsageError
    from imagebuild.mirror.lockfile import Lock, read_lock

    known = read_lock(place) if place else Lock()
    if locked and not place:
        raise UsageError("--locked needs --lock FILE: a list from a pipe has no lock file")
    if locked and place and not place.exists():
        raise ConfigError(
            "there is no lock file",
            where=str(place),
            hint="run `imagebuild mirror sync` once without --locked, which writes it",
        )
    return known, known if locked else None


@contextmanager
def client_of(value: MirrorList, emit: Emit | None = None) -> Iterator[Client]:
    """A client that speaks to the list's registries as the list says, until the block's end.

    Raises ConfigError where a password cannot be read.
    """
    from imagebuild.mirror.loading import registry_settings
    from imagebuild.registry.client import Client

    settings = registry_settings(value, os.environ)
    with Client(settings, environ=os.environ, emit=emit) as client:
        yield client


def items_of(
    client: Client, loaded: LoadedList, only: Sequence[str] = (), *, go_on: bool = False
) -> tuple[Item, ...]:
    """The items of the list that --only means; registries are asked for tags where it needs that.

    Raises what `expand` raises; see there for `go_on`.
    """
    from imagebuild.mirror.items import choose, expand

    return choose(expand(loaded.value, client.tags, loaded.places, only, go_on=go_on), only)
