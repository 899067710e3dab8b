"""The user's side of the store: who may make an object, which one is there, and is it whole.

    with store.hold(key, on_wait) as held:
        found = store.take(held, worker.call, emit)
        if found is None:
            …  # make the files in a directory of the build's scratch
            found = store.seal(held, worker.call, draft, image=…, inputs=…, facts=…)
        held.share()
        …  # use `found`; nobody removes it before the block ends

What belongs to root, trees, is written, read and removed by the privileged worker.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.errors import PreflightError
from imagebuild.events import Emit, Note
from imagebuild.store import locks, objects, reasons, sealing
from imagebuild.store.locks import Access
from imagebuild.store.objects import Key, Kind, Object

__all__ = ["Held", "Key", "Kind", "Object", "Store", "Stores", "open_stores"]

GIB = 1024**3
#: What a store may hold when nobody says, in bytes.
DEFAULT_LIMIT = 40 * GIB

#: Runs a task of the privileged worker, as `Worker.call` does.
Call = Callable[..., dict[str, Any]]

#: Why an object is not there when no input of its own says it.
NEVER_MADE = "never made for this image, or removed"
MADE_OTHERWISE = "what goes into it is the same, but it was made another way"

_SHARED = stat.S_ISGID | stat.S_IRWXG


@dataclass
class Held:
    """An object's name, held: by its maker alone at first; by any number of users after `share`."""

    key: Key
    _store: Store
    _on_wait: Callable[[], None] | None
    _make: int | None = None
    _use: int | None = None

    def share(self) -> None:
        """Let others use the object, too; nobody removes it."""
        if self._use is None:
            # Who removes wants both locks, and this one second: it is free, or others use it.
            self._use = self._store._lock(self.key, "use", shared=True)
        self._close("_make")

    @contextmanager
    def exclude(self) -> Iterator[None]:
        """Wait until no other build uses what is there: it is replaced in the block."""
        self._close("_use")
        descriptor = self._store._lock(self.key, "use", on_wait=self._on_wait)
        try:
            yield
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let go of it; this was its last use."""
        if self._use is not None:
            self._store.touch(self.key)
        self._close("_use")
        self._close("_make")

    def _close(self, name: str) -> None:
        descriptor = getattr(self, name)
        if descriptor is not None:
            setattr(self, name, None)
            os.close(descriptor)


@dataclass(frozen=True)
class Store:
    """A store below `root`. A directory that is group-writable with setgid (`root:GROUP 2770`)
    is shared by its group; any other is its owner's alone.

    `limit` is the size that `prune` leaves, in bytes; None is no limit.
    """

    root: Path
    limit: int | None = DEFAULT_LIMIT

    @property
    def is_shared(self) -> bool:
        """Whether other users read what is in it: nothing with a secret may go there."""
        try:
            return self.root.stat().st_mode & _SHARED == _SHARED
        except OSError:
            return False

    @property
    def drafts(self) -> Path:
        """What is on its way out; on the store's filesystem, swept as scratch directories are."""
        return self.root / "drafts"

    def path(self, key: Key) -> Path:
        """Where the object of a key is, if it is there."""
        return self.root / key.name

    def look(self, key: Key) -> Object | None:
        """The object of a key; None when it is not there or plainly damaged.

        Its document is read and the sizes of its files compared; see `take` for the rest.
        """
        return None if self.problem(key) else self._read(self.path(key))

    def problem(self, key: Key) -> str:
        """What is plainly wrong with the object of a key; "" when nothing is, or none is there."""
        path = self.path(key)
        try:
            document = objects.read_document(path)
        except FileNotFoundError:
            return f"{objects.DOCUMENT} is missing" if path.exists() else ""
        except ValueError as exc:
            return str(exc)
        if (document["kind"], document["id"]) != (str(key.kind), key.id):
            return f"it is the object {document['kind']} {document['id']}"
        return next(iter(sealing.look(path, document)), "")

    def objects(self) -> list[Object]:
        """All objects whose document can be read, the one longest unused first."""
        found = (self._read(p) for p in self.directories())
        return sorted((o for o in found if o), key=lambda o: (o.used, o.key.name))

    def directories(self) -> list[Path]:
        """The directories of all objects, damaged ones included."""
        names = tuple(f"{kind}-" for kind in Kind)
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if p.name.startswith(names))

    @contextmanager
    def hold(self, key: Key, on_wait: Callable[[], None] | None = None) -> Iterator[Held]:
        """Hold the name of an object, which need not be there.

        Another maker of the same is waited for, after a call of `on_wait`. Raises
        PreflightError when the store cannot be written.
        """
        self.prepare()
        held = Held(key, self, on_wait)
        held._make = self._lock(key, "make", on_wait=on_wait)
        try:
            yield held
        finally:
            held.release()

    def take(self, held: Held, call: Call, emit: Emit) -> Object | None:
        """The object whose name is held, when it is there and whole; None when it is to be made.

        A damaged one is reported (a Note) and removed. `call` is used only for objects with
        a tree, and to remove.
        """
        key, path = held.key, self.path(held.key)
        damage = [p] if (p := self.problem(key)) else []
        found = None if damage else self._read(path)
        if found and found.has_tree:
            damage = call("check_object", path=str(path), deep=False)["damage"]
        elif found:
            damage = sealing.check(path)
        if not damage:
            if found:
                held._use = held._use or self._lock(key, "use", shared=True)
                self.touch(key)
            return found
        said = "; ".join(damage[:3]) + (f"; and {len(damage) - 3} more" if damage[3:] else "")
        emit(Note(f"{key.name} in the store is damaged, it is made anew: {said}", True))
        with held.exclude():
            call("discard_objects", paths=[str(path)])
        return None

    def seal(
        self,
        held: Held,
        call: Call,
        draft: Path,
        *,
        image: str,
        inputs: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> Object:
        """Turn the directory `draft` into the object whose name is held.

        `draft` holds the object's files, and at most one directory, `tree`; it is gone
        afterwards. On the store's filesystem it is renamed, else copied. A `tree.jsonl.gz`
        in it must be the inventory of `tree` (inventory.write); it is made where it is not.
        Raises BuildError.
        """
        key, access = held.key, self.access
        with held.exclude():
            call(
                "seal_object",
                draft=str(draft),
                store=str(self.root),
                document={
                    "kind": str(key.kind), "id": key.id, "image": image,
                    "inputs": dict(inputs), "facts": dict(facts or {}),
                },
                owner=[access.uid, access.gid],
                mode=access.mode,
            )  # fmt: skip
        found = self.look(key)
        assert found is not None  # noqa: S101 - it was sealed a moment ago, and is held
        self.touch(key)
        return found

    def touch(self, key: Key) -> None:
        """Note that an object was used now."""
        path = self.lock_path(key, "use")
        if not path.exists():
            os.close(self._lock(key, "use", shared=True))
        with contextlib.suppress(OSError):  # it is removed too early then, no more
            os.utime(path)

    def is_held(self, key: Key) -> bool:
        """Whether a build makes or uses the object."""
        return any(locks.is_held(self.lock_path(key, what)) for what in ("make", "use"))

    def nearest(self, kind: Kind, image: str, part: str | None = None) -> Object | None:
        """The newest object of a kind that was made for an image, and is the same part of it
        (two disks are of one kind, and all containers).
        """
        wanted = (kind, image, part)
        found = [o for o in self.objects() if (o.key.kind, o.image, o.inputs.get("part")) == wanted]
        return max(found, key=lambda o: o.created, default=None)

    def why_not(self, key: Key, image: str, inputs: Mapping[str, Any]) -> list[str]:
        """Why the object of a key, with these inputs, is not there, in plain sentences.

        Nothing when it is there. What changed is said against the newest object of the same
        kind for the same image.
        """
        if problem := self.problem(key):
            return [f"it is damaged: {problem}"]
        if self.look(key):
            return []
        nearest = self.nearest(key.kind, image, inputs.get("part"))
        if nearest is None:
            return [NEVER_MADE]
        return reasons.differences(nearest.inputs, inputs) or [MADE_OTHERWISE]

    @property
    def access(self) -> Access:
        """Whose, and how open, what is made in the store is."""
        info = self.root.stat()
        uid = info.st_uid if os.geteuid() == 0 else os.geteuid()
        if self.is_shared:
            return Access(uid, info.st_gid, 0o2770)
        return Access(uid, info.st_gid if os.geteuid() == 0 else os.getegid(), 0o700)

    def prepare(self) -> None:
        """Make the store's directories. Raises PreflightError."""
        try:
            if not self.root.exists():
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
            for directory in (self.root / "locks", self.drafts):
                if not directory.exists():
                    directory.mkdir(exist_ok=True)
                    self.access.give(directory, self.access.mode)
        except OSError as exc:
            raise PreflightError(
                "cannot write in the store",
                where=str(self.root),
                detail=str(exc),
                hint="--store DIR (IMAGEBUILD_STORE) chooses another place",
            ) from exc

    def lock_path(self, key: Key, what: str) -> Path:
        """The lock file of who makes (`make`) or uses (`use`) an object."""
        return self.root / "locks" / f"{key.name}.{what}"

    def _lock(
        self,
        key: Key,
        what: str,
        *,
        shared: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> int:
        path, access = self.lock_path(key, what), self.access
        descriptor = locks.acquire(path, access, shared=shared, wait=False)
        if descriptor is None:
            if on_wait:
                on_wait()
            descriptor = locks.acquire(path, access, shared=shared)
        assert descriptor is not None  # noqa: S101 - it waits
        return descriptor

    def _read(self, path: Path) -> Object | None:
        try:
            document = objects.read_document(path)
            kind = Kind(document["kind"])
        except (OSError, ValueError):
            return None
        key = Key(kind, document["id"])
        try:
            used = self.lock_path(key, "use").stat().st_mtime
        except OSError:
            used = document["created"]
        return Object(
            key=key,
            path=path,
            used=used,
            **{n: document[n] for n in ("image", "inputs", "facts", "payload", "size", "created")},
        )


@dataclass(frozen=True)
class Stores:
    """The store that is asked for, and the user's own, for what others must not read."""

    main: Store
    own: Store

    def of(self, *, secret: bool) -> Store:
        """Where an object goes that holds secrets, or holds none."""
        return self.own if secret else self.main

    @property
    def all(self) -> tuple[Store, ...]:
        """Each once."""
        return tuple(dict.fromkeys((self.main, self.own)))


def open_stores(
    cache: Path, store: Path | None = None, limit: int | None = DEFAULT_LIMIT
) -> Stores:
    """The stores of a user whose cache is `cache`. With a shared `store`, objects with secrets
    go to the one in the cache.
    """
    own = Store(cache / "store", limit)
    main = Store(store, limit) if store else own
    return Stores(main, own if main.is_shared else main)
