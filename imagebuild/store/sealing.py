"""Root's side of the store: an object is closed, checked, removed.

A file of an object is read whole whenever it is checked. A tree is too big for that: its
*seal* is a digest of what lstat(2) says of each entry, the ctime included, which no write
leaves alone. A tree whose seal is right, and was made since the machine started, is what was
stored; for any other all contents are read.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagebuild import inventory
from imagebuild.errors import BuildError, ImagebuildError
from imagebuild.files import open_regular
from imagebuild.host import scratch
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import run
from imagebuild.store import fingerprint, objects
from imagebuild.store.locks import Access
from imagebuild.store.objects import DOCUMENT, INVENTORY, SEAL, TREE

#: The clock of ctimes ticks; two writes in one tick look alike. In ns, more than a tick.
_TICK = 20_000_000


def seal(
    draft: Path, store: Path, document: Mapping[str, Any], owner: tuple[int, int], mode: int
) -> dict[str, Any]:
    """Turn the directory `draft` into an object of `store` (see Store.seal); its document.

    `document` holds kind, id, image, inputs and facts; `mode` is that of directories that
    users of the store may write in. Everything but the tree's content then belongs to
    `owner`. The object appears under its name in one step, whole; a damaged one that was
    there is gone. Raises BuildError.
    """
    access = Access(*owner, mode)
    name = objects.Key(objects.Kind(document["kind"]), document["id"]).name
    if draft.stat().st_dev == store.stat().st_dev:
        return _seal(draft, store / name, document, access)
    near = store / "drafts" / f"{name}-{secrets.token_hex(4)}"
    with scratch.lock(near.with_name(f"{near.name}.lock")):
        argv: list[str | Path] = ["cp", "-a", "--sparse=always", "--", draft, near]
        run(argv, what="cannot copy an object into the store")
        whole = _seal(near, store / name, document, access)
        near.with_name(f"{near.name}.lock").unlink()
    remove_tree(draft)
    return whole


def _seal(draft: Path, target: Path, document: Mapping[str, Any], access: Access) -> dict[str, Any]:
    for stale in (DOCUMENT, SEAL):
        (draft / stale).unlink(missing_ok=True)
    payload: dict[str, dict[str, Any]] = {}
    allocated = 0
    if (draft / TREE).is_dir() and not (draft / TREE).is_symlink():
        payload[TREE], stats = _read_tree(draft)
        _write_seal(draft, stats)
        allocated = stats.allocated
    for path in sorted(draft.iterdir()):
        info = path.lstat()
        if path.name == SEAL or path.name in payload:
            continue
        if not stat.S_ISREG(info.st_mode) or not objects.is_payload_name(path.name):
            raise BuildError("this cannot be part of an object of the store", where=str(path))
        payload[path.name] = {"blocks": fingerprint.of_file(path), "size": info.st_size}
        allocated += info.st_blocks * 512
    whole = objects.write_document(
        draft, {**document, "payload": payload, "size": allocated, "created": time.time()}
    )
    # Readers of a shared store are no writers of what is in it.
    for path in draft.iterdir():
        if path.name != TREE:
            access.give(path, access.file_mode & ~0o020)
    access.give(draft, access.mode & ~0o020)
    discard([target])
    draft.rename(target)
    return whole


def _read_tree(directory: Path) -> tuple[dict[str, Any], fingerprint.Stats]:
    """The summary of a tree, whose inventory is written where it is not there."""
    tree, file = directory / TREE, directory / INVENTORY
    before = settled(tree)
    if file.exists():
        # As inventory.write sums up: the digest is that of the lines.
        digest, count, total = hashlib.sha256(), 0, 0
        with gzip.open(file, "rb") as lines:
            for line in lines:
                digest.update(line)
                entry = json.loads(line)
                count += 1
                total += 0 if entry.get("same_as") else entry["size"]
        return inventory.Summary(digest.hexdigest(), count, total).to_json(), before
    summary = inventory.write(inventory.walk(tree), file)
    if fingerprint.of_tree(tree).digest != before.digest:
        raise BuildError("a tree was changed while it was stored", where=str(tree))
    return summary.to_json(), before


def settled(tree: Path) -> fingerprint.Stats:
    """A look at a tree, after which each write to it shows."""
    stats = fingerprint.of_tree(tree)
    while 0 <= time.time_ns() - stats.newest < _TICK:
        time.sleep(_TICK / 1e9)
        stats = fingerprint.of_tree(tree)
    return stats


def look(path: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the names and sizes of an object's parts, in plain words."""
    payload = document["payload"]
    for name, said in payload.items():
        try:
            info = (path / name).lstat()
        except OSError as exc:
            yield f"{name} is missing" if isinstance(exc, FileNotFoundError) else f"{name}: {exc}"
            continue
        if stat.S_IFMT(info.st_mode) != (stat.S_IFDIR if name == TREE else stat.S_IFREG):
            yield f"{name} is of another kind"
        elif name != TREE and info.st_size != said["size"]:
            yield f"{name} has {info.st_size} bytes instead of {said['size']}"
    extra = {p.name for p in path.iterdir()} - {DOCUMENT, SEAL, *payload}
    yield from (f"{name} does not belong to it" for name in sorted(extra))


