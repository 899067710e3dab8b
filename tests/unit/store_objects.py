"""Objects of the store for its tests, made in this process without a worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuild.events import Event
from imagebuild.stages.root_tasks import TASKS
from imagebuild.store.store import Key, Kind, Object, Store

IMAGE = "trove-guest-debian-bookworm-amd64"
IS_ROOT = os.geteuid() == 0


def call(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Run a task of the worker here."""
    return TASKS[task](emit=ignore, **arguments)


def ignore(event: Event) -> None:
    """For tasks whose events do not matter."""


def key(number: int = 1, kind: Kind = Kind.BASE) -> Key:
    """The key of an object that is told from others by a number."""
    return Key(kind, f"{number:08x}" * 8)


def draft(place: Path, content: str = "disk", *, tree: bool = True) -> Path:
    """The files of an object: one of several MiB with a hole, and a tree with one of each kind."""
    place.mkdir(parents=True)
    (place / "list.json").write_text(content)
    with (place / "disk.raw").open("wb") as file:
        file.write(content.encode() * 1000)
        file.seek(3 << 20)
        file.write(b"end")
    if tree:
        (place / "tree/etc").mkdir(parents=True)
        (place / "tree/etc/passwd").write_text(content)
        (place / "tree/etc/shadow").write_text("secret")
        (place / "tree/etc/shadow").chmod(0o600)
        (place / "tree/etc/link").symlink_to("passwd")
        os.link(place / "tree/etc/passwd", place / "tree/etc/same")
        os.mkfifo(place / "tree/queue")
        if IS_ROOT:
            os.mknod(place / "tree/whiteout", 0o020600, os.makedev(0, 0))
            os.chown(place / "tree/etc/shadow", 0, 42)
            os.setxattr(place / "tree/etc", "trusted.overlay.opaque", b"y")
    return place


def stored(
    store: Store,
    place: Path,
    wanted: Key | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    tree: bool = True,
) -> Object:
    """An object, sealed and let go of."""
    wanted = wanted or key()
    with store.hold(wanted) as held:
        made = draft(place / f"draft-{wanted.id[:8]}", tree=tree)
        return store.seal(held, call, made, image=IMAGE, inputs=inputs or {})


def taken(store: Store, wanted: Key, notes: list[Event] | None = None) -> Object | None:
    """What a build gets that asks for an object."""
    with store.hold(wanted) as held:
        return store.take(held, call, notes.append if notes is not None else ignore)