def check(path: Path, *, deep: bool = False) -> list[str]:
    """What is damaged in the object at `path`, in plain words; nothing when it is whole.

    Files are read whole each time. A tree is read whole with `deep`, and when a look at its
    entries does not match its seal; otherwise that look is all. Where the
    whole tree is right, the seal is renewed. A tree needs root's rights.
    """
    try:
        document = objects.read_document(path)
    except FileNotFoundError:
        return [f"{DOCUMENT} is missing"]
    except ValueError as exc:
        return [str(exc)]
    damage = list(look(path, document))
    if damage:
        return damage
    for name, said in document["payload"].items():
        try:
            if name == TREE:
                damage += _check_tree(path, said, deep)
            elif fingerprint.of_file(path / name) != said["blocks"]:
                damage.append(f"{name}: its content is not what was stored")
        except OSError as exc:
            damage.append(f"{name}: {exc.strerror}")
    return damage


def _check_tree(path: Path, said: Mapping[str, Any], deep: bool) -> list[str]:
    tree = path / TREE
    if not deep and _read_seal(path) == _seal_of(fingerprint.of_tree(tree)):
        return []
    before = settled(tree)
    found, digest = [], hashlib.sha256()
    for entry in inventory.walk(tree):
        found.append(entry)
        digest.update(inventory.line(entry))
    if digest.hexdigest() != said["sha256"]:
        return list(_differences(path, found))
    if fingerprint.of_tree(tree).digest != before.digest:
        return [f"{TREE} was changed while it was read"]
    with contextlib.suppress(OSError):  # it is but slower without
        _write_seal(path, before)
    return []


def _differences(path: Path, found: Sequence[inventory.Entry]) -> Iterator[str]:
    try:
        stored = {e.path: e for e in inventory.read(path / INVENTORY)}
    except ImagebuildError:
        stored = {}
    now = {e.path: e for e in found}
    for name in sorted(stored.keys() | now.keys()):
        before, after = stored.get(name), now.get(name)
        if before is None or after is None:
            yield f"{TREE}{name} is missing" if before else f"{TREE}{name} does not belong to it"
        elif before != after:
            words = [
                "content" if n == "data" else n
                for n, value in vars(before).items()
                if value != getattr(after, n)
            ]
            yield f"{TREE}{name}: its {', '.join(words)} is not what was stored"


def _seal_of(stats: fingerprint.Stats) -> dict[str, str]:
    return {"boot": fingerprint.boot_id(), "stats": stats.digest}


def _read_seal(path: Path) -> object:
    try:
        with open_regular(path / SEAL) as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


def _write_seal(path: Path, stats: fingerprint.Stats) -> None:
    # Torn by a kill, it is a seal that does not match.
    (path / SEAL).write_text(json.dumps(_seal_of(stats)) + "\n")


def discard(paths: Sequence[Path]) -> None:
    """Remove objects. Their names are free at once, and nothing half-removed is ever seen."""
    for path in paths:
        if not os.path.lexists(path):
            continue
        gone = path.parent / "drafts" / f"{path.name}-{secrets.token_hex(4)}"
        lock = gone.with_name(f"{gone.name}.lock")
        with scratch.lock(lock):
            path.rename(gone)
            remove_tree(gone)
            lock.unlink()
